"""A model without a library, with learning curves from a formula, so that tests of everything else are fast."""

from __future__ import annotations

import ctypes
import errno
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from hpo.core.params import Params, ParamValue
from hpo.core.states import Decision
from hpo.datasets.base import Array, Dataset, DataSpec
from hpo.models.base import Control, Fit, FittedModel, Model
from hpo.models.fitting import EpochMonitor

_LEAK: list[bytearray] = []
CHILD = "child-of-the-toy"  # argument of the process that kind=child starts


def dataset() -> Dataset:
    """20 samples of two classes, and 4 to test on."""
    x = np.arange(24, dtype="float32").reshape(24, 1)
    y = np.arange(24) % 2
    return Dataset("toy", x[:20], y[:20], x[20:], y[20:], source="tests")


class CurveModel(Model):
    """``val_loss`` falls from epoch to epoch towards ``(x - 0.3) ** 2``.

    ``kind`` selects a failure: ``nan``, ``raise``, ``secret``, ``memory``, ``full`` (disk) or ``slow``; and, for a
    process that may be lost, ``exit``, ``segfault``, ``hang``, ``hog``, ``leak``, ``child``, ``print`` or, only if
    ``flag_path`` does not exist, ``once``. ``fork`` returns in two processes; ``threads`` calls its control from
    several threads.
    """

    weights_suffix = ".npz"

    def __init__(self, kind: str = "good", flag_path: Path | None = None) -> None:
        self.kind, self.flag_path = kind, flag_path

    @property
    def tunables(self) -> dict[str, ParamValue]:
        return {"x": 0.9, "kind": self.kind, "depth": 1, "rate": 0.1}

    def metrics(self, spec: DataSpec) -> tuple[str, ...]:
        return ("loss", "val_loss")

    def fit(self, fit: Fit) -> FittedModel:
        values: dict[str, Any] = {**self.tunables, **fit.params}
        monitor = EpochMonitor(fit)
        with fit.log.phase("train"):
            for epoch in monitor.epochs():
                if values["kind"] == "slow":
                    time.sleep(0.05)
                if values["kind"] == "raise" and epoch == 1:
                    raise ValueError("asked for\nin two lines")
                if values["kind"] == "memory":
                    raise MemoryError
                if values["kind"] == "full":
                    raise OSError(errno.ENOSPC, "No space left on device")
                if epoch == 1:
                    self._break_down(values["kind"])
                    if values["kind"] == "threads":
                        call_from_threads(fit.control)
                loss = (values["x"] - 0.3) ** 2 + 0.1 / (epoch + 1)
                if values["kind"] == "nan" and epoch == 1:
                    loss = math.nan
                monitor.end_epoch(epoch, {"loss": loss, "val_loss": loss})
        return FittedCurve(np.array([values["x"]]))

    def _break_down(self, kind: str) -> None:
        """Fail in a way that only a separate process survives."""
        match kind:
            case "exit":
                os._exit(3)
            case "segfault":
                ctypes.string_at(0)
            case "hang":
                while True:
                    time.sleep(60)
            case "hog":
                hoard = []
                while True:
                    hoard.append(bytearray(20_000_000))
                    time.sleep(0.01)
            case "child":
                subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", CHILD])
                time.sleep(600)
            case "secret":
                raise ValueError("cannot connect with correct-horse")
            case "fork":
                os.fork()
            case "leak":
                _LEAK.append(bytearray(b"x" * 30_000_000))
            case "print":
                print("hello from the model")
            case "once":
                assert self.flag_path is not None
                if not self.flag_path.exists():
                    self.flag_path.touch()
                    os.kill(os.getpid(), signal.SIGKILL)

    def restore(self, params: Params, spec: DataSpec, path: Path) -> FittedModel:
        with np.load(path) as arrays:
            return FittedCurve(arrays["arr_0"])


def call_from_threads(control: Control, n_threads: int = 8, n_calls: int = 20) -> None:
    """Call ``control`` from several threads at the same time; odd epochs must be pruned and even ones continued."""

    def call(first: int) -> bool:
        epochs = range(first, first + n_threads * n_calls, n_threads)
        return all(
            control.on_epoch(epoch, {"val_loss": 1.0}) is (Decision.PRUNE if epoch % 2 else Decision.CONTINUE)
            and control.poll() is Decision.CONTINUE
            for epoch in epochs
        )

    with ThreadPoolExecutor(n_threads) as pool:
        if not all(pool.map(call, range(100, 100 + n_threads))):
            raise ValueError("a thread received the answer to another thread's call")


class FittedCurve(FittedModel):
    def __init__(self, weights: Array) -> None:
        self.weights = weights

    def evaluate(self, x: Array, y: Array, extra: Sequence[str] = ()) -> dict[str, float]:
        return {"loss": float((self.weights[0] - 0.3) ** 2)}

    def predict(self, x: Array) -> Array:
        return np.zeros((len(x), 2))

    def predict_targets(self, x: Array) -> tuple[Array, Array | None]:
        return np.zeros(len(x), int), self.predict(x)

    def save_weights(self, path: Path) -> None:
        np.savez(path, self.weights)

    def save(self, path: Path, example: Array) -> None:
        """Write the weights only; MLflow cannot load this folder."""
        path.mkdir()
        self.save_weights(path / "weights.npz")


class LeavesProcess:
    """Forks a process in a session of its own when it is unpickled, which keeps all inherited file descriptors open.

    Args:
        pid_path: receives the id of that process.
    """

    def __init__(self, pid_path: Path) -> None:
        self.pid_path = pid_path

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            time.sleep(600)
            os._exit(0)
        self.pid_path.write_text(str(pid))
