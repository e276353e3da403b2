"""What follows a search: the winner is recorded, trained again where it has to be, tested once, and logged."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from hpo.core.params import canonical
from hpo.core.states import State, StopReason
from hpo.core.trial import FoldResult, Trial
from hpo.errors import StudyFailed, full_disk_ends_the_study, redact
from hpo.evaluation.tasks import FoldTask, RefitTask, Task, TestPredictions, TestScore
from hpo.models.base import FittedModel, WithoutStrategy
from hpo.reporting.generalization import fits_of
from hpo.reporting.tables import epoch_rows, fold_rows, trial_rows, trials_csv, write_table
from hpo.run.metadata import space_text
from hpo.run.result import Result, StopCause
from hpo.run.trials import MAX_LOST_NODES
from hpo.tracking.flavors import save_model
from hpo.tracking.outbox import STUDY, model_uri_of, run_id_of
from hpo.tracking.resume import RecordedStudy
from hpo.tracking.schema import TABLES, Artifact, Metric, Tag, metric_on_test, read_metrics_on_test, table_file
from hpo.tracking.writer import Tracker


class Watcher(Protocol):
    """Who is told what is being done."""

    def search_ended(self, doing: str) -> None: ...


class Finish:
    """Ends one study.

    Args:
        recorded: of a study that went on, what its record had.
        spent: tags of the study that say what it has spent.
    """

    def __init__(
        self,
        result: Result,
        tracker: Tracker,
        view: Watcher,
        recorded: RecordedStudy | None,
        spent: Mapping[str, object],
    ) -> None:
        self._spent = spent
        self._result, self._tracker, self._view, self._recorded = result, tracker, view, recorded
        self._study = result.study

    def run(self) -> Result:
        """Record everything, and wait until MLflow has it or does not answer."""
        self._record_tables()
        best = self._result.best
        if best is not None:
            # First of all, since what follows may fail; the search has not.
            self._record_winner(best)
            # Whoever interrupts does not want to wait, and may resume.
            if self._study.evaluator.has_model and self._result.end is not StopCause.INTERRUPTED:
                try:
                    self._test_and_log(best)
                except StudyFailed as error:
                    self._add_problem(f"the best model was not tested or not logged: {error}")
                except Exception as error:  # a user's model or its library may raise anything
                    self._add_problem(f"the best model was not tested or not logged: {type(error).__name__}: {error}")
        self._view.search_ended("recording the results")
        self._record_end()
        return self._result

    def _add_problem(self, text: str) -> None:
        self._result = replace(self._result, problems=(*self._result.problems, redact(text)))

    def _test_and_log(self, best: Trial) -> None:
        is_finished = self._result.end.status == "FINISHED"
        known = self._known_test(best)
        if known is not None:
            self._result = replace(self._result, test=known, n_tests=self._n_tests)
            if self._recorded is not None and self._recorded.tags.get(Tag.BEST_MODEL_URI):
                return  # nothing has changed since it was tested and logged
        fitted = self._winner(best, is_finished)
        if fitted is None:
            return
        self._view.search_ended("testing and logging the best model" if is_finished else "logging the best model")
        if is_finished and known is None:  # by the winner of a finished study: before that there is none
            score, said = self._study.evaluator.test(fitted)
            self._result = replace(self._result, test=score, n_tests=self._n_tests + 1)
            self._record_test(best)
            self._record_answers(said)
        self._log_model(best, fitted)

    @property
    def _session(self) -> int:
        """The step of what is said once a session."""
        return int(self._recorded.tags.get(Tag.N_RESUMED, 0)) + 1 if self._recorded else 0

    @property
    def _n_tests(self) -> int:
        return int(self._recorded.tags.get(Tag.N_TESTS, 0)) if self._recorded else 0

    def _known_test(self, best: Trial) -> TestScore | None:
        """The score of a winner that was tested before the study went on."""
        if self._recorded is None or self._recorded.tags.get(Tag.TESTED_TRIAL) != str(best.number):
            return None
        scores = read_metrics_on_test(self._recorded.metrics)
        return TestScore(scores, self._study.evaluator.n_samples["test"]) if scores else None

    def _winner(self, best: Trial, is_finished: bool) -> FittedModel | None:
        """The model of the best trial; with folds refitted on all training data, which waits for the study's end."""
        study = self._study
        if not study.evaluator.refits_winner:
            weights = best.folds[0].weights_path
            if weights is None:  # of a study that goes on without its files
                self._view.search_ended("training the best model again, since its weights are not here")
                budget = best.folds[0].budget or study.max_epochs
                path = self._tracker.folder / f"trial-{best.number:04d}"
                again = self._carry_out(FoldTask(best.params, 0, budget, path, share=budget / study.max_epochs))
                weights = again.weights_path
                if again.score != best.value:
                    said = (
                        f"the best model's weights were lost; trained again it scored {again.score}, not {best.value}"
                    )
                    self._add_problem(said)
            if weights is None:
                raise StudyFailed("the weights of the best model are lost, and training it again gave none")
            return study.evaluator.restore(best.params, Path(weights))
        if not is_finished:
            return None
        has_epochs, n_epochs = study.model.has_epochs, study.max_epochs
        if has_epochs:
            trained = [fold.outcome.epochs_run for fold in best.folds]
            is_best = study.definition.objective.epoch == "best" and best.best_epochs
            n_epochs = round(statistics.median([e + 1 for e in best.best_epochs] if is_best else trained))
        unit = study.model.describe_budget(n_epochs, 1.0) if has_epochs else "once"
        self._view.search_ended(f"training the best model again, on all training data, {unit}")
        started = time.monotonic()
        refitted = self._carry_out(
            RefitTask(best.params, n_epochs, self._tracker.folder / "winner", n_epochs / study.max_epochs)
        )
        if refitted.weights_path is None:
            raise StudyFailed(f"the winner could not be refitted: {refitted.error or refitted.outcome.stop_reason}")
        took = {Metric.REFIT_SECONDS: time.monotonic() - started}
        self._tracker.log_metrics(STUDY, took | ({Metric.REFIT_EPOCHS: n_epochs} if has_epochs else {}), self._session)
        return study.evaluator.restore(best.params, Path(refitted.weights_path))

    def _carry_out(self, task: Task) -> FoldResult:
        """Train as a trial does, and again if the worker is lost."""
        n_left = {StopReason.CRASHED: self._study.executor.retries, StopReason.NODE_LOST: MAX_LOST_NODES}
        while True:
            result = self._study.executor.run(task, WithoutStrategy())
            reason = result.outcome.stop_reason
            if not n_left.get(reason):
                return result
            n_left[reason] -= 1

    def _log_model(self, best: Trial, fitted: FittedModel) -> None:
        # A folder a winner: an earlier one may not be delivered yet.
        example, path = self._study.evaluator.example(), self._tracker.folder / f"model-{best.number:04d}"
        save_model(self._study.evaluator.model.flavor, fitted.native, example, fitted.predict(example), path)
        self._tracker.log_model(best.number, path)
        self._tracker.set_tags(STUDY, {Tag.BEST_MODEL_URI: model_uri_of(self._tracker.key(best.number))})

    def _record_tables(self) -> None:
        tracker, result = self._tracker, self._result
        objective, n_samples = self._study.definition.objective, self._study.evaluator.n_samples
        fits = fits_of(result.trials, objective, n_samples.get("validation", 0))
        for number, fit in fits.items():
            tracker.set_tags(number, {Tag.FIT: fit.value})
        tables = (trial_rows(result.trials, objective, fits), fold_rows(result.trials), epoch_rows(result.trials))
        for name, rows in zip(TABLES, tables, strict=True):
            with full_disk_ends_the_study():
                path = write_table(rows, tracker.folder / Artifact.TABLES / table_file(name))
            tracker.log_file(STUDY, path, Artifact.TABLES)
        tracker.log_text(STUDY, trials_csv(result.trials), Artifact.TRIALS_CSV)
        if self._study.is_defined_by_run:  # only now known
            tracker.log_text(STUDY, space_text(self._study.definition.space), Artifact.SEARCH_SPACE)
        for name, text in self._study.strategy.tables().items():
            tracker.log_text(STUDY, text, name)
        if self._study.definition.objective.others:
            tracker.log_text(STUDY, trials_csv(tuple(result.front)), Artifact.PARETO_FRONT)
            front = {trial.number for trial in result.front}
            for trial in result.trials:
                if trial.number in front or self._recorded is not None:  # which may have said otherwise
                    tracker.set_tags(trial.number, {Tag.PARETO: str(trial.number in front).lower()})

    def _record_test(self, best: Trial) -> None:
        test = self._result.test
        assert test is not None
        tags = {Tag.TESTED_TRIAL: best.number, Tag.N_TESTS: self._result.n_tests}
        scores = {metric_on_test(name): value for name, value in test.metrics.items()}
        self._tracker.set_tags(STUDY, {**tags, Tag.NOTE: description(self._result, best)}, scores)

    def _record_answers(self, said: TestPredictions) -> None:
        from hpo.reporting import test_predictions  # matplotlib: slow to import, and only needed here

        try:
            for path in test_predictions.write(said, self._tracker.folder / Artifact.TEST):
                self._tracker.log_file(STUDY, path, Artifact.TEST)
        except StudyFailed:
            raise
        except Exception as error:  # a picture is not worth a study
            self._add_problem(f"what the best model answers: {type(error).__name__}: {error}")

    def _record_winner(self, best: Trial) -> None:
        tags = {
            Tag.BEST_TRIAL: best.number,
            Tag.BEST_PARAMS: canonical(best.params),
            Tag.BEST_TRIAL_RUN_ID: run_id_of(self._tracker.key(best.number)),
            Tag.NOTE: description(self._result, best),
        }
        self._tracker.set_tags(STUDY, tags)
        found = {"trial": best.number, "value": best.value, "params": dict(best.params)}
        self._tracker.log_text(STUDY, json.dumps(found, indent=2), Artifact.BEST)

    def _record_end(self) -> None:
        tracker, result = self._tracker, self._result
        totals: dict[str, float] = {
            Metric.N_TRIALS: sum(t.state.is_finished for t in result.trials),
            Metric.N_INTERRUPTED: sum(t.state is State.WAITING for t in result.trials),
            Metric.EPOCHS_SAVED_TOTAL: sum(t.epochs_saved for t in result.trials),
            Metric.EPOCHS_INTERRUPTED: sum(t.epochs_run for t in result.trials if t.state is State.WAITING),
        }
        tracker.log_metrics(STUDY, totals, self._session)
        if result.end is not StopCause.INTERRUPTED:
            self._draw_plots()
        tags = {Tag.STATE: state_of(result.end), Tag.ENDED_BY: result.end.value, **self._spent}
        tracker.end_study(result.end.status, {**tags, Tag.PROBLEMS: "; ".join(self._result.problems)})

    def _draw_plots(self) -> None:
        from hpo.reporting import plots  # matplotlib and Optuna: slow to import, and only needed here

        try:
            for path in plots.draw(self._result.trials, self._study.definition, self._tracker.folder / Artifact.PLOTS):
                self._tracker.log_file(STUDY, path, Artifact.PLOTS)
        except StudyFailed:
            raise
        except Exception as error:  # a picture is not worth a study
            self._add_problem(f"plots: {type(error).__name__}: {error}")


def state_of(end: StopCause) -> str:
    """The word for it in the tag ``hpo.state``."""
    return {"FINISHED": "finished", "FAILED": "failed", "KILLED": "interrupted"}[end.status]


def description(result: Result, best: Trial) -> str:
    """What the MLflow UI shows at the top of the study's run, in Markdown."""
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
