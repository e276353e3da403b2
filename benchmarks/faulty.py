"""A random forest that fails for some params; the environment variable ``FAULT`` names the fault.

Whether it fails depends only on the params, so that a resumed study has the same faults.
"""

from __future__ import annotations

import ctypes
import math
import os
import time
from dataclasses import replace
from typing import Any

from hpo.core.params import Params, canonical
from hpo.core.seeds import derive_seed
from hpo.core.states import Decision, StopReason
from hpo.models.base import Control, Fit, FitLog, FittedModel
from hpo.models.sklearn.model import SklearnModel

ONE_IN = 3


def is_faulty(params: Params) -> bool:
    """Return whether a trial with these params fails."""
    return derive_seed("fault", canonical(params)) % ONE_IN == 0


class FaultyForest(SklearnModel):
    """A random forest with planted faults; see the module."""

    def fit(self, fit: Fit) -> FittedModel:
        fault = os.environ.get("FAULT", "")
        if fault and is_faulty(fit.params) and not fit.data.is_refit:
            fit = replace(fit, control=_Breaking(fit.control, fault, fit.log))
        return super().fit(fit)


class _Breaking:
    """Control that fails after the second epoch."""

    def __init__(self, control: Control, fault: str, log: FitLog) -> None:
        self._control, self._fault, self._log = control, fault, log

    def poll(self) -> Decision:
        return self._control.poll()

    def on_epoch(self, epoch: int, logs: Any) -> Decision:
        decision = self._control.on_epoch(epoch, logs)
        if epoch == 1:
            break_down(self._fault, self._log)
        return decision


def break_down(fault: str, log: FitLog) -> None:
    """Fail as ``fault`` names."""
    match fault:
        case "hang":
            while True:
                time.sleep(60)
        case "segfault":
            ctypes.string_at(0)
        case "memory_hog":
            hoard = []
            while True:
                hoard.append(bytearray(50_000_000))
                time.sleep(0.01)
        case "nan":
            log.stop_reason, log.problem = StopReason.DIVERGED, "loss is not finite"
            log.history["loss"][-1] = math.nan
        case "exception":
            raise ValueError("this fault was asked for")
