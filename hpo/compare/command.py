"""``python -m hpo compare``: runs the missing studies, compares, reports, and records the interim analysis."""

from __future__ import annotations

import hashlib
import json
import shlex
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from hpo.compare import pages, screen
from hpo.compare.comparison import Comparison
from hpo.compare.conclusion import conclude
from hpo.compare.eligibility import PlannedStudy, check_finished, reason_unfinished
from hpo.compare.export import write_tables
from hpo.compare.groups import group_studies
from hpo.compare.ledger import AnalysisLedger, overlapping, question_keys
from hpo.compare.load import count_test_scorings, load
from hpo.compare.spec import ComparisonSpec, to_name
from hpo.compare.spending import AnalysisPlan, plan_analysis
from hpo.compare.tasks import Task, TaskRanking
from hpo.errors import ConfigError, HpoError, redact
from hpo.tracking.comparisons import load_interim_analyses, log_comparison
from hpo.tracking.reader import StudyRecord, list_studies, load_text
from hpo.tracking.schema import Artifact, Tag, difference_metric, level_metric, study_tag
from hpo.tracking.store import STORE_ERRORS

RunStudy = Callable[[list[str]], int]
"""Runs the study of a command line; returns its exit code."""
INTERRUPTED = 130
MAX_FOLDER_NAME = 60


def find_finished(
    spec: ComparisonSpec, client: Any, records: Sequence[StudyRecord], planned: Mapping[str, PlannedStudy]
) -> set[str]:
    """Find the studies of a comparison that have finished.

    Args:
        records: every study of the experiment, newest first.
        planned: level → a study of that level.

    Raises:
        ConfigError: if a finished study has the name of a planned one but other settings.
    """
    level_of = {spec.study(level, seed): level for level in spec.levels for seed in spec.seeds}
    found: set[str] = set()
    for record in records:
        if record.name in level_of and record.name not in found and reason_unfinished(record) is None:
            identity = json.loads(load_text(client, record, Artifact.IDENTITY))
            check_finished(record, identity, planned[level_of[record.name]])
            found.add(record.name)
    return found


def run_missing(spec: ComparisonSpec, finished: set[str], run: RunStudy, console: Console) -> None:
    """Run every study that has not finished, seed by seed, so that pairs are complete early.

    Raises:
        KeyboardInterrupt: if a study was interrupted.
    """
    every = [(level, seed) for seed in spec.seeds for level in spec.levels]
    missing = [(level, seed) for level, seed in every if spec.study(level, seed) not in finished]
    if n_finished := len(every) - len(missing):
        console.print(f"{n_finished} of {len(every)} studies have already finished", highlight=False)
    for number, (level, seed) in enumerate(missing, 1):
        heading = escape(f"study {number} of {len(missing)}: {spec.by}={level}, seed {seed}")
        console.print(f"[dim]{heading}[/]", highlight=False)
        try:
            code = run(spec.command(level, seed))
        except HpoError as error:
            console.print(f"[red]failed:[/] {escape(redact(str(error)))}", highlight=False)
            code = 1
        if code == INTERRUPTED:
            raise KeyboardInterrupt


def compare_studies(
    spec: ComparisonSpec,
    client: Any,
    experiment_id: str,
    output_path: Path,
    console: Console,
    is_logged: bool,
    arguments: Sequence[str] = (),
) -> Comparison:
    """Compare the finished studies of a comparison, write and print the report, and record the interim analysis.

    Args:
        is_logged: whether to log the comparison to MLflow.
        arguments: the command line, which the report shows.

    Raises:
        ConfigError: if the studies cannot be compared; it names what is missing.
    """
    records = list_studies(client, experiment_id)
    named = {spec.study(level, seed) for level in spec.levels for seed in spec.seeds}
    chosen = [record for record in records if not named or record.name in named]
    if not chosen:
        expected = f"an experiment with studies of this comparison; it has {len(records)} studies in all"
        raise ConfigError("compare", "no studies", expected, "python -m hpo compare 'strategies=[random,optuna]' …")
    with tempfile.TemporaryDirectory(prefix="hpo-") as cache:
        studies, left_out = load(client, chosen, Path(cache))
        group = group_studies(studies, spec.by, left_out)
        keys = question_keys(group)
        title = spec.title if spec.levels else f"{spec.by}-{keys[0][:6]}"
        comparisons = output_path / "comparisons"
        folder = comparisons / title / folder_name(group.studies)
        folder.mkdir(parents=True, exist_ok=True)
        logged = [each for key in keys for each in load_interim_analyses(client, experiment_id, key)]
        ledger = AnalysisLedger(comparisons, keys, logged)
        asked = AnalysisPlan(spec.min_effect, spec.max_seeds, spec.alpha)
        plan = plan_analysis(asked, overlapping(ledger.analyses, group.seeds, group.studies))
        missing = sorted(named - {study.name for study in studies})
        comparison = Comparison(group, plan, ledger.analyses, count_test_scorings(records), missing)
        tables = write_tables(comparison, folder)
        page, report = pages.write_report(comparison, folder, _command(arguments))
        if not missing:
            ledger.add(comparison.analysis())
        screen.print_comparison(
            console, comparison, [str(page), str(report), f"{folder}/trials.parquet, folds, epochs"]
        )
        for name in missing:
            console.print(f"[yellow]missing:[/] {escape(name)}; run the same command again", highlight=False)
        if is_logged and not missing:
            _log(comparison, client, experiment_id, title, keys[0], [page, report, *tables], console)
        return comparison


def rank_over_tasks(
    spec: ComparisonSpec,
    comparisons: Sequence[Comparison],
    output_path: Path,
    console: Console,
    arguments: Sequence[str] = (),
) -> TaskRanking:
    """Rank the levels over the tasks of a comparison, and write and print the report.

    Args:
        comparisons: one for each task.
        arguments: the command line, which the report shows.
    """
    tasks = [Task(*each) for each in zip(spec.tasks, comparisons, strict=True)]
    ranking = TaskRanking(spec.over, tasks, spec.alpha)
    folder = output_path / "comparisons" / f"{spec.title}-over-{to_name(spec.over)}" / folder_name(spec.tasks)
    folder.mkdir(parents=True, exist_ok=True)
    paths = pages.write_ranking_report(ranking, folder, _command(arguments))
    screen.print_ranking(console, ranking, [str(path) for path in paths])
    return ranking


def _command(arguments: Sequence[str]) -> str:
    return redact(shlex.join(["python", "-m", "hpo", "compare", *arguments]))


def folder_name(levels: Iterable[str]) -> str:
    """Name of the folder of a report: one for each set of levels."""
    name = "-".join(to_name(level) for level in sorted(levels))
    if len(name) <= MAX_FOLDER_NAME:
        return name
    return f"{name[:MAX_FOLDER_NAME]}-{hashlib.blake2b(name.encode(), digest_size=2).hexdigest()}"


def _log(
    comparison: Comparison,
    client: Any,
    experiment_id: str,
    name: str,
    key: str,
    files: Sequence[Path],
    console: Console,
) -> None:
    """Log a comparison as an MLflow run beside its studies; a store that is down is a warning."""
    tags = {
        Tag.COMPARISON_KEY: key,
        Tag.BY: comparison.by,
        Tag.LEVELS: json.dumps(list(comparison.group.studies)),
        Tag.INTERIM_ANALYSIS: json.dumps(comparison.analysis().to_record()),
        Tag.VERDICT: conclude(comparison),
        Tag.NOTE: pages.markdown(comparison),
        **{study_tag(study.name): study.record.run_id for study in comparison.group.members},
    }
    metrics = {level_metric(comparison.metric, to_name(level.name)): level.mean for level in comparison.levels}
    for difference in comparison.differences:
        metrics[difference_metric(to_name(difference.first), to_name(difference.second))] = difference.mean
    try:
        log_comparison(client, experiment_id, name, tags, metrics, files)
    except STORE_ERRORS as error:
        text = f"the comparison was not logged to MLflow; its files are written: {redact(str(error))}"
        console.print(f"[bold yellow]warning:[/] {escape(text)}", highlight=False)
