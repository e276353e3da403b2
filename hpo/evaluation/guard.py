"""Keeps errors of the driver apart from errors of the model."""

from __future__ import annotations

import os
from collections.abc import Mapping

from hpo.core.params import ParamValue
from hpo.core.space import Parameter
from hpo.core.states import Decision
from hpo.errors import ForkedProcess, SuggestionRefused
from hpo.models.base import ObjectiveControl


class _Guard:
    """Passes calls on to the driver's control, and remembers what those raised."""

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
            raise  # the objective's fault
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
