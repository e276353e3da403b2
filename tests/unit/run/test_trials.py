"""One trial: its folds, budgets, retries and end, and what it passes on from any thread."""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toy
from toy_study import Listed, study

from hpo.core.limits import Limits
from hpo.core.measurement import Measurement
from hpo.core.params import Params
from hpo.core.space import Float, Parameter, SearchSpace
from hpo.core.states import Decision, State, StopReason
from hpo.core.trial import FoldResult, RecordedTrial, Trial
from hpo.errors import SearchStopped, StudyFailed
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.resampling import Holdout, StratifiedKFoldResampling
from hpo.evaluation.tasks import FoldTask
from hpo.executors.inline import InlineExecutor
from hpo.models.base import Control, Fit, FittedModel
from hpo.run.trial_record import TrialRecorder
from hpo.run.trials import MAX_LOST_NODES, RunningTrial, TrialControl
from hpo.study.study import Study
from hpo.tracking.writer import Tracker

from .conftest import points, records, tags
from .trials import fold

Train = Callable[[FoldTask, TrialControl], FoldResult]


class Host:
    """A runner whose training is a function; it records for real."""

    def __init__(self, built: Study, tracker: Tracker, train: Train) -> None:
        self.study, self.recorder, self.train = built, TrialRecorder(built, tracker), train
        self.tasks: list[FoldTask] = []
        self.controls: list[TrialControl] = []
        self.declared: list[Parameter] = []
        self.closed: list[Trial] = []
        self.n_failures = 0

    def declare(self, parameter: Parameter) -> None:
        self.declared.append(parameter)

    def train_fold(self, task: FoldTask, control: TrialControl) -> FoldResult:
        self.tasks.append(task)
        self.controls.append(control)
        return self.train(task, control)

    def on_epoch(self, epoch: int, logs: Mapping[str, float], control: TrialControl) -> Decision:
        self.recorder.epoch(control.number, control.fold, epoch, logs, control.max_epochs)
        return Decision.PRUNE

    def poll(self) -> Decision:
        return Decision.INTERRUPT

    def close(self, trial: Trial) -> None:
        self.closed.append(trial)

    def fail(self) -> None:
        self.n_failures += 1


class Retrying(InlineExecutor):
    retries = 1


def host(tracker: Tracker, train: Train, n_folds: int = 2) -> Host:
    resampling = StratifiedKFoldResampling(n_folds) if n_folds > 1 else None
    return Host(study(Listed([]), Limits(9), resampling=resampling, executor=Retrying(1)), tracker, train)


def ends(*reasons: StopReason) -> Train:
    """Return training that ends for each of the reasons in turn, and then completes."""
    left = list(reasons)

    def train(task: FoldTask, control: TrialControl) -> FoldResult:
        reason = left.pop(0) if left else StopReason.MAX_EPOCHS
        score = 0.5 if reason.state is State.COMPLETE else None
        return fold(score, reason, task.fold, (0.5,) * task.max_epochs, task.max_epochs)

    return train


def started(host: Host, params: Params | None = None, **options: Any) -> RunningTrial:
    running = RunningTrial(host, 7, params or {"x": 0.5}, **options)
    host.recorder.start(7, running.params, running.attempt)
    return running


def test_all_folds_are_trained_with_the_full_budget(tracker: Tracker) -> None:
    runner = host(tracker, ends())
    running = started(runner)
    assert running.train().state is State.COMPLETE
    assert runner.tasks == [
        FoldTask({"x": 0.5}, 0, 3, number=7),
        FoldTask({"x": 0.5}, 1, 3, spent_seconds=1.0, number=7),
    ]
    assert running.close().seconds == 2.0
    assert [(each.number, each.state, len(each.folds)) for each in runner.closed] == [(7, State.COMPLETE, 2)]
    running.close()
    assert len(runner.closed) == 1


@pytest.mark.parametrize("reason", [StopReason.ERROR, StopReason.PRUNED, StopReason.DIVERGED])
def test_no_fold_is_trained_after_one_that_failed(reason: StopReason, tracker: Tracker) -> None:
    runner = host(tracker, ends(reason))
    running = started(runner)
    assert running.train().state is reason.state
    assert running.train_fold(1) is None
    assert len(runner.tasks) == 1


def test_task_budget_is_capped_at_max_epochs(tracker: Tracker) -> None:
    runner = host(tracker, ends())
    running = started(runner)
    running.train_fold(0, 1)
    running.train_fold(0, 30)
    assert [(task.max_epochs, task.budget_fraction) for task in runner.tasks] == [(1, 1 / 3), (3, 1.0)]
    assert [control.n_recorded for control in runner.controls] == [0, 1]
    assert [control.max_epochs for control in runner.controls] == [1, 3]


def test_larger_budget_does_not_train_a_fold_that_stopped_early(tracker: Tracker) -> None:
    runner = host(tracker, ends(StopReason.EARLY_STOPPED))
    running = started(runner)
    first = running.train_fold(0, 2)
    assert running.train_fold(0, 3) is first
    assert len(runner.tasks) == 1


def test_weights_of_a_smaller_budget_are_deleted_before_the_next(tracker: Tracker, tmp_path: Path) -> None:
    weights = tmp_path / "weights.npz"
    weights.touch()
    exists = []

    def train(task: FoldTask, control: TrialControl) -> FoldResult:
        exists.append(weights.exists())
        return fold(losses=(0.5,), budget=task.max_epochs, weights_path=str(weights))

    running = started(host(tracker, train, 1))
    running.train(1)
    running.train(3)
    assert exists == [True, False]


@pytest.mark.parametrize(
    ("lost", "state", "attempt"),
    [
        ([StopReason.CRASHED], State.COMPLETE, 1),
        ([StopReason.CRASHED] * 2, State.FAIL, 1),
        ([StopReason.NODE_LOST] * MAX_LOST_NODES, State.COMPLETE, MAX_LOST_NODES),
        ([StopReason.NODE_LOST] * (MAX_LOST_NODES + 1), State.FAIL, MAX_LOST_NODES),
        ([StopReason.CRASHED, StopReason.NODE_LOST], State.COMPLETE, 2),
    ],
)
def test_retries_after_lost_workers_are_bounded(
    lost: list[StopReason], state: State, attempt: int, tracker: Tracker
) -> None:
    runner = host(tracker, ends(*lost), 1)
    running = started(runner)
    assert running.train().state is state
    assert running.attempt == attempt
    assert tags(tracker, f"trial-0007.{attempt}")["hpo.attempt"] == str(attempt)
    assert len(runner.tasks) == len(lost) + (state is State.COMPLETE)


def test_retry_records_the_lost_fold_again_from_its_first_epoch(tracker: Tracker) -> None:
    runner = host(tracker, ends(StopReason.MAX_EPOCHS, StopReason.CRASHED, StopReason.MAX_EPOCHS))
    running = started(runner)
    running.train_fold(0, 1)
    running.train_fold(0, 3)
    assert [control.n_recorded for control in runner.controls] == [0, 1, 0]
    assert points(tracker, "trial-0007.1", "fold_0/score") == [(1, 0.5), (3, 0.5)]


def test_interrupted_fold_ends_the_trial_and_the_search(tracker: Tracker) -> None:
    runner = host(tracker, ends(StopReason.MAX_EPOCHS, StopReason.INTERRUPTED))
    running = started(runner)
    with pytest.raises(SearchStopped):
        running.train()
    assert [each.state for each in runner.closed] == [State.WAITING]
    assert running.train_fold(1) is None


def test_interrupted_larger_budget_keeps_the_result_of_the_smaller(tracker: Tracker) -> None:
    runner = host(tracker, ends(StopReason.MAX_EPOCHS, StopReason.INTERRUPTED), 1)
    running = started(runner)
    running.train(1)
    with pytest.raises(SearchStopped):
        running.train(3)
    assert [each.folds[0].score for each in runner.closed] == [0.5]
    assert runner.closed[0].state is State.WAITING


def test_error_of_the_study_ends_it_and_passes_through_a_trial(tracker: Tracker) -> None:
    def full(task: FoldTask, control: TrialControl) -> FoldResult:
        raise StudyFailed("the disk is full")

    runner = host(tracker, full)
    with pytest.raises(StudyFailed, match="the disk is full"):
        started(runner).train()
    assert runner.n_failures == 1


class Deaf:
    """User code around a control that ignores what the driver raises."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        with suppress(Exception):
            return self._control.on_epoch(epoch, logs)
        return Decision.CONTINUE

    def poll(self) -> Decision:
        return Decision.CONTINUE


class DeafModel(toy.CurveModel):
    def fit(self, fit: Fit) -> FittedModel:
        return super().fit(replace(fit, control=Deaf(fit.control)))


def test_driver_error_is_not_swallowed_by_user_code(tracker: Tracker) -> None:
    built = study(Listed([]), Limits(9))
    objective, stopping = built.definition.objective, built.definition.early_stopping
    evaluator = Evaluator(DeafModel(), toy.dataset(), Holdout(0.2), objective, stopping, 0)

    class FullDisk(Host):
        def on_epoch(self, epoch: int, logs: Mapping[str, float], control: TrialControl) -> Decision:
            raise StudyFailed("the disk is full")

    runner = FullDisk(replace(built, evaluator=evaluator), tracker, built.executor.run)
    built.executor.start(evaluator, tracker.folder)
    with pytest.raises(StudyFailed, match="the disk is full"):
        started(runner).train()
    assert (runner.n_failures, runner.closed) == (1, [])


def test_other_executor_errors_do_not_end_the_study(tracker: Tracker) -> None:
    def broken(task: FoldTask, control: TrialControl) -> FoldResult:
        raise LookupError("a bug")

    runner = host(tracker, broken)
    running = started(runner)
    with pytest.raises(LookupError):
        running.train()
    assert runner.n_failures == 0
    running.wait()  # no thread counts as training any more


def test_dropped_trial_is_pruned(tracker: Tracker) -> None:
    runner = host(tracker, ends())
    running = started(runner)
    running.train(1)
    running.close(dropped=True)
    (closed,) = runner.closed
    assert closed.state is State.PRUNED
    assert [each.outcome.max_epochs for each in closed.folds] == [3, 3]
    assert closed.epochs_saved == 4


def test_dropped_trial_of_a_model_without_epochs_saves_no_epochs(tracker: Tracker) -> None:
    class WholeModel(toy.CurveModel):
        has_epochs = False

    built = replace(study(Listed([]), Limits(9)), model=WholeModel())
    runner = Host(built, tracker, ends())
    running = started(runner)
    running.train(1)
    running.close(dropped=True)
    (closed,) = runner.closed
    assert (closed.state, closed.epochs_saved) == (State.PRUNED, 0)
    assert [each.outcome.max_epochs for each in closed.folds] == [1]


def test_dropped_trial_that_failed_stays_failed(tracker: Tracker) -> None:
    runner = host(tracker, ends(StopReason.ERROR))
    running = started(runner)
    running.train(1)
    running.close(dropped=True)
    assert [each.state for each in runner.closed] == [State.FAIL]


def test_dropped_trial_whose_folds_all_stopped_early_is_complete(tracker: Tracker) -> None:
    runner = host(tracker, ends(StopReason.EARLY_STOPPED, StopReason.EARLY_STOPPED))
    running = started(runner)
    running.train(2)
    running.close(dropped=True)
    assert [each.state for each in runner.closed] == [State.COMPLETE]


def test_dropped_trial_with_missing_folds_is_pruned(tracker: Tracker) -> None:
    runner = host(tracker, ends(StopReason.EARLY_STOPPED))
    running = started(runner)
    running.train_fold(0)
    running.close(dropped=True)
    assert [each.state for each in runner.closed] == [State.PRUNED]


@pytest.mark.parametrize(
    ("budget", "n_folds", "is_search_over", "state"),
    [
        (3, 2, True, State.COMPLETE),
        (3, 2, False, State.COMPLETE),
        (1, 2, True, State.PRUNED),
        (1, 2, False, State.WAITING),
        (3, 1, True, State.WAITING),
        (3, 1, False, State.WAITING),
    ],
)
def test_trial_left_open_ends_by_what_it_has_completed(
    budget: int, n_folds: int, is_search_over: bool, state: State, tracker: Tracker
) -> None:
    runner = host(tracker, ends())
    running = started(runner)
    for index in range(n_folds):
        running.train_fold(index, budget)
    running.close_at_end(is_search_over)
    running.close_at_end(is_search_over)
    assert [each.state for each in runner.closed] == [state]


@pytest.mark.parametrize("is_search_over", [True, False])
def test_failed_trial_left_open_stays_failed(is_search_over: bool, tracker: Tracker) -> None:
    runner = host(tracker, ends(StopReason.ERROR))
    running = started(runner)
    running.train()
    running.close_at_end(is_search_over)
    assert [each.state for each in runner.closed] == [State.FAIL]


def test_end_of_a_study_waits_for_threads_that_train(tracker: Tracker) -> None:
    is_training, may_end = threading.Event(), threading.Event()

    def train(task: FoldTask, control: TrialControl) -> FoldResult:
        is_training.set()
        assert may_end.wait(30)
        return fold(index=task.fold)

    runner = host(tracker, train)
    running = started(runner)
    training = threading.Thread(target=lambda: running.train_fold(0))
    training.start()
    assert is_training.wait(30)
    closing = threading.Thread(target=lambda: running.close_at_end(False))
    closing.start()
    assert runner.closed == []
    may_end.set()
    closing.join(30)
    training.join(30)
    assert [(each.state, len(each.folds)) for each in runner.closed] == [(State.WAITING, 1)]


def recorded(*results: FoldResult, **more: Any) -> RecordedTrial:
    by_budget = {(result.fold, result.budget or 0): result for result in results}
    return RecordedTrial(Trial(7, {"x": 0.5}, results, 1.0, interrupted=True), by_budget, **more)


def test_finished_folds_of_an_earlier_attempt_are_not_trained_again(tracker: Tracker) -> None:
    seen: list[Measurement] = []

    def on_report(measurement: Measurement) -> Decision:
        seen.append(measurement)
        return Decision.CONTINUE

    runner = host(tracker, ends())
    running = started(runner, recorded=recorded(fold(0.25), attempt=2))
    trial = running.train(on_report=on_report)
    assert [task.fold for task in runner.tasks] == [1]
    assert trial.value == pytest.approx(0.375)
    assert trial.seconds == 2.0
    assert [(m.fold, m.epoch, m.value) for m in seen] == [(0, 0, 0.7), (0, 1, 0.6), (0, 2, 0.5)]
    assert points(tracker, "trial-0007.3", "fold_0/val_loss") == [(0, 0.7), (1, 0.6), (2, 0.5)]
    assert points(tracker, "trial-0007.3", "fold_0/score") == [(3, 0.25)]


def test_restored_budgets_record_each_epoch_once(tracker: Tracker) -> None:
    small = fold(0.6, losses=(0.7,), budget=1)
    running = started(host(tracker, ends()), recorded=recorded(small, fold(0.4)))
    running.train_fold(0, 1)
    running.train_fold(0, 3)
    assert points(tracker, "trial-0007.1", "fold_0/val_loss") == [(0, 0.7), (1, 0.6), (2, 0.5)]


def test_weights_of_an_earlier_attempt_belong_to_its_largest_budget(tracker: Tracker, tmp_path: Path) -> None:
    weights = tmp_path / "trial-0007.npz"
    weights.touch()
    small = fold(0.6, losses=(0.7,), budget=1)
    running = started(host(tracker, ends(), 1), recorded=recorded(small, fold(0.4)), weights=weights)
    first, second = running.train_fold(0, 1), running.train_fold(0, 3)
    assert first is not None
    assert second is not None
    assert (first.weights_path, second.weights_path) == (None, str(weights))
    assert weights.exists()


def asking(tracker: Tracker, train: Train, **options: Any) -> tuple[Host, RunningTrial]:
    runner = host(tracker, train, 1)
    return runner, started(runner, {"x": 0.9}, suggest=lambda parameter: parameter.name, **options)


def test_requested_params_are_recorded_when_they_are_chosen(tracker: Tracker) -> None:
    parameter = Float("a", low=0.0, high=1.0)

    def train(task: FoldTask, control: TrialControl) -> FoldResult:
        assert task.params == {}
        assert control.suggest(parameter) == "a"
        control.note("stage", "warm-up")
        return fold()

    runner, running = asking(tracker, train)
    assert running.train().params == {"a": "a"}
    assert runner.declared == [parameter]
    found = tags(tracker, "trial-0007")
    assert found["hpo.params"] == '{"a":"a"}'
    assert '"high": 1.0' in found["hpo.domains"]
    assert found["user.stage"] == "warm-up"


def test_retried_trial_requests_its_params_again(tracker: Tracker) -> None:
    seen: list[Params] = []

    def train(task: FoldTask, control: TrialControl) -> FoldResult:
        seen.append(task.params)
        control.suggest(Float("a", low=0.0, high=1.0))
        return fold(None, StopReason.CRASHED) if len(seen) == 1 else fold()

    _, running = asking(tracker, train)
    running.train()
    assert seen == [{}, {}]
    assert tags(tracker, "trial-0007.1")["hpo.params"] == '{"a":"a"}'


def test_restored_trial_requests_the_recorded_params(tracker: Tracker) -> None:
    space = SearchSpace([Float("a", low=0.0, high=1.0), Float("b", low=0.0, high=1.0)])
    runner, running = asking(tracker, ends(), recorded=recorded(fold(), domains=space.to_config()))
    assert running.train().params == {"a": "a", "b": "b"}
    assert runner.tasks == []
    assert runner.declared == list(space.values())


def test_params_requested_by_several_threads_are_all_recorded(tracker: Tracker) -> None:
    """The last record has the params of every thread, whichever recorded last."""
    n_threads, n_params = 4, 25
    barrier = threading.Barrier(n_threads)

    def train(task: FoldTask, control: TrialControl) -> FoldResult:
        def ask(thread: int) -> None:
            barrier.wait(30)
            for index in range(n_params):
                control.suggest(Float(f"p{thread}_{index}", low=0.0, high=1.0))

        threads = [threading.Thread(target=ask, args=(each,)) for each in range(n_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return fold()

    _, running = asking(tracker, train)
    assert len(running.train().params) == n_threads * n_params
    batches = [each for each in records(tracker, "trial-0007") if "hpo.params" in (each.body.get("tags") or {})]
    sizes = [each.body["tags"]["hpo.params"].count(":") for each in batches[1:]]
    assert sizes == list(range(1, n_threads * n_params + 1))


def test_control_reports_epochs_and_polls_the_runner(tracker: Tracker) -> None:
    decisions: list[Decision] = []

    def train(task: FoldTask, control: TrialControl) -> FoldResult:
        decisions.append(control.on_epoch(1, {"val_loss": 0.5}))
        decisions.append(control.poll())
        return fold(index=task.fold)

    runner = host(tracker, train)
    on_report = [lambda measurement: Decision.CONTINUE]
    started(runner).train_fold(1, 2, on_report[0])
    assert decisions == [Decision.PRUNE, Decision.INTERRUPT]
    assert points(tracker, "trial-0007", "fold_1/val_loss") == [(1, 0.5)]
    (control,) = runner.controls
    assert (control.fold, control.max_epochs, control.on_report) == (1, 2, on_report[0])
