"""``python -m hpo compare``: runs the studies that are missing, compares, reports, and remembers that it has looked."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from hpo import tracking
from hpo.compare import pages, studies, text
from hpo.compare.comparison import Comparison, Look, Settings
from hpo.compare.load import load
from hpo.compare.settings import Wanted
from hpo.compare.tidy import write_tables
from hpo.errors import ConfigError, HpoError
from hpo.tracking import StudyRecord

RunStudy = Callable[[list[str]], int]
"""Runs the study of a command line; returns its exit code."""


def run_missing(wanted: Wanted, finished: set[str], run: RunStudy, console: Console) -> None:
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
        console.print(f"[dim]study {number} of {len(todo)}: {wanted.by}={level}, seed {seed}[/]", highlight=False)
        try:
            code = run(wanted.command(level, seed))
        except HpoError as error:
            console.print(f"[red]it failed:[/] {error}", highlight=False, markup=True)
            code = 1
        if code == 130:
            raise KeyboardInterrupt


def compare(
    wanted: Wanted, client: Any, experiment_id: str, output_path: Path, console: Console, is_logged: bool
) -> Comparison:
    """Read the studies back, report, and log the comparison beside them.

    Args:
        is_logged: whether the store is ours to write to.

    Raises:
        ConfigError: saying what is missing.
    """
    records = tracking.list_studies(client, experiment_id)
    named = {wanted.study(level, seed) for level in wanted.levels for seed in wanted.seeds}
    chosen = [record for record in records if not named or record.name in named]
    if not chosen:
        expected = f"an experiment with studies; there are {len(records)} in all"
        raise ConfigError("compare", "no studies", expected, "python -m hpo compare 'strategies=[random,optuna]' …")
    with tempfile.TemporaryDirectory(prefix="hpo-") as cache:
        found, left_out = load(client, chosen, Path(cache))
        group = studies.group(found, wanted.by, left_out)
        key = comparison_key(group)
        folder = output_path / "comparisons" / (wanted.title if wanted.levels else f"{wanted.by}-{key[:6]}")
        folder.mkdir(parents=True, exist_ok=True)
        looks = {**tracking.looks_at(client, experiment_id, key), **_own_looks(folder, key)}
        settings = Settings(wanted.min_effect, wanted.max_seeds, wanted.alpha)
        scorings = dict(studies.each_test_split(records))
        comparison = Comparison(group, settings, looks, scorings)
        files = [*write_tables(comparison, folder)]
        report = folder / "report.md"
        report.write_text(text.markdown(comparison), encoding="utf-8")
        page = pages.write_page(comparison, folder / "report.html")
        _remember_look(folder, key, comparison.seeds, comparison.spent)
        if is_logged:
            _log(comparison, client, experiment_id, folder.name, key, [page, report, *files])
        text.print_comparison(console, comparison, [str(page), str(report), f"{folder}/trials.parquet, folds, epochs"])
        return comparison


def comparison_key(group: studies.Group) -> str:
    """The same for all looks at the same question: factor, levels, and what the studies share."""
    shared = sorted((k, str(v)) for k, v in studies.comparable(group.any, group.by).items())
    question = json.dumps([group.by, sorted(group.studies), shared])
    return hashlib.blake2b(question.encode(), digest_size=16).hexdigest()


def _own_looks(folder: Path, key: str) -> dict[Look, float]:
    path = folder / "looks.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {tuple(look["seeds"]): float(look["spent"]) for look in known.get(key, [])}


def _remember_look(folder: Path, key: str, seeds: Sequence[int], spent: float) -> None:
    path = folder / "looks.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    others = [look for look in known.get(key, []) if look["seeds"] != list(seeds)]
    known[key] = [*others, {"seeds": list(seeds), "spent": spent}]
    path.write_text(json.dumps(known, indent=2), encoding="utf-8")


def _log(comparison: Comparison, client: Any, experiment_id: str, name: str, key: str, files: Sequence[Path]) -> None:
    tags = {
        tracking.KEY: key,
        "hpo.by": comparison.by,
        "hpo.levels": json.dumps(list(comparison.group.studies)),
        tracking.SEEDS: json.dumps(comparison.seeds),
        tracking.SPENT: repr(comparison.spent),
        "hpo.verdict": comparison.verdict,
        "mlflow.note.content": text.markdown(comparison),
        **{f"hpo.study.{study.name}": study.record.run_id for study in comparison.group.all},
    }
    metrics = {f"test_{comparison.metric}_{_word(level.name)}": level.mean for level in comparison.levels}
    for difference in comparison.differences:
        metrics[f"difference_{_word(difference.first)}_{_word(difference.second)}"] = difference.mean
    tracking.log_comparison(client, experiment_id, name, tags, metrics, files)


def _word(name: str) -> str:
    return "".join(c if c.isalnum() or c in "_.-" else "_" for c in name)


def finished_names(records: Sequence[StudyRecord]) -> set[str]:
    """Names of the studies that need not be run."""
    return {record.name for record in records if studies.unfinished(record) is None}
