"""A worker process that is lost in any way fails only its trial."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import toy
from waiting import wait_until

from hpo.core.early_stopping import EarlyStopping
from hpo.core.objective import Objective
from hpo.core.states import Decision, StopReason
from hpo.core.trial import FoldResult
from hpo.errors import ConfigError, StudyFailed, hide
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.resampling import Holdout
from hpo.evaluation.tasks import FoldTask, RefitTask
from hpo.executors.base import Executor
from hpo.executors.local.executor import LocalExecutor
from hpo.models.base import Model

MAX_EPOCHS = 4


class Control:
    """Keeps the reported epochs, and interrupts or prunes after some of them."""

    def __init__(self, interrupt_after: int | None = None, prune_after: int | None = None) -> None:
        self.epochs: list[Mapping[str, float]] = []
        self._interrupt_after, self._prune_after = interrupt_after, prune_after

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        self.epochs.append(logs)
        return Decision.PRUNE if len(self.epochs) == self._prune_after else self.poll()

    def poll(self) -> Decision:
        return Decision.INTERRUPT if len(self.epochs) == self._interrupt_after else Decision.CONTINUE


def evaluator(model: Model | None = None) -> Evaluator:
    return Evaluator(
        model or toy.CurveModel(), toy.dataset(), Holdout(0.2), Objective.of("val_loss"), EarlyStopping(), seed=0
    )


Start = Callable[..., LocalExecutor]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[LocalExecutor] = []

    def make(model: Model | None = None, **options: Any) -> LocalExecutor:
        executor = LocalExecutor(**{"threads_per_trial": 1, **options})
        started.append(executor)
        executor.prepare()
        executor.start(evaluator(model), tmp_path)
        return executor

    yield make
    for executor in started:
        executor.stop()


def run(executor: Executor, kind: str = "good", control: Control | None = None, **options: Any) -> FoldResult:
    return executor.run(FoldTask({"x": 0.5, "kind": kind}, 0, MAX_EPOCHS, **options), control or Control())


def is_gone(pid: int) -> bool:
    """Return whether the process has ended, reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def without_seconds(result: FoldResult) -> dict[str, Any]:
    return {**result.summary(), "seconds": {}, "history": dict(result.history)}


def test_worker_result_equals_inline_result(start: Start, tmp_path: Path) -> None:
    control, inline = Control(), Control()
    task = FoldTask({"x": 0.5}, 0, MAX_EPOCHS, tmp_path / "trial")
    executor = start()
    result, expected = executor.run(task, control), evaluator().run(task, inline)
    assert without_seconds(result) == without_seconds(expected)
    assert control.epochs == inline.epochs
    assert result.weights_path == str(tmp_path / "trial.npz")
    refitted = executor.run(RefitTask({"x": 0.5}, 2, tmp_path / "winner"), Control())
    assert refitted.weights_path == str(tmp_path / "winner.npz")
    assert (refitted.outcome.epochs_run, refitted.score) == (2, None)


def test_pruned_and_interrupted_trials_keep_the_worker(start: Start) -> None:
    executor = start()
    workers = executor.worker_pids
    assert run(executor, control=Control(prune_after=2)).outcome.stop_reason is StopReason.PRUNED
    assert run(executor, control=Control(interrupt_after=1)).outcome.stop_reason is StopReason.INTERRUPTED
    assert run(executor).outcome.stop_reason is StopReason.MAX_EPOCHS
    assert executor.worker_pids == workers


@pytest.mark.parametrize(
    ("kind", "reason", "said"),
    [
        ("exit", StopReason.CRASHED, "exited with code 3"),
        ("segfault", StopReason.CRASHED, "SIGSEGV"),
        ("hang", StopReason.TIMEOUT, "trial_timeout_seconds=5"),
        ("hog", StopReason.OUT_OF_MEMORY, "max_memory_bytes=700,000,000"),
    ],
)
def test_lost_worker_is_replaced_and_trial_keeps_epochs(
    start: Start, kind: str, reason: StopReason, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpo.executors.local.handle.GRACE_SECONDS", 0.5)
    executor, control = start(trial_timeout_seconds=5, max_memory_bytes=700_000_000), Control()
    (lost,) = executor.worker_pids
    result = run(executor, kind, control)
    assert result.outcome.stop_reason is reason
    assert result.error is not None
    assert said in result.error
    assert result.score is None
    assert result.outcome.epochs_run == len(control.epochs) == len(result.history["val_loss"]) == 1
    assert (result.outcome.best_epoch, result.outcome.best_value) == (0, control.epochs[0]["val_loss"])
    if kind == "segfault":
        assert result.traceback is not None
        assert "Segmentation fault" in result.traceback
        assert "_break_down" in result.traceback
    wait_until(lambda: is_gone(lost))
    assert lost not in executor.worker_pids
    assert run(executor).outcome.stop_reason is StopReason.MAX_EPOCHS


def test_timeout_includes_other_folds(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.executors.local.handle.GRACE_SECONDS", 0.5)
    executor = start(trial_timeout_seconds=100)
    assert run(executor, "hang", spent_seconds=99.5).outcome.stop_reason is StopReason.TIMEOUT


def test_slow_training_is_stopped_and_keeps_the_worker(start: Start) -> None:
    executor = start(trial_timeout_seconds=0.5)
    workers = executor.worker_pids
    task = FoldTask({"x": 0.5, "kind": "slow"}, 0, 1000)
    result = executor.run(task, Control())
    assert result.outcome.stop_reason is StopReason.TIMEOUT
    assert result.outcome.epochs_run > 1
    assert executor.worker_pids == workers


def test_endless_batch_is_interrupted(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.executors.local.handle.GRACE_SECONDS", 0.5)
    result = run(start(), "hang", Control(interrupt_after=1))
    assert result.outcome.stop_reason is StopReason.INTERRUPTED
    assert result.outcome.epochs_run == 1
    assert result.error is None


def test_grown_worker_is_replaced_between_trials(start: Start) -> None:
    executor = start(recycle_growth_bytes=120_000_000)
    used = []
    for _ in range(9):
        run(executor, "leak")
        used.append(executor.worker_pids)
    assert used[0] == used[1]
    assert used[0] != used[-1]


def test_model_output_goes_to_the_worker_log(start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    executor = start()
    run(executor, "print")
    run(executor, "exit")  # flushes what is buffered
    assert capfd.readouterr() == ("", "")
    executor.stop()
    assert (tmp_path / "worker-0.log").exists()


def test_full_disk_ends_the_study(start: Start) -> None:
    executor = start()
    with pytest.raises(StudyFailed, match="disk is full"):
        run(executor, "full")


def test_secrets_are_redacted_in_a_worker(start: Start) -> None:
    hide("correct-horse")
    result = run(start(), "secret")
    assert result.error == "ValueError: cannot connect with ***"
    assert result.traceback is not None
    assert "correct-horse" not in result.traceback


def test_running_tasks_are_interrupted_by_stop(start: Start) -> None:
    executor, results = start(workers=2), []
    controls = [Control() for _ in range(3)]
    threads = [threading.Thread(target=lambda c=c: results.append(run(executor, "hang", c))) for c in controls]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(controls[0].epochs + controls[1].epochs + controls[2].epochs) == 2)
    executor.stop()
    for thread in threads:
        thread.join(20)
    assert [result.outcome.stop_reason for result in results] == [StopReason.INTERRUPTED] * 3


def test_death_of_an_idle_worker_fails_no_trial(start: Start) -> None:
    executor = start()
    (worker,) = executor.worker_pids
    os.kill(worker, signal.SIGKILL)
    os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
    assert run(executor).outcome.stop_reason is StopReason.MAX_EPOCHS


def test_model_that_forks_and_returns_twice_is_credited_once(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    executor = start()
    (worker,) = executor.worker_pids
    for number in range(3):
        check_own_results(executor, "fork" if number < 2 else "good", tmp_path)
    executor.stop()
    assert [record.message.count("a model forked process") for record in caplog.records] == [1]
    text = (tmp_path / "worker-0.log").read_text()
    assert text.count("was forked by the model and returned from it") == 4
    wait_until(lambda: is_gone(worker))


def check_own_results(executor: Executor, kind: str, folder: Path) -> None:
    """Run a fold and a refit, and check that both results and the weights are those of their params."""
    for x in (0.1, 0.7):
        task = FoldTask({"x": x, "kind": kind}, 0, MAX_EPOCHS, folder / f"weights-{x}")
        control = Control()
        result, expected = executor.run(task, control), evaluator().run(replace(task, params={"x": x}), Control())
        assert (result.score, dict(result.history)) == (expected.score, dict(expected.history))
        assert len(control.epochs) == MAX_EPOCHS


def test_control_answers_each_thread_of_a_model(start: Start) -> None:
    executor, control = start(), DecidesByEpoch()
    assert run(executor, "threads", control).error is None
    assert sorted(control.decided) == list(range(100, 260))


class DecidesByEpoch(Control):
    """Prunes odd epochs above 100, which several threads report."""

    def __init__(self) -> None:
        super().__init__()
        self.decided: list[int] = []

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        if epoch < 100:
            return super().on_epoch(epoch, logs)
        self.decided.append(epoch)
        return Decision.PRUNE if epoch % 2 else Decision.CONTINUE


def test_unpicklable_model_is_refused(tmp_path: Path) -> None:
    class Local(toy.CurveModel):
        pass

    executor = LocalExecutor(threads_per_trial=1)
    with pytest.raises(ConfigError, match="executor=inline"):
        executor.start(evaluator(Local()), tmp_path)
    executor.stop()


def test_worker_that_cannot_start_ends_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = LocalExecutor(threads_per_trial=1)
    monkeypatch.setattr("joblib.dump", lambda value, path: Path(path).write_bytes(b"no evaluator"))
    with pytest.raises(StudyFailed, match=r"could not start.*worker-0\.log"):
        executor.start(evaluator(), tmp_path)
    executor.stop()


def test_stop_leaves_no_process_and_no_data(start: Start, tmp_path: Path) -> None:
    executor = start(workers=2)
    processes = [psutil.Process(pid) for pid in executor.worker_pids]
    assert len(processes) == 2
    executor.stop()
    executor.stop()
    assert not any(process.is_running() for process in processes)
    assert not (tmp_path / "evaluator.joblib").exists()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"workers": 0}, "executor.workers"),
        ({"workers": 1.5}, "executor.workers"),
        ({"threads_per_trial": 0}, "executor.threads_per_trial"),
        ({"trial_timeout_seconds": 0}, "executor.trial_timeout_seconds"),
        ({"trial_timeout_seconds": True}, "executor.trial_timeout_seconds"),
        ({"max_memory_bytes": "1G"}, "executor.max_memory_bytes"),
        ({"recycle_growth_bytes": None}, "executor.recycle_growth_bytes"),
        ({"retries": -1}, "executor.retries"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LocalExecutor(**options)
    assert caught.value.key == key


DRIVER = """
import sys
from pathlib import Path
from hpo.executors.base import Executor
from hpo.executors.local.executor import LocalExecutor
from hpo.evaluation.tasks import FoldTask
from hpo.core.states import Decision
sys.path.insert(0, {tests!r})
from unit.executors.local.test_executor import Control, evaluator

class Prints(Control):
    def on_epoch(self, epoch, logs):
        if epoch == 0:
            print("training", flush=True)
        return super().on_epoch(epoch, logs)

if __name__ == "__main__":
    executor = LocalExecutor(threads_per_trial=1)
    executor.start(evaluator(), Path(sys.argv[1]))
    print(*executor.worker_pids, flush=True)
    executor.run(FoldTask({{"x": 0.5, "kind": {kind!r}}}, 0, 10_000), Prints())
"""


@pytest.mark.parametrize("kind", ["slow", "hang", "child"])
def test_worker_and_its_children_end_with_the_driver(tmp_path: Path, kind: str) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(tests=str(Path(__file__).parents[2]), kind=kind))
    driver = subprocess.Popen([sys.executable, script, tmp_path], stdout=subprocess.PIPE, text=True, env={**os.environ})
    assert driver.stdout is not None
    worker = psutil.Process(int(driver.stdout.readline()))
    assert driver.stdout.readline() == "training\n"
    if kind == "child":
        wait_until(worker.children)
    children = worker.children()
    assert worker.is_running()
    assert [toy.CHILD in child.cmdline() for child in children] == [True] * (kind == "child")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    for process in (worker, *children):
        process.wait(10)  # raises if it is still running
