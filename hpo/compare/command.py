"""``python -m hpo compare``: runs the studies that are missing, compares, reports, and remembers that it has looked."""

from __future__ import annotations

import hashlib
import json
import shlex
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
from rich.console import Console
from rich.markup import escape

import hpo
from hpo.compare import pages, studies, text
from hpo.compare.comparison import Comparison, Look, Settings
from hpo.compare.load import load
from hpo.compare.settings import ComparisonSpec, word
from hpo.compare.tasks import Task, Tasks, notes, ranks_table
from hpo.compare.tidy import write_tables
from hpo.errors import ConfigError, HpoError, redact
from hpo.tracking.comparisons import load_interim_analyses, log_comparison
from hpo.tracking.reader import StudyRecord, list_studies, load_text
from hpo.tracking.schema import Artifact, Tag, difference_metric, level_metric, study_tag
from hpo.tracking.store import STORE_ERRORS

RunStudy = Callable[[list[str]], int]
"""Runs the study of a command line; returns its exit code."""
MAX_FOLDER_NAME = 60


def run_missing(wanted: ComparisonSpec, finished: set[str], run: RunStudy, console: Console) -> None:
    """Run every study that has not finished, seed by seed, so that pairs are complete early.

    Raises:
        KeyboardInterrupt: when a study was interrupted.
    """
    todo = [(level, seed) for seed in wanted.seeds for level in wanted.levels]
    todo = [(level, seed) for level, seed in todo if wanted.study(level, seed) not in finished]
    n_done = len(wanted.seeds) * len(wanted.levels) - len(todo)
    if n_done:
        console.print(f"{n_done} studies of this comparison have finished before", highlight=False)
    for number, (level, seed) in enumerate(todo, 1):
        said = escape(f"study {number} of {len(todo)}: {wanted.by}={level}, seed {seed}")
        console.print(f"[dim]{said}[/]", highlight=False)
        try:
            code = run(wanted.command(level, seed))
        except HpoError as error:
            console.print(f"[red]it failed:[/] {escape(redact(str(error)))}", highlight=False)
            code = 1
        if code == 130:
            raise KeyboardInterrupt


def compare(
    wanted: ComparisonSpec,
    client: Any,
    experiment_id: str,
    output_path: Path,
    console: Console,
    is_logged: bool,
    arguments: Sequence[str] = (),
) -> Comparison:
    """Read the studies back, report, and log the comparison beside them.

    Args:
        is_logged: whether the store is ours to write to.
        arguments: the command line, for a reader of the report.

    Raises:
        ConfigError: saying what is missing.
    """
    records = list_studies(client, experiment_id)
    named = {wanted.study(level, seed) for level in wanted.levels for seed in wanted.seeds}
    chosen = [record for record in records if not named or record.name in named]
    if not chosen:
        expected = f"an experiment with studies; there are {len(records)} in all"
        raise ConfigError("compare", "no studies", expected, "python -m hpo compare 'strategies=[random,optuna]' …")
    with tempfile.TemporaryDirectory(prefix="hpo-") as cache:
        found, left_out = load(client, chosen, Path(cache))
        group = studies.group(found, wanted.by, left_out)
        key = comparison_key(group)
        title = wanted.title if wanted.levels else f"{wanted.by}-{key[:6]}"
        folder = output_path / "comparisons" / title / folder_name(group.studies)
        folder.mkdir(parents=True, exist_ok=True)
        looks = Looks(
            output_path / "comparisons" / "looks.json", key, load_interim_analyses(client, experiment_id, key)
        )
        missing = sorted(named - {study.name for study in found})
        comparison = Comparison(
            group,
            settings_of(wanted, looks.all, group),
            [look_of(each) for each in looks.all],
            dict(studies.each_test_split(records)),
            missing,
        )
        files = [*write_tables(comparison, folder)]
        report = folder / Artifact.REPORT
        report.write_text(f"{text.markdown(comparison)}\n{_made_by(arguments)}\n", encoding="utf-8")
        page = pages.write_page(comparison, folder / Artifact.REPORT_PAGE)
        look = {
            "seeds": group.seeds,
            "levels": sorted(group.studies),
            "spent": comparison.spent,
            "max_seeds": comparison.settings.max_seeds,
            "min_effect": comparison.min_effect,
            "alpha": comparison.settings.alpha,
        }
        if not missing:
            looks.remember(look)
        text.print_comparison(console, comparison, [str(page), str(report), f"{folder}/trials.parquet, folds, epochs"])
        for name in missing:
            console.print(f"[yellow]missing:[/] {escape(name)}; the same command runs it", highlight=False)
        if is_logged and not missing:
            try:
                _log(comparison, client, experiment_id, title, key, look, [page, report, *files])
            except STORE_ERRORS as error:
                said = f"MLflow did not take the comparison; the files are there: {redact(str(error))}"
                console.print(f"[bold yellow]warning:[/] {escape(said)}", highlight=False)
        return comparison


def compare_tasks(
    wanted: ComparisonSpec,
    comparisons: Sequence[Comparison],
    output_path: Path,
    console: Console,
    arguments: Sequence[str] = (),
) -> Tasks:
    """Rank the levels over the tasks that they were compared on, and report."""
    tasks = Tasks(wanted.over, [Task(*each) for each in zip(wanted.tasks, comparisons, strict=True)], wanted.alpha)
    folder = output_path / "comparisons" / f"{wanted.title}-over-{word(wanted.over)}" / folder_name(wanted.tasks)
    folder.mkdir(parents=True, exist_ok=True)
    page = pages.write_tasks_page(tasks, folder / Artifact.REPORT_PAGE)
    report = folder / Artifact.REPORT
    lines = [f"# {tasks.by} over {tasks.over}", "", f"**{tasks.verdict}**", ""]
    lines += [*text.markdown_table(*ranks_table(tasks)), "", *(f"- {note}" for note in notes(tasks)), ""]
    report.write_text("\n".join([*lines, _made_by(arguments), ""]), encoding="utf-8")
    console.rule(style="dim")
    text.print_table(console, f"{tasks.by} over {tasks.over}", *ranks_table(tasks))
    for note in notes(tasks):
        console.print(f"[dim]{escape(note)}[/]", highlight=False)
    console.print(f"\n[bold green]{escape(tasks.verdict)}[/]", highlight=False)
    for path in (page, report):
        console.print(f"  [cyan]{escape(str(path))}[/]", highlight=False, soft_wrap=True)
    return tasks


def _made_by(arguments: Sequence[str]) -> str:
    return f"By hpo {hpo.__version__}: `{redact(shlex.join(['python', '-m', 'hpo', 'compare', *arguments]))}`"


def folder_name(levels: Iterable[str]) -> str:
    """Where the report on these levels lies: beside that on others of the same studies."""
    name = "-".join(word(level) for level in sorted(levels))
    if len(name) <= MAX_FOLDER_NAME:
        return name
    return f"{name[:MAX_FOLDER_NAME]}-{hashlib.blake2b(name.encode(), digest_size=2).hexdigest()}"


def look_of(recorded: Mapping[str, Any]) -> Look:
    """A look as it was recorded."""
    return Look(tuple(recorded["seeds"]), tuple(recorded["levels"]), float(recorded["spent"]))


def settings_of(wanted: ComparisonSpec, looks: Sequence[Mapping[str, Any]], group: studies.Group) -> Settings:
    """What was decided at the first look at a pair of these levels on any of these seeds holds at every later one.

    Raises:
        ConfigError: when something else is asked for now.
    """
    shared = (each for each in looks if look_of(each).shares_pair(group.studies))
    first = next((each for each in shared if {*each["seeds"]} & {*group.seeds}), None)
    if first is None:
        return Settings(wanted.min_effect, wanted.max_seeds, wanted.alpha)
    for name in ("max_seeds", "min_effect", "alpha"):
        asked, was = getattr(wanted, name), first[name]
        is_late = name == "max_seeds" and was is None  # then nothing is left to spend, which the report says
        if asked is not None and asked != was and not is_late:
            expected = f"{was}, as it was at the first look: with the results in sight it is no longer free"
            raise ConfigError(name, asked, expected, f"{name}={was}, or other seeds")
    return Settings(first["min_effect"], first["max_seeds"] or wanted.max_seeds, first["alpha"])


def comparison_key(group: studies.Group) -> str:
    """The same for all looks at studies that share all but seed and level, so that leaving a level out hides none."""
    shared = sorted((k, str(v)) for k, v in studies.comparable(group.any, group.by).items())
    question = json.dumps([group.by, shared])
    return hashlib.blake2b(question.encode(), digest_size=16).hexdigest()


class Looks:
    """Every look at a question, the first one first: those of a file beside the studies, and those that MLflow has.

    Args:
        path: of the file, which holds the looks at all questions.
        key: of the question.
        logged: those that MLflow has.

    Raises:
        ConfigError: when the file cannot be read.
    """

    def __init__(self, path: Path, key: str, logged: Sequence[Mapping[str, Any]]) -> None:
        self._path, self._key = path, key
        own = self._read().get(key, [])
        known = [(look["seeds"], look["levels"]) for look in own]
        others = (look for look in logged if (look["seeds"], look["levels"]) not in known)
        self.all: list[Mapping[str, Any]] = [*others, *own]

    def _read(self) -> dict[str, list[dict[str, Any]]]:
        try:
            text = self._path.read_text(encoding="utf-8") if self._path.exists() else "{}"
            found: dict[str, list[dict[str, Any]]] = json.loads(text)
        except ValueError as error:
            expected = "a file that hpo has written: it holds which comparisons were looked at"
            raise ConfigError("looks", str(self._path), expected, "restore it, or move it away") from error
        return found

    def remember(self, look: Mapping[str, Any]) -> None:
        """Add a look, unless one at the same seeds and levels is there."""
        if any(known["seeds"] == look["seeds"] and known["levels"] == look["levels"] for known in self.all):
            return
        with filelock.FileLock(self._path.with_suffix(".lock")):
            everything = self._read()
            everything.setdefault(self._key, []).append(dict(look))
            partial = self._path.with_suffix(".partial")
            partial.write_text(json.dumps(everything, indent=2), encoding="utf-8")
            partial.replace(self._path)


def _log(
    comparison: Comparison,
    client: Any,
    experiment_id: str,
    name: str,
    key: str,
    look: Mapping[str, Any],
    files: Sequence[Path],
) -> None:
    tags = {
        Tag.COMPARISON_KEY: key,
        Tag.BY: comparison.by,
        Tag.LEVELS: json.dumps(list(comparison.group.studies)),
        Tag.INTERIM_ANALYSIS: json.dumps(look),
        Tag.VERDICT: comparison.verdict,
        Tag.NOTE: text.markdown(comparison),
        **{study_tag(study.name): study.record.run_id for study in comparison.group.all},
    }
    metrics = {level_metric(comparison.metric, word(level.name)): level.mean for level in comparison.levels}
    for difference in comparison.differences:
        metrics[difference_metric(word(difference.first), word(difference.second))] = difference.mean
    log_comparison(client, experiment_id, name, tags, metrics, files)


def finished(
    wanted: ComparisonSpec, client: Any, records: Sequence[StudyRecord], planned: Mapping[str, studies.Planned]
) -> set[str]:
    """Names of the studies that need not be run.

    Raises:
        ConfigError: when a study of such a name is another than the one that is asked for.
    """
    level_of = {wanted.study(level, seed): level for level in wanted.levels for seed in wanted.seeds}
    found: set[str] = set()
    for record in records:
        if record.name in level_of and record.name not in found and studies.unfinished(record) is None:
            identity = studies.flat(json.loads(load_text(client, record, Artifact.IDENTITY)))
            studies.check_finished(record, identity, planned[level_of[record.name]])
            found.add(record.name)
    return found
