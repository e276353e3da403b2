"""Ends a study after its search: records the results, then tests and logs the best model."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace

from hpo.core.states import State
from hpo.core.trial import Trial
from hpo.errors import StudyFailed, redact
from hpo.evaluation.tasks import TestPredictions, TestScore
from hpo.models.base import FittedModel
from hpo.run.best_model import load_best_model
from hpo.run.result import Result, StopCause
from hpo.run.result_record import record_best_trial, record_tables, record_test_score
from hpo.run.view import View
from hpo.tracking.outbox import STUDY, model_uri_of
from hpo.tracking.resume import RecordedStudy
from hpo.tracking.schema import Artifact, Metric, Tag, read_metrics_on_test
from hpo.tracking.writer import Tracker


class Finalizer:
    """Ends one study.

    Args:
        recorded: the record of a study that was resumed; None for a new one.
        spent: tags with the seconds and epochs that the study has spent.
    """

    def __init__(
        self,
        result: Result,
        tracker: Tracker,
        view: View,
        recorded: RecordedStudy | None,
        spent: Mapping[str, object],
    ) -> None:
        self._result, self._tracker, self._view = result, tracker, view
        self._recorded, self._spent = recorded, spent
        self._study = result.study

    def run(self) -> Result:
        """Record the results, test and log the best model, and close the study's run."""
        record_tables(self._result, self._tracker, is_resumed=self._recorded is not None)
        best = self._result.best
        if best is not None:
            # First, so that the result is in the record even if the rest fails.
            record_best_trial(self._result, self._tracker, best)
            # After an interrupt the user does not wait for a model, and may resume the study.
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
        known = self._recorded_test(best)
        if known is not None:
            self._result = replace(self._result, test=known, n_tests=self._n_tests)
            if self._recorded is not None and self._recorded.tags.get(Tag.BEST_MODEL_URI):
                return  # an earlier session has tested and logged this model
        loaded = load_best_model(self._study, best, self._tracker.folder, is_finished, self._view.search_ended)
        if loaded is None:
            return
        if loaded.problem:
            self._add_problem(loaded.problem)
        if loaded.metrics:
            self._tracker.log_metrics(STUDY, loaded.metrics, self._session)
        self._view.search_ended("testing and logging the best model" if is_finished else "logging the best model")
        if is_finished and known is None:  # only the winner of a finished study is tested
            score, predictions = self._study.evaluator.test(loaded.fitted)
            self._result = replace(self._result, test=score, n_tests=self._n_tests + 1)
            record_test_score(self._result, self._tracker, best)
            self._record_predictions(predictions)
        self._log_model(best, loaded.fitted)

    @property
    def _session(self) -> int:
        """Sessions before this one: the step of metrics that are recorded once a session."""
        return int(self._recorded.tags.get(Tag.N_RESUMED, 0)) + 1 if self._recorded else 0

    @property
    def _n_tests(self) -> int:
        """How often earlier sessions scored the test split."""
        return int(self._recorded.tags.get(Tag.N_TESTS, 0)) if self._recorded else 0

    def _recorded_test(self, best: Trial) -> TestScore | None:
        """The test score of the best trial if an earlier session tested it."""
        if self._recorded is None or self._recorded.tags.get(Tag.TESTED_TRIAL) != str(best.number):
            return None
        scores = read_metrics_on_test(self._recorded.metrics)
        return TestScore(scores, self._study.evaluator.n_samples["test"]) if scores else None

    def _log_model(self, best: Trial, fitted: FittedModel) -> None:
        # One folder for each winner: the model of an earlier one may not be delivered yet.
        example, path = self._study.evaluator.example(), self._tracker.folder / f"model-{best.number:04d}"
        shutil.rmtree(path, ignore_errors=True)  # of a session that ended while it saved
        fitted.save(path, example)
        self._tracker.log_model(best.number, path)
        self._tracker.set_tags(STUDY, {Tag.BEST_MODEL_URI: model_uri_of(self._tracker.key(best.number))})

    def _record_predictions(self, predictions: TestPredictions) -> None:
        from hpo.reporting import test_predictions  # matplotlib is slow to import

        try:
            for path in test_predictions.write(predictions, self._tracker.folder / Artifact.TEST):
                self._tracker.log_file(STUDY, path, Artifact.TEST)
        except StudyFailed:
            raise
        except Exception as error:  # a failed figure must not fail the study
            self._add_problem(f"the report on the test split failed: {type(error).__name__}: {error}")

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
        tags = {Tag.STATE: result.end.state, Tag.ENDED_BY: result.end.value, **self._spent}
        tracker.end_study(result.end.status, {**tags, Tag.PROBLEMS: "; ".join(self._result.problems)})

    def _draw_plots(self) -> None:
        from hpo.reporting import plots  # matplotlib and Optuna are slow to import

        try:
            for path in plots.draw(self._result.trials, self._study.definition, self._tracker.folder / Artifact.PLOTS):
                self._tracker.log_file(STUDY, path, Artifact.PLOTS)
        except StudyFailed:
            raise
        except Exception as error:  # a failed figure must not fail the study
            self._add_problem(f"the plots failed: {type(error).__name__}: {error}")
