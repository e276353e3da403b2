"""Measures the overhead of worker processes per trial, and the memory of workers and driver over many trials.

::

    python -m benchmarks.isolation            1,000 trials of a null model, inline and in a worker
    python -m benchmarks.isolation --memory   200 trials of a small CNN on digits: memory of driver and worker by trial
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.null import NullModel, dataset
from hpo.core.early_stopping import EarlyStopping
from hpo.core.objective import Objective
from hpo.core.process import prepare_process
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.resampling import Holdout
from hpo.evaluation.tasks import FoldTask
from hpo.executors.base import Executor
from hpo.executors.inline import InlineExecutor
from hpo.executors.local.executor import LocalExecutor
from hpo.models.base import WithoutStrategy

ROOT = Path(__file__).resolve().parent.parent
N_TRIALS = 1000
CNN = (
    "model=mnist_cnn",
    "dataset=digits",
    "max_epochs=2",
    "strategy=optuna_random",
    "strategy/pruner=none",
    "search_space.filters={low: 2, high: 4, step: 2, grid: null}",
    "search_space.dense_units={low: 8, high: 16, step: 8, grid: null}",
    "limits.timeout_seconds=null",
    "executor.threads_per_trial=1",
    "study=memory",
)


def milliseconds(executor: Executor, folder: Path) -> float:
    """Return the median milliseconds of a trial."""
    evaluator = Evaluator(NullModel(), dataset(), Holdout(0.2), Objective.of("val_loss"), EarlyStopping(), 0)
    executor.start(evaluator, folder)
    taken = []
    for number in range(N_TRIALS):
        began = time.perf_counter()
        executor.run(FoldTask({"a": number / N_TRIALS}, 0, 1), WithoutStrategy())
        taken.append(1000 * (time.perf_counter() - began))
    executor.stop()
    return statistics.median(taken)


def isolation() -> None:
    """Print the overhead of a worker per trial."""
    with tempfile.TemporaryDirectory() as folder:
        inline = milliseconds(InlineExecutor(1), Path(folder))
        local = milliseconds(LocalExecutor(threads_per_trial=1), Path(folder))
    more = local - inline
    print(f"median of {N_TRIALS} null trials: {inline:.3f} ms inline, {local:.3f} ms in a worker, {more:.3f} more")


def memory(n_trials: int) -> None:
    """Print memory by trial, and the driver's slope after the first fifth."""
    rows: list[tuple[int, float, float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "hpo", *CNN, f"limits.n_trials={n_trials}"]
        log = Path(folder) / "log"
        with log.open("w") as out:
            process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, env={**os.environ})
        driver = psutil.Process(process.pid)
        workers: set[int] = set()
        while process.poll() is None:
            time.sleep(0.5)
            done = log.read_text(errors="replace").count("\ntrial ") - 1  # the first such line is about all trials
            try:
                own = [w for w in driver.children() if "spawn_main" in " ".join(w.cmdline())]
                workers |= {w.pid for w in own}
                taken = max((w.memory_info().rss for w in own), default=0)
                rows.append((done, driver.memory_info().rss / 1e6, taken / 1e6, len(workers)))
            except psutil.Error:
                continue
        if process.returncode:
            print(log.read_text()[-2000:])
    last: dict[int, Any] = {done: row for done, *row in rows}
    shown = [done for done in last if done % max(1, n_trials // 10) == 0]
    print("| trials | driver, MB | worker, MB | workers so far |\n| --- | --- | --- | --- |")
    for done in shown:
        print(f"| {done} | {last[done][0]:.0f} | {last[done][1]:.0f} | {last[done][2]} |")
    warm = [(done, row[0]) for done, row in last.items() if n_trials // 5 <= done < n_trials]
    slope = float(np.polyfit(*zip(*warm, strict=True), 1)[0])
    most = max(row[2] for row in rows)
    print(f"\ndriver: {slope:.3f} MB a trial after the first {n_trials // 5}; worker: at most {most:.0f} MB")


def main() -> None:
    """Run the command; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--trials", type=int, default=200)
    parsed = parser.parse_args()
    if parsed.memory:
        memory(parsed.trials)
    else:
        isolation()


if __name__ == "__main__":
    prepare_process()
    main()
