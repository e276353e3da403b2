"""Measures what thousands of trials cost the driver, compared with Ray Tune and with Optuna on PostgreSQL.

::

    python -m benchmarks.scale                                      1,000, 3,000 and 10,000 null trials, everything
    python -m benchmarks.scale --engines local,optuna --trials 1000,4000
    python -m benchmarks.scale --sampler tpe --engines local,optuna --trials 300,1000
    python -m benchmarks.scale --seconds 1 --trials 200 --workers 8    trials that sleep: idle time of workers

Engines: ``local`` and ``ray`` are hpo with that executor, recording in MLflow on SQLite. ``tune`` is Ray Tune with
reused actors, recording in files, and ``tune_mlflow`` the same with Ray's MLflow callback on SQLite. ``optuna`` is
``study.optimize`` on PostgreSQL, which is started here and needs psycopg2.

Trials have five float parameters and compute nothing. Only the CPU time of the driver is counted, not that of its
workers, of Ray's processes or of the database. It is measured from the end of the first trial until everything is
recorded; for hpo that is the end of the process, after delivery to MLflow, tables, plots and the best model.
``last/first`` divides the cost of a trial in the last fifth of the search by that in the first fifth.

Exit code 1 if a trial of the largest search costs more than 1.5 times as much as one of the smallest, or at least as
much as a trial of Ray Tune.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.null import NAMES, value

ROOT = Path(__file__).resolve().parent.parent
ENGINES = ("local", "ray", "tune", "tune_mlflow", "optuna")
OURS = ("local", "ray")
MOST_GROWTH = 1.5
SAMPLE_SECONDS = 0.1
TUNE_VALUE = "value"


@dataclass(frozen=True)
class Job:
    """One search.

    Args:
        seconds: how long a trial sleeps.
        storage: URL of Optuna's storage.
    """

    engine: str
    n_trials: int
    workers: int
    seconds: float
    sampler: str
    storage: str = ""


@dataclass(frozen=True)
class Mark:
    """Progress of a search: number of ended trials, wall seconds, CPU seconds of the driver."""

    n: int
    wall: float
    cpu: float


@dataclass(frozen=True)
class Figures:
    """Measurements of a search.

    Args:
        began: wall seconds at the start of the first trial.
        marks: progress at the end of some trials.
        end: progress when everything was recorded.
    """

    job: Job
    began: float
    marks: Sequence[Mark]
    end: Mark

    @property
    def _n(self) -> int:
        return self.marks[-1].n - self.marks[0].n

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds of the driver per trial, until everything is recorded."""
        return 1000 * (self.end.cpu - self.marks[0].cpu) / self._n

    @property
    def search_cpu_ms(self) -> float:
        """CPU milliseconds of the driver per trial, until the last trial has ended."""
        return 1000 * (self.marks[-1].cpu - self.marks[0].cpu) / self._n

    @property
    def wall_ms(self) -> float:
        """Wall milliseconds per trial, until everything is recorded."""
        return 1000 * (self.end.wall - self.marks[0].wall) / self._n

    @property
    def throughput(self) -> float:
        """Trials per second during the search."""
        return self._n / (self.marks[-1].wall - self.marks[0].wall)

    @property
    def between_ms(self) -> float:
        """Mean milliseconds that a worker is idle between two trials."""
        took = self.marks[-1].wall - self.began
        return 1000 * (took * self.job.workers / self.job.n_trials - self.job.seconds)

    @property
    def growth(self) -> float:
        """CPU time per trial in the last fifth of the search, divided by that in the first fifth."""
        first = [m for m in self.marks if m.n <= self.job.n_trials / 5] or self.marks[:2]
        last = [m for m in self.marks if m.n >= self.job.n_trials * 4 / 5]
        costs = [(part[-1].cpu - part[0].cpu) / max(1, part[-1].n - part[0].n) for part in (first, last)]
        return costs[1] / costs[0] if costs[0] else 0.0


# hpo, as a command.


def overrides(job: Job) -> list[str]:
    """Return the overrides of a study."""
    strategy = ["strategy=random"]
    if job.sampler == "tpe":
        strategy = ["strategy=optuna", "strategy/pruner=none", "strategy.default_first=false"]
    return [
        f"--config-dir={ROOT / 'benchmarks' / 'conf'}",
        *("model=nothing", f"model.seconds={job.seconds}", *strategy, f"limits.n_trials={job.n_trials}"),
        *(f"executor={job.engine}", f"executor.workers={job.workers}", "executor.threads_per_trial=1"),
        *("limits.timeout_seconds=null", "study=scale"),
    ]


def run_hpo(job: Job, folder: Path) -> Figures:
    """Run a study, and measure its process and its outbox from outside."""
    outbox, log = folder / "hpo_runs" / "studies" / "scale" / "outbox.jsonl", folder / "log"
    began: float | None = None
    marks: list[Mark] = []
    n, position, rest = 0, 0, b""
    with log.open("w") as out:
        command = [sys.executable, "-m", "hpo", *overrides(job)]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, env=_environment())
    driver = psutil.Process(process.pid)
    last = Mark(0, 0.0, 0.0)
    while process.poll() is None:
        time.sleep(SAMPLE_SECONDS)
        try:
            times = driver.cpu_times()
        except psutil.Error:
            break
        last = Mark(n, time.monotonic(), times.user + times.system)
        if not outbox.exists():
            continue
        with outbox.open("rb") as file:
            file.seek(position)
            recorded = rest + file.read()
            position = file.tell()
        *lines, rest = recorded.split(b"\n")
        kinds = [line.split(b", ", 2)[1] for line in lines if line.startswith(b'["trial-')]
        if began is None and kinds:
            began = last.wall
        if ended := kinds.count(b'"end"'):
            n += ended
            marks.append(Mark(n, last.wall, last.cpu))
    if process.wait() or n != job.n_trials or began is None:
        raise SystemExit(f"{job}: {n} trials, exit code {process.returncode}\n{log.read_text()[-2000:]}")
    return Figures(job, began, marks, last)


def _environment() -> dict[str, str]:
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


# The other libraries, each in its own process that prints its measurements.


class Clock:
    """Records the progress 50 times during a search."""

    def __init__(self, n_trials: int) -> None:
        self._every, self.began = max(1, n_trials // 50), 0.0
        self.n = 0
        self.marks: list[Mark] = []

    def begin(self) -> None:
        """Note the start of a trial."""
        self.began = self.began or time.monotonic()

    def end(self) -> None:
        """Note the end of a trial."""
        self.n += 1
        if self.n == 1 or self.n % self._every == 0:
            self.marks.append(self.now())

    def now(self) -> Mark:
        return Mark(self.n, time.monotonic(), time.process_time())


def optuna_alone(job: Job, clock: Clock) -> None:
    """Run ``study.optimize`` on a database."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    samplers = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}
    study = optuna.create_study(storage=job.storage or None, sampler=samplers[job.sampler](seed=0))

    def objective(trial: optuna.Trial) -> float:
        clock.begin()
        params = {name: trial.suggest_float(name, 0.0, 1.0) for name in NAMES}
        time.sleep(job.seconds)
        return value(params)

    study.optimize(objective, n_trials=job.n_trials, n_jobs=job.workers, callbacks=[lambda *_: clock.end()])


def tune_alone(job: Job, clock: Clock) -> None:
    """Run ``Tuner.fit`` on a local Ray cluster."""
    import logging

    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    class Null(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.params = config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.params = new_config
            return True

        def step(self) -> dict[str, Any]:
            time.sleep(job.seconds)
            return {TUNE_VALUE: value(self.params), "done": True}

    class ClockCallback(tune.Callback):
        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            clock.begin()

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            clock.end()

    callbacks: list[tune.Callback] = [ClockCallback()]
    if job.engine == "tune_mlflow":
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        store = f"sqlite:///{Path.cwd() / 'mlflow.db'}"
        callbacks.append(MLflowLoggerCallback(tracking_uri=store, experiment_name="tune"))
    # "local" starts a new cluster and never connects to a running one.
    ray.init("local", num_cpus=job.workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        with tempfile.TemporaryDirectory(prefix="scale-tune-") as folder:
            tune.Tuner(
                Null,
                param_space={name: tune.uniform(0.0, 1.0) for name in NAMES},
                tune_config=tune.TuneConfig(
                    metric=TUNE_VALUE,
                    mode="min",
                    num_samples=job.n_trials,
                    max_concurrent_trials=job.workers,
                    reuse_actors=True,
                    search_alg=OptunaSearch() if job.sampler == "tpe" else None,
                ),
                run_config=tune.RunConfig(
                    storage_path=folder,
                    verbose=0,
                    callbacks=callbacks,
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()
    finally:
        ray.shutdown()


ALONE = {"optuna": optuna_alone, "tune": tune_alone, "tune_mlflow": tune_alone}


def run_alone(job: Job, folder: Path) -> Figures:
    """Run another library in its own process."""
    command = [sys.executable, "-m", "benchmarks.scale", "--alone", json.dumps(vars(job))]
    done = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{job}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    printed = json.loads(done.stdout.splitlines()[-1])
    return Figures(job, printed["began"], [Mark(*mark) for mark in printed["marks"]], Mark(*printed["end"]))


def alone(job: Job) -> None:
    """Run another library in this process, which :func:`run_alone` starts."""
    clock = Clock(job.n_trials)
    ALONE[job.engine](job, clock)
    marks = [[mark.n, mark.wall, mark.cpu] for mark in clock.marks]
    end = clock.now()
    print(json.dumps({"began": clock.began, "marks": marks, "end": [end.n, end.wall, end.cpu]}))


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Run a PostgreSQL server during the block; yield the URL of an empty database."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which("initdb") or (binaries and binaries[-1] / "initdb")
    if not found:
        raise SystemExit("engine optuna needs PostgreSQL: initdb is neither on the path nor in /usr/lib/postgresql")
    is_root = os.geteuid() == 0  # the server refuses to run as root
    as_user = ["runuser", "-u", "postgres", "--"] if is_root else []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="scale-pg-") as name:
        if is_root:
            os.chown(name, pwd.getpwnam("postgres").pw_uid, -1)
        data, control = f"{name}/data", str(Path(found).with_name("pg_ctl"))
        options = {"cwd": name, "check": True, "stdout": subprocess.DEVNULL}
        # No password is needed: the server listens on loopback only and holds no data.
        subprocess.run([*as_user, str(found), "-D", data, "-U", "scale", "-A", "trust", "-N"], **options)
        listen = f"-h 127.0.0.1 -p {port} -k {name}"
        subprocess.run([*as_user, control, "-D", data, "-l", f"{name}/log", "-o", listen, "-w", "start"], **options)
        try:
            yield f"postgresql+psycopg2://scale@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*as_user, control, "-D", data, "-m", "immediate", "-w", "stop"], **options)


def measure(job: Job) -> Figures:
    """Run one search in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder, contextlib.ExitStack() as stack:
        if job.engine in OURS:
            return run_hpo(job, Path(folder))
        storage = stack.enter_context(postgresql()) if job.engine == "optuna" else ""
        return run_alone(Job(**{**vars(job), "storage": storage}), Path(folder))


NULL_COLUMNS = (
    "CPU per trial, ms",
    "during the search, ms",
    "last/first",
    "wall per trial, ms",
    "trials/s of the search",
)
SLEEP_COLUMNS = ("CPU per trial, ms", "idle between trials, ms", "wall per trial, ms")


def row(figures: Figures, is_asleep: bool) -> str:
    """Return a row of the table."""
    f = figures
    cells = [f.job.engine, f"{f.job.n_trials:,}", f"{f.cpu_ms:.1f}"]
    if is_asleep:
        cells += [f"{f.between_ms:.0f}", f"{f.wall_ms:.0f}"]
    else:
        cells += [f"{f.search_cpu_ms:.1f}", f"{f.growth:.2f}", f"{f.wall_ms:.1f}", f"{f.throughput:.1f}"]
    return f"| {' | '.join(cells)} |"


def broken(found: Sequence[Figures]) -> list[str]:
    """Return a line for every bound that is exceeded; engines that were not run have no bounds."""
    lines = []
    for engine in OURS:
        own = sorted((f for f in found if f.job.engine == engine), key=lambda f: f.job.n_trials)
        if len(own) > 1 and own[-1].cpu_ms > MOST_GROWTH * own[0].cpu_ms:
            sizes = f"{own[-1].job.n_trials:,} trials cost {own[-1].cpu_ms:.1f} ms each, {own[0].job.n_trials:,}"
            lines.append(f"{engine}: {sizes} {own[0].cpu_ms:.1f} ms")
        for each in own:
            for peer in (f for f in found if f.job.engine == "tune" and f.job.n_trials == each.job.n_trials):
                if each.cpu_ms >= peer.cpu_ms:
                    costs = f"{each.cpu_ms:.1f} ms, with Ray Tune {peer.cpu_ms:.1f} ms"
                    lines.append(f"{engine}: a trial of {each.job.n_trials:,} costs {costs}")
    return lines


def main() -> int:
    """Run the command; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default=",".join(ENGINES), help="comma-separated engines")
    parser.add_argument("--trials", default="1000,3000,10000", help="comma-separated numbers of trials")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.0, help="how long a trial sleeps")
    parser.add_argument("--sampler", choices=("random", "tpe"), default="random")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        alone(Job(**json.loads(options.alone)))
        return 0
    engines = options.engines.split(",")
    if unknown := set(engines) - set(ENGINES):
        parser.error(f"--engines: {', '.join(unknown)}; there are {', '.join(ENGINES)}")
    columns = SLEEP_COLUMNS if options.seconds else NULL_COLUMNS
    print(f"{options.sampler}, {options.workers} workers, {options.seconds:g} s per trial\n")
    print(f"| engine | trials | {' | '.join(columns)} |\n|{' --- |' * (2 + len(columns))}")
    found = []
    for n_trials in map(int, options.trials.split(",")):
        for engine in engines:
            figures = measure(Job(engine, n_trials, options.workers, options.seconds, options.sampler))
            found.append(figures)
            print(row(figures, options.seconds > 0), flush=True)
    lines = broken(found)
    for line in lines:
        print(f"bound exceeded: {line}")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
