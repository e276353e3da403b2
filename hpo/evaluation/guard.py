"""Keeps errors of the driver apart from errors of the model."""

from __future__ import annotations

from collections.abc import Mapping

from hpo.core.params import ParamValue
from hpo.core.space import Parameter
from hpo.core.states import Decision
from hpo.errors import SuggestionRefused
from hpo.models.base import ObjectiveControl


class _Guard:
    """Passes calls on to the driver's control, and remembers what those raised."""

    def __init__(self, control: ObjectiveControl) -> None:
        self._control = control
        self.raised: Exception | None = None

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        try:
            return self._control.on_epoch(epoch, logs)
        except Exception as error:
            self.raised = error
            raise

    def poll(self) -> Decision:
        try:
            return self._control.poll()
        except Exception as error:
            self.raised = error
            raise

    def suggest(self, parameter: Parameter) -> ParamValue:
        try:
            return self._control.suggest(parameter)
        except SuggestionRefused:
            raise  # the objective's fault
        except Exception as error:
            self.raised = error
            raise

    def note(self, name: str, text: str) -> None:
        try:
            self._control.note(name, text)
        except Exception as error:
            self.raised = error
            raise
