"""Both ends of the conversation about a task, without processes."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from waiting import wait_until

from hpo.core.params import ParamValue
from hpo.core.space import Float, Parameter
from hpo.core.states import Decision
from hpo.errors import ForkedProcess, StudyFailed, SuggestionRefused
from hpo.executors.messages import (
    Decide,
    EpochEnded,
    Message,
    Question,
    Refused,
    Stop,
    Suggest,
    Suggested,
    TaskFailed,
    Warned,
)
from hpo.executors.protocol import RemoteControl, TaskDialogue
from hpo.models.base import Undisturbed

ME = os.getpid()


class Driver:
    """Answers questions, in any order, once it is told to."""

    def __init__(self, task: int = 1) -> None:
        self.sent: list[Message] = []
        self.control = RemoteControl(task, self.sent.append)

    @property
    def questions(self) -> list[Question]:
        return [message for message in self.sent if isinstance(message, Question)]


def parameter(name: str) -> Float:
    return Float(name, 0.0, 1.0)


def test_answers_in_another_order_reach_the_call_that_asked() -> None:
    driver = Driver()
    with ThreadPoolExecutor(20) as pool:
        values = [pool.submit(driver.control.suggest, parameter(f"p{n}")) for n in range(10)]
        decisions = [pool.submit(driver.control.on_epoch, n, {"loss": 1.0}) for n in range(10)]
        wait_until(lambda: len(driver.questions) == 20)
        for question in reversed(driver.questions):
            if isinstance(question, Suggest):
                number = int(question.parameter.name[1:])
                driver.control.receive(Suggested(1, ME, question.question, number / 10))
            elif isinstance(question, EpochEnded):
                decision = Decision.PRUNE if question.epoch % 2 else Decision.CONTINUE
                driver.control.receive(Decide(1, ME, question.question, decision))
    assert [value.result() for value in values] == [n / 10 for n in range(10)]
    assert [decision.result() is Decision.PRUNE for decision in decisions] == [n % 2 == 1 for n in range(10)]
    assert all((message.task, message.pid) == (1, ME) for message in driver.sent)


def test_messages_of_another_task_are_dropped_by_the_worker() -> None:
    driver = Driver(task=2)
    driver.control.receive(Stop(1, ME))
    assert driver.control.poll() is Decision.CONTINUE
    with ThreadPoolExecutor(1) as pool:
        decision = pool.submit(driver.control.on_epoch, 0, {})
        wait_until(lambda: driver.questions)
        driver.control.receive(Decide(1, ME, 0, Decision.PRUNE))
        assert not decision.done()
        driver.control.receive(Decide(2, ME, 0, Decision.CONTINUE))
        assert decision.result() is Decision.CONTINUE
    driver.control.receive(Stop(2, ME))
    assert driver.control.poll() is Decision.INTERRUPT


def test_refused_suggestion_raises_in_calling_thread() -> None:
    driver = Driver()
    with ThreadPoolExecutor(1) as pool:
        value = pool.submit(driver.control.suggest, parameter("x"))
        wait_until(lambda: driver.questions)
        driver.control.receive(Refused(1, ME, 0, "another range than before"))
        with pytest.raises(SuggestionRefused, match="another range"):
            value.result()


def test_closing_ends_calls_that_wait_and_refuses_later_ones() -> None:
    driver = Driver()
    with ThreadPoolExecutor(1) as pool:
        decision = pool.submit(driver.control.on_epoch, 0, {})
        wait_until(lambda: driver.questions)
        driver.control.close()
        with pytest.raises(RuntimeError, match="has ended"):
            decision.result()
    with pytest.raises(RuntimeError, match="has ended"):
        driver.control.on_epoch(1, {})
    assert len(driver.sent) == 1


def test_every_call_in_a_forked_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    monkeypatch.setattr(os, "getpid", lambda: ME + 1)
    for call in (driver.control.poll, lambda: driver.control.on_epoch(0, {})):
        with pytest.raises(ForkedProcess):
            call()
    assert driver.sent == []


class Suggests(Undisturbed):
    """Suggests the low end of every parameter but ``refused``."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.notes: dict[str, str] = {}

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        self.epochs.append(epoch)
        return Decision.PRUNE

    def suggest(self, parameter: Parameter) -> ParamValue:
        if parameter.name == "refused":
            raise SuggestionRefused("no")
        return 0.0

    def note(self, name: str, text: str) -> None:
        self.notes[name] = text


class Dialogue:
    """The driver's end of task 3, which process 7 runs."""

    def __init__(self) -> None:
        self.control, self.epochs = Suggests(), list[Mapping[str, float]]()
        self.sent, self.warnings = list[Message](), list[str]()
        self.end = TaskDialogue(3, 7, self.control, self.epochs, self.sent.append, self.warnings.append)


def test_the_driver_answers_each_question_by_its_number() -> None:
    dialogue = Dialogue()
    for message in (
        EpochEnded(3, 7, 0, 5, {"loss": 1.0}),
        Suggest(3, 7, 1, parameter("x")),
        Suggest(3, 7, 2, parameter("refused")),
    ):
        assert dialogue.end.receive(message) is None
    assert dialogue.sent == [
        Decide(3, ME, 0, Decision.PRUNE),
        Suggested(3, ME, 1, 0.0),
        Refused(3, ME, 2, "no"),
    ]
    assert (dialogue.control.epochs, dialogue.epochs) == ([5], [{"loss": 1.0}])
    assert dialogue.warnings == []


@pytest.mark.parametrize(("task", "pid"), [(2, 7), (3, 8)])
def test_driver_drops_and_reports_foreign_messages(task: int, pid: int) -> None:
    dialogue = Dialogue()
    for message in (EpochEnded(task, pid, 0, 0, {"loss": 1.0}), TaskFailed(task, pid, "disk full")):
        assert dialogue.end.receive(message) is None
    assert (dialogue.sent, dialogue.control.epochs, dialogue.epochs) == ([], [], [])
    assert [f"task {task} from process {pid}" in text for text in dialogue.warnings] == [True, True]


def test_task_failure_ends_the_study() -> None:
    with pytest.raises(StudyFailed, match="disk full"):
        Dialogue().end.receive(TaskFailed(3, 7, "disk full"))


def test_node_warning_is_forwarded() -> None:
    dialogue = Dialogue()
    assert dialogue.end.receive(Warned(0, 9, "forked")) is None
    assert dialogue.warnings == ["forked"]
