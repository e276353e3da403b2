"""Runs a user's model: its errors become a failed fold, while errors of the driver end the study."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hpo.core.params import ParamValue
from hpo.core.space import Parameter
from hpo.core.states import Decision, StopReason
from hpo.errors import DISK_FULL, ForkedProcess, StudyFailed, SuggestionRefused, one_line, redact
from hpo.models.base import ObjectiveControl

# Names of the errors by which TensorFlow and PyTorch report that memory is exhausted.
_OUT_OF_MEMORY = ("ResourceExhaustedError", "OutOfMemoryError")


@dataclass(frozen=True)
class ModelFailure:
    """An exception of the model.

    Args:
        reason: the stop reason of the fold.
        error: type and message in one line, without secrets.
        traceback: the whole traceback, without secrets.
    """

    reason: StopReason
    error: str
    traceback: str

    @classmethod
    def of(cls, error: Exception) -> ModelFailure:
        """Describe an exception that is being handled."""
        is_exhausted = isinstance(error, MemoryError) or type(error).__name__ in _OUT_OF_MEMORY
        reason = StopReason.OUT_OF_MEMORY if is_exhausted else StopReason.ERROR
        return cls(reason, one_line(error), redact(traceback.format_exc()))


def run_guarded(train: Callable[[Guard], None], control: ObjectiveControl) -> ModelFailure | None:
    """Call ``train`` with a guarded ``control``, and return the failure of the model, if it fails.

    Raises:
        Exception: whatever ``control`` raised, also if the model catches or replaces it.
        StudyFailed: if the disk is full.
        ForkedProcess: in a process that the model forked.
    """
    guard = Guard(control)
    failure = None
    try:
        train(guard)
    except Exception as error:
        if guard.raised is error:
            raise
        if guard.raised is not None:  # the model has replaced it
            raise guard.raised from error
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise StudyFailed(f"the disk is full ({error}); what was recorded is safe") from error
        failure = ModelFailure.of(error)
    if guard.raised is not None:  # the model has caught it
        raise guard.raised
    guard.check_process()
    return failure


class Guard:
    """Passes calls to the driver's control, and keeps the exception that one of them raises."""

    def __init__(self, control: ObjectiveControl) -> None:
        self._control = control
        self._pid = os.getpid()
        self.raised: Exception | None = None

    def check_process(self) -> None:
        """Stop a process that the model forked before it reports, scores or saves anything.

        Raises:
            ForkedProcess: in any process but the one that called the model.
        """
        if os.getpid() != self._pid:
            self.raised = ForkedProcess(f"process {os.getpid()} was forked by the model")
            raise self.raised

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        self.check_process()
        try:
            return self._control.on_epoch(epoch, logs)
        except Exception as error:
            self.raised = error
            raise

    def poll(self) -> Decision:
        self.check_process()
        try:
            return self._control.poll()
        except Exception as error:
            self.raised = error
            raise

    def suggest(self, parameter: Parameter) -> ParamValue:
        self.check_process()
        try:
            return self._control.suggest(parameter)
        except SuggestionRefused:
            raise  # an error of the objective, not of the driver
        except Exception as error:
            self.raised = error
            raise

    def note(self, name: str, text: str) -> None:
        self.check_process()
        try:
            self._control.note(name, text)
        except Exception as error:
            self.raised = error
            raise
