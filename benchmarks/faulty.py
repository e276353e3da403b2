"""A random forest that goes wrong for some params, in the way that ``FAULT`` in the environment names.

Which params those are follows from the params alone, so that an interrupted study meets the same faults again.
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
    """Whether a trial with these params goes wrong."""
    return derive_seed("fault", canonical(params)) % ONE_IN == 0


class FaultyForest(SklearnModel):
    """See the module."""

    def fit(self, fit: Fit) -> FittedModel:
        fault = os.environ.get("FAULT", "")
        if fault and is_faulty(fit.params) and not fit.data.is_refit:
            fit = replace(fit, control=_Breaking(fit.control, fault, fit.log))
        return super().fit(fit)


class _Breaking:
    """Goes wrong after the second epoch."""

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
    """Do what ``fault`` says."""
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
