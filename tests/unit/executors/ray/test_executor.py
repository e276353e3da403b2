"""An actor of Ray that is lost in any way fails only its trial."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import toy
from waiting import wait_until

from hpo.core.states import StopReason
from hpo.errors import ConfigError, StudyFailed, hide
from hpo.evaluation.tasks import FoldTask, RefitTask
from hpo.executors.ray.executor import RayExecutor
from hpo.executors.ray.handle import ActorHandle
from hpo.executors.ray.node_folder import shared_path
from hpo.models.base import Model
from unit.executors.local.test_executor import (
    MAX_EPOCHS,
    Control,
    DecidesByEpoch,
    check_own_results,
    evaluator,
    run,
    without_seconds,
)

Start = Callable[..., RayExecutor]


@pytest.fixture
def start(tmp_path: Path, one_ray: None) -> Iterator[Start]:
    started: list[RayExecutor] = []

    def make(model: Model | None = None, **options: Any) -> RayExecutor:
        executor = RayExecutor(**options)
        started.append(executor)
        executor.prepare()
        executor.start(evaluator(model), tmp_path)
        return executor

    yield make
    for executor in started:
        executor.stop()


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory, one_ray: None) -> Iterator[RayExecutor]:
    """One actor for all tests that leave an actor behind, since starting one takes seconds."""
    made = RayExecutor(trial_timeout_seconds=4, max_memory_bytes=700_000_000)
    made.prepare()
    made.start(evaluator(), tmp_path_factory.mktemp("driver"))
    yield made
    made.stop()


def process(executor: RayExecutor) -> psutil.Process:
    """Return the process of the only ready actor."""
    (pid,) = executor.actors.idle_pids
    return psutil.Process(pid)


def workers_of(actor: psutil.Process) -> list[psutil.Process]:
    """Return the worker processes of an actor."""
    return [child for child in actor.children() if "spawn_main" in " ".join(child.cmdline())]


def place(executor: RayExecutor) -> Path:
    """Return the folder of its actors on this node."""
    return shared_path(executor.session_name)


def test_actor_result_equals_inline_result(executor: RayExecutor, tmp_path: Path) -> None:
    control, inline = Control(), Control()
    task = FoldTask({"x": 0.5}, 0, MAX_EPOCHS, tmp_path / "trial")
    result, expected = executor.run(task, control), evaluator().run(task, inline)
    assert without_seconds(result) == without_seconds(expected)
    assert control.epochs == inline.epochs
    assert result.weights_path == str(tmp_path / "trial.npz")
    assert toy.CurveModel().restore({}, toy.dataset().spec, tmp_path / "trial.npz").weights == [0.5]
    refitted = executor.run(RefitTask({"x": 0.5}, 2, tmp_path / "winner"), Control())
    assert refitted.weights_path == str(tmp_path / "winner.npz")
    assert (refitted.outcome.epochs_run, refitted.score) == (2, None)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["trial.npz", "winner.npz"]


def test_pruned_and_interrupted_trials_keep_the_worker(executor: RayExecutor) -> None:
    (worker,) = workers_of(process(executor))
    assert run(executor, control=Control(prune_after=2)).outcome.stop_reason is StopReason.PRUNED
    assert run(executor, control=Control(interrupt_after=1)).outcome.stop_reason is StopReason.INTERRUPTED
    assert run(executor).outcome.stop_reason is StopReason.MAX_EPOCHS
    assert workers_of(process(executor)) == [worker]


@pytest.mark.parametrize(
    ("kind", "reason", "said"),
    [
        ("segfault", StopReason.CRASHED, "SIGSEGV"),
        ("hang", StopReason.TIMEOUT, "trial_timeout_seconds=4"),
        ("hog", StopReason.OUT_OF_MEMORY, "max_memory_bytes=700,000,000"),
    ],
)
def test_lost_actor_is_replaced_and_trial_keeps_epochs(
    executor: RayExecutor, kind: str, reason: StopReason, said: str
) -> None:
    control = Control()
    actor = process(executor)
    result = run(executor, kind, control)
    assert result.outcome.stop_reason is reason
    assert result.error is not None
    assert said in result.error
    assert result.score is None
    assert result.outcome.epochs_run == len(control.epochs) == len(result.history["val_loss"]) == 1
    if kind == "segfault":
        assert result.traceback is not None
        assert "_break_down" in result.traceback
    assert run(executor).outcome.stop_reason is StopReason.MAX_EPOCHS
    assert process(executor) == actor


def test_killed_actor_fails_its_trial_and_is_replaced(executor: RayExecutor) -> None:
    actor = process(executor)
    (worker,) = workers_of(actor)

    class Kills(Control):
        def on_epoch(self, epoch: int, logs: Any) -> Any:
            if epoch == 1:
                os.kill(actor.pid, signal.SIGKILL)
            return super().on_epoch(epoch, logs)

    result = run(executor, "slow", Kills())
    assert result.outcome.stop_reason is StopReason.CRASHED
    assert result.error is not None
    assert "the actor of the worker on node" in result.error
    assert result.outcome.epochs_run >= 2
    assert run(executor).outcome.stop_reason is StopReason.MAX_EPOCHS
    worker.wait(10)  # raises if it is still running


def test_death_of_an_idle_actor_fails_no_trial(executor: RayExecutor) -> None:
    actor = process(executor)
    actor.kill()
    actor.wait(10)
    assert run(executor).outcome.stop_reason is StopReason.MAX_EPOCHS


def test_actor_lost_before_its_trial_begins_costs_no_retry(
    executor: RayExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, killed = ActorHandle.run, list[int]()

    def run_after_kill(self: ActorHandle, *args: Any) -> Any:
        assert self.site is not None
        if not killed:
            killed.append(self.site.pid)
            os.kill(self.site.pid, signal.SIGKILL)
        return real(self, *args)

    monkeypatch.setattr(ActorHandle, "run", run_after_kill)
    control = Control()
    assert run(executor, control=control).outcome.stop_reason is StopReason.MAX_EPOCHS
    assert len(control.epochs) == MAX_EPOCHS
    assert killed


class Unknown:
    """Cannot be unpickled."""

    def __reduce__(self) -> Any:
        return os.listdir, ("/no/such/folder",)


def test_task_that_cannot_be_unpickled_ends_the_study(executor: RayExecutor) -> None:
    task: Any = FoldTask({"x": Unknown()}, 0, MAX_EPOCHS)  # type: ignore[dict-item]
    with pytest.raises(StudyFailed, match=r"a node cannot run a trial: .*no/such/folder"):
        executor.run(task, Control())


@pytest.mark.usefixtures("executor")  # which has one of the two cores
def test_trials_start_with_the_actors_that_fit(start: Start) -> None:
    several = start(workers=3)
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(run(several, "slow"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [result.outcome.stop_reason for result in results] == [StopReason.MAX_EPOCHS] * 4
    assert (several.actors.n_pending, len(several.actors.idle_pids)) == (2, 1)


@pytest.mark.parametrize(
    "options", [{"gpus_per_trial": 1}, {"threads_per_trial": 64}, {"resources": {"unobtainium": 1}}]
)
def test_unavailable_resources_are_refused_after_the_start_timeout(start: Start, options: dict[str, Any]) -> None:
    with pytest.raises(StudyFailed, match=r"has the resources of one trial \(CPU .*\): it has .*CPU 2.* in [1-9] s$"):
        start(start_timeout_seconds=1, **options)


def test_full_disk_ends_the_study(executor: RayExecutor) -> None:
    with pytest.raises(StudyFailed, match=r"on node .*disk is full"):
        run(executor, "full")


def test_secrets_are_redacted_on_a_node(start: Start) -> None:
    hide("correct-horse")  # before it starts
    result = run(start(), "secret")
    assert result.error == "ValueError: cannot connect with ***"
    assert result.traceback is not None
    assert "correct-horse" not in result.traceback


def test_model_output_stays_off_the_terminal(executor: RayExecutor, capfd: pytest.CaptureFixture[str]) -> None:
    run(executor, "print")
    run(executor, "exit")  # flushes what is buffered
    run(executor)  # with a new worker: what the first one printed would have arrived
    assert capfd.readouterr() == ("", "")


def test_stop_interrupts_running_tasks_and_leaves_nothing(start: Start) -> None:
    executor, results = start(workers=2), []
    actor = process(executor)
    controls = [Control() for _ in range(3)]
    threads = [threading.Thread(target=lambda c=c: results.append(run(executor, "hang", c))) for c in controls]
    for thread in threads:
        thread.start()
    wait_until(lambda: any(control.epochs for control in controls))
    workers = workers_of(actor)
    assert workers
    assert place(executor).is_dir()
    executor.stop()
    executor.stop()
    for thread in threads:
        thread.join(20)
    assert [result.outcome.stop_reason for result in results] == [StopReason.INTERRUPTED] * 3
    for each in (actor, *workers):
        each.wait(10)  # raises if it is still running
    assert not place(executor).exists()


def test_model_that_forks_and_returns_twice_is_credited_once(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    executor = start()
    for number in range(3):
        check_own_results(executor, "fork" if number < 2 else "good", tmp_path)
    assert [record.message.count("a model forked process") for record in caplog.records] == [1]
    assert "on node" in caplog.text


def test_control_answers_each_thread_of_a_model(executor: RayExecutor) -> None:
    control = DecidesByEpoch()
    assert run(executor, "threads", control).error is None
    assert sorted(control.decided) == list(range(100, 260))


def test_actor_is_replaced_after_an_error_of_the_driver(executor: RayExecutor) -> None:
    class Fails(Control):
        def on_epoch(self, epoch: int, logs: Any) -> Any:
            raise StudyFailed("the disk of the driver is full")

    with pytest.raises(StudyFailed, match="of the driver"):
        run(executor, "slow", Fails())
    assert run(executor).outcome.stop_reason is StopReason.MAX_EPOCHS


def test_node_with_other_versions_is_refused(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.executors.ray.executor.versions", lambda: {"numpy": "1.0"})
    with pytest.raises(StudyFailed, match=r"on node .*other versions than the driver's: numpy .*, not 1\.0"):
        start()


def test_unpicklable_model_is_refused(start: Start) -> None:
    class Local(toy.CurveModel):
        pass

    with pytest.raises(ConfigError, match="executor=inline"):
        start(Local())


DRIVER = """
import sys, tempfile
from pathlib import Path
from hpo.executors.ray.executor import RayExecutor
from hpo.evaluation.tasks import FoldTask
sys.path.insert(0, {tests!r})
from unit.executors.local.test_executor import Control, evaluator

class Prints(Control):
    def on_epoch(self, epoch, logs):
        if epoch == 0:
            print("training", flush=True)
        return super().on_epoch(epoch, logs)

if __name__ == "__main__":
    executor = RayExecutor(address=sys.argv[1])
    executor.prepare()
    executor.start(evaluator(), Path(tempfile.mkdtemp()))
    print(*executor.actors.idle_pids, flush=True)
    executor.run(FoldTask({{"x": 0.5, "kind": {kind!r}}}, 0, 10_000), Prints())
"""


@pytest.mark.parametrize("kind", ["slow", pytest.param("hang", marks=pytest.mark.slow)])
def test_actor_and_worker_end_with_a_killed_driver(kind: str, tmp_path: Path, one_ray: None) -> None:
    import ray

    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(tests=str(Path(__file__).parents[2]), kind=kind))
    address = ray.get_runtime_context().gcs_address
    driver = subprocess.Popen([sys.executable, script, address], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    actor = psutil.Process(int(driver.stdout.readline()))
    assert driver.stdout.readline() == "training\n"
    (worker,) = workers_of(actor)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    for each in (actor, worker):
        each.wait(20)  # raises if it is still running


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"workers": 0}, "executor.workers"),
        ({"threads_per_trial": None}, "executor.threads_per_trial"),
        ({"threads_per_trial": 0.5}, "executor.threads_per_trial"),
        ({"gpus_per_trial": -1}, "executor.gpus_per_trial"),
        ({"gpus_per_trial": 1.5}, "executor.gpus_per_trial"),
        ({"gpus_per_trial": "all"}, "executor.gpus_per_trial"),
        ({"resources": ["a100"]}, "executor.resources"),
        ({"resources": {"a100": 0}}, "executor.resources.a100"),
        ({"resources": {"CPU": 2}}, "executor.resources.CPU"),
        ({"runtime_env": "."}, "executor.runtime_env"),
        ({"address": 6379}, "executor.address"),
        ({"address": "http://127.0.0.1:8265"}, "executor.address"),
        ({"trial_timeout_seconds": 0}, "executor.trial_timeout_seconds"),
        ({"max_memory_bytes": "1G"}, "executor.max_memory_bytes"),
        ({"retries": -1}, "executor.retries"),
        ({"start_timeout_seconds": 0}, "executor.start_timeout_seconds"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RayExecutor(**options)
    assert caught.value.key == key
