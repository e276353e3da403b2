"""Records the results of a study: tables of its trials, its best trial and a description for the MLflow UI."""

from __future__ import annotations

import json

from hpo.core.params import canonical
from hpo.core.trial import Trial
from hpo.errors import full_disk_ends_the_study
from hpo.reporting.generalization import fits_of
from hpo.reporting.tables import epoch_rows, fold_rows, trial_rows, trials_csv, write_table
from hpo.run.metadata import space_text
from hpo.run.result import Result
from hpo.tracking.outbox import STUDY, run_id_of
from hpo.tracking.schema import TABLES, Artifact, Tag, metric_on_test, table_file
from hpo.tracking.writer import Tracker


def record_tables(result: Result, tracker: Tracker, is_resumed: bool) -> None:
    """Record tables of all trials, folds and epochs, and how well each trial generalises.

    Args:
        is_resumed: whether an earlier session may have recorded another Pareto front.
    """
    study = result.study
    objective, n_samples = study.definition.objective, study.evaluator.n_samples
    fits = fits_of(result.trials, objective, n_samples.get("validation", 0))
    for number, fit in fits.items():
        tracker.set_tags(number, {Tag.FIT: fit.value})
    tables = (trial_rows(result.trials, objective, fits), fold_rows(result.trials), epoch_rows(result.trials))
    for name, rows in zip(TABLES, tables, strict=True):
        with full_disk_ends_the_study():
            path = write_table(rows, tracker.folder / Artifact.TABLES / table_file(name))
        tracker.log_file(STUDY, path, Artifact.TABLES)
    tracker.log_text(STUDY, trials_csv(result.trials), Artifact.TRIALS_CSV)
    if study.is_defined_by_run:  # its space is complete only now
        tracker.log_text(STUDY, space_text(study.definition.space), Artifact.SEARCH_SPACE)
    for name, text in study.strategy.tables().items():
        tracker.log_text(STUDY, text, name)
    if objective.others:
        _record_front(result, tracker, is_resumed)


def _record_front(result: Result, tracker: Tracker, is_resumed: bool) -> None:
    tracker.log_text(STUDY, trials_csv(tuple(result.front)), Artifact.PARETO_FRONT)
    front = {trial.number for trial in result.front}
    for trial in result.trials:
        if trial.number in front or is_resumed:
            tracker.set_tags(trial.number, {Tag.PARETO: str(trial.number in front).lower()})


def record_best_trial(result: Result, tracker: Tracker, best: Trial) -> None:
    """Record which trial is the best."""
    tags = {
        Tag.BEST_TRIAL: best.number,
        Tag.BEST_PARAMS: canonical(best.params),
        Tag.BEST_TRIAL_RUN_ID: run_id_of(tracker.key(best.number)),
        Tag.NOTE: description(result, best),
    }
    tracker.set_tags(STUDY, tags)
    found = {"trial": best.number, "value": best.value, "params": dict(best.params)}
    tracker.log_text(STUDY, json.dumps(found, indent=2), Artifact.BEST)


def record_test_score(result: Result, tracker: Tracker, best: Trial) -> None:
    """Record the scores of the best model on the test split."""
    assert result.test is not None
    tags = {Tag.TESTED_TRIAL: best.number, Tag.N_TESTS: result.n_tests}
    scores = {metric_on_test(name): value for name, value in result.test.metrics.items()}
    tracker.set_tags(STUDY, {**tags, Tag.NOTE: description(result, best)}, scores)


def description(result: Result, best: Trial) -> str:
    """The Markdown text at the top of the study's run in the MLflow UI."""
    metric = result.study.definition.objective.metric
    lines = [f"**Best: trial {best.number}**, {metric} {best.value:.5f}"]
    if best.standard_error is not None:
        lines[0] += f" ± {best.standard_error:.5f} (standard error over {len(best.folds)} folds, naive)"
    if result.test:
        scores = ", ".join(f"{name} {value:.5f}" for name, value in result.test.metrics.items())
        times = "once" if result.n_tests == 1 else f"{result.n_tests} times by this study"
        lines[0] += f"; on the test split, scored {times}: {scores}"
    lines += ["", "| parameter | value |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in best.params.items()]
    lines += ["", f"`python -m hpo best {result.study.name}` prints the command that trains it again."]
    return "\n".join(lines)
