"""Measures what failures cost: small real studies with every strategy, each with a fault at a random moment.

::

    python -m benchmarks.faults                                  every strategy with every fault, once
    python -m benchmarks.faults --faults kill_driver --repeats 4 --kills 5     each study killed up to five times
    python -m benchmarks.faults --strategies optuna,grid --faults kill_worker,nan --jobs 2

A study that was interrupted is resumed with its own command until it has finished. Its results are then compared with
MLflow's database and with a run of the same study without faults. All counts in the table should be zero; otherwise the
exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from hpo import config as configs

ROOT = Path(__file__).resolve().parent.parent
STUDY = (
    "model=random_forest",
    "model._target_=benchmarks.faulty.FaultyForest",
    "resampling=stratified_kfold",
    "resampling.n_splits=2",
    "max_epochs=4",
    "early_stopping.patience=null",
    "limits.max_consecutive_failures=null",
    "limits.timeout_seconds=3600",
    "search_space.max_features.grid=[0.3]",  # a grid of 4 points
    "study=mine",
)
N_TRIALS = {"keras_hyperband": 10, "hyperopt": 14, "grid": 4, "keras_grid": 4, "halving_grid": 4}
DRIVER_FAULTS = ("kill_driver",)
MODEL_FAULTS = ("hang", "segfault", "memory_hog", "nan", "exception")
OUTSIDE_FAULTS = ("kill_worker", "server_down_30s", "server_down", "database_locked", "disk_full")
FAULTS = (*DRIVER_FAULTS, *OUTSIDE_FAULTS, *MODEL_FAULTS)
REASONS = {
    "hang": "timeout",
    "segfault": "crashed",
    "memory_hog": "out_of_memory",
    "nan": "diverged",
    "exception": "error",
}
COUNTS = ("lost", "repeated", "running", "missing", "doubled", "orphans", "unequal", "wrong")
ORPHAN_SECONDS = 15.0
DOWN_SECONDS = 30.0
STARTING_SHARE, STARTING_SECONDS = 0.2, 8.0  # share of kills of a resumed study that come before its first record
LOCKED_SECONDS = 40.0  # longer than MLflow waits


@dataclasses.dataclass
class Audit:
    """Counts of what went wrong in a study; all are zero for a correct one.

    Args:
        lost: finished trials that are missing from the record.
        repeated: finished trials that were trained again.
        running: runs left RUNNING.
        missing, doubled: points of curves that are recorded never or twice.
        orphans: processes that outlived the driver.
        unequal: trials that differ from those of the reference run, if the strategy is reproducible.
        wrong: anything else, such as an unexpected exit code or stop reason.
        n_faults: number of faults that were injected.
    """

    lost: int = 0
    repeated: int = 0
    running: int = 0
    missing: int = 0
    doubled: int = 0
    orphans: int = 0
    unequal: int = 0
    wrong: int = 0
    n_faults: int = 1
    remarks: list[str] = dataclasses.field(default_factory=list)

    def add(self, name: str, count: int, remark: object = "") -> None:
        """Add to a count, with a remark if ``count`` is not zero."""
        setattr(self, name, getattr(self, name) + count)
        if count and remark:
            self.remarks.append(f"{name}: {remark}")

    @property
    def total(self) -> int:
        return sum(getattr(self, name) for name in COUNTS)


class Process:
    """A command of hpo and the processes that it starts."""

    def __init__(self, folder: Path, *arguments: str, fault: str = "") -> None:
        self.mark, self.folder = uuid.uuid4().hex, folder
        environment = {**os.environ, "HPO_MARK": self.mark, "FAULT": fault, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        self.log = folder / f"log-{self.mark[:6]}.txt"
        command = [sys.executable, "-m", "hpo", *arguments]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def wait(self, seconds: float = 600) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return -1

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def left(self) -> list[psutil.Process]:
        """Running processes that the driver has started, without the driver."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                alive = process.status() != psutil.STATUS_ZOMBIE and process.pid != self.process.pid
                if alive and process.environ().get("HPO_MARK") == self.mark:
                    found.append(process)
        return found

    @property
    def workers(self) -> list[psutil.Process]:
        """Worker processes."""
        found = []
        for process in self.left:
            with contextlib.suppress(psutil.Error):
                if "multiprocessing.spawn" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def audit_orphans(self, audit: Audit) -> None:
        until = time.monotonic() + ORPHAN_SECONDS
        while (left := self.left) and time.monotonic() < until:
            time.sleep(0.2)
        names = []
        for process in left:
            with contextlib.suppress(psutil.Error):
                names.append(" ".join(process.cmdline())[:80] or process.name())
                process.kill()
        audit.add("orphans", len(left), Counter(names))


def overrides(strategy: str, n_trials: int | None = None) -> list[str]:
    """Return the overrides of a study."""
    n = n_trials or N_TRIALS.get(strategy, 8)
    return [f"strategy={strategy}", *STUDY, f"limits.n_trials={n}", *_OPTIONS]


_OPTIONS = ["executor.threads_per_trial=1", "executor.trial_timeout_seconds=10", "executor.max_memory_bytes=900000000"]


# The record, read from MLflow's database.


@dataclasses.dataclass
class Stored:
    """The runs of a study: tags, status, and points by (run, metric)."""

    tags: dict[str, dict[str, str]]
    status: dict[str, str]
    points: dict[tuple[str, str], list[int]]

    @classmethod
    def read(cls, folder: Path) -> Stored:
        with contextlib.closing(sqlite3.connect(f"file:{folder}/hpo_runs/mlflow.db?mode=ro", uri=True)) as db:
            return cls.of(db)

    @classmethod
    def of(cls, db: Any, study: str | None = None) -> Stored:
        """Read the runs of one study, or all runs, from a DB-API connection."""

        def rows(query: str) -> list[tuple[Any, ...]]:
            with contextlib.closing(db.cursor()) as cursor:
                cursor.execute(query)
                return list(cursor.fetchall())

        tags: dict[str, dict[str, str]] = {}
        for run, key, value in rows("select run_uuid, key, value from tags"):
            tags.setdefault(run, {})[key] = value
        named = {t.get("hpo.study_uid") for t in tags.values() if t.get("mlflow.runName") == study}
        status = {
            run: status
            for run, status in rows("select run_uuid, status from runs where lifecycle_stage = 'active'")
            if study is None or tags[run].get("hpo.study_uid") in named
        }
        points: dict[tuple[str, str], list[int]] = {}
        for run, key, step in rows("select run_uuid, key, step from metrics"):
            points.setdefault((run, key), []).append(step)
        return cls({run: t for run, t in tags.items() if run in status}, status, points)

    @property
    def trials(self) -> dict[int, list[str]]:
        """Runs by trial number, in the order of attempts."""
        found: dict[int, list[str]] = {}
        for run, tags in self.tags.items():
            if tags.get("hpo.kind") == "trial":
                found.setdefault(int(tags["hpo.trial"]), []).append(run)
        for runs in found.values():
            runs.sort(key=lambda run: int(self.tags[run].get("hpo.attempt", 0)))
        return found

    @property
    def results(self) -> dict[int, tuple[str, str, str, str]]:
        """Params, state, stop reason and fold scores of the finished trials, by number."""
        found = {}
        for number, runs in self.trials.items():
            tags = self.tags[runs[-1]]
            if tags["hpo.state"] in ("COMPLETE", "PRUNED", "FAIL"):
                folds = [json.loads(v) for k, v in sorted(tags.items()) if k.removeprefix("hpo.fold_").isdigit()]
                scores = json.dumps([(fold["score"], fold["outcome"]["epochs_run"]) for fold in folds])
                found[number] = (tags["hpo.params"], tags["hpo.state"], tags["hpo.stop_reason"], scores)
        return found


def finished_in_outbox(folder: Path, study: str = "mine") -> set[int]:
    """Return the numbers of trials that a driver has recorded as finished."""
    found = set()
    outbox = folder / "hpo_runs" / "studies" / study / "outbox.jsonl"
    for line in outbox.read_bytes().splitlines(keepends=True) if outbox.exists() else ():
        if line.endswith(b"\n"):
            key, kind, body = json.loads(line)
            if key != "study" and kind == "end" and body["status"] in ("FINISHED", "FAILED"):
                found.add(int(key.removeprefix("trial-").partition(".")[0]))
    return found


def audit_record(stored: Stored, audit: Audit, known: set[int], n_trials: int) -> None:
    """Count what is wrong in the record of a finished study.

    Args:
        known: numbers of trials that a driver has recorded as finished.
    """
    audit.add("running", sum(status == "RUNNING" for status in stored.status.values()), stored.status)
    results = stored.results
    audit.add("lost", len(known - results.keys()), known - results.keys())
    audit.add("wrong", abs(n_trials - len(results)), f"{len(results)} finished trials of {n_trials}")
    for number, runs in stored.trials.items():
        finished = [run for run in runs if stored.tags[run]["hpo.state"] in ("COMPLETE", "PRUNED", "FAIL")]
        audit.add("repeated", max(0, len(finished) - 1), f"trial {number}")
        current = [run for run in runs if "hpo.superseded" not in stored.tags[run]]
        audit.add("repeated", abs(len(current) - 1), f"trial {number} has {len(current)} runs that count")
        if finished:
            audit_points(stored, finished[-1], audit, f"trial {number}")
    (study,) = [run for run, tags in stored.tags.items() if tags.get("hpo.kind") == "study"] or [""]
    if not study:
        audit.add("wrong", 1, "no study")
        return
    audit.add("wrong", int(stored.tags[study]["hpo.state"] != "finished"), stored.tags[study]["hpo.state"])
    audit.add("wrong", int(not stored.tags[study].get("hpo.best_model_uri")), "no model")
    audit.add("missing", int((study, "test_accuracy") not in stored.points), "no test score")
    steps = Counter(stored.points.get((study, "n_complete"), []))
    audit.add("missing", len(set(range(len(results))) - steps.keys()), f"progress {steps}")
    audit.add("doubled", sum(n - 1 for n in steps.values()), f"progress {steps}")


def audit_points(stored: Stored, run: str, audit: Audit, name: str) -> None:
    """Check that every epoch of every fold, and every mean over folds, is recorded once."""
    tags = stored.tags[run]
    folds = [json.loads(v) for k, v in tags.items() if k.removeprefix("hpo.fold_").isdigit()]
    lengths = {fold["fold"]: fold["outcome"]["epochs_run"] for fold in folds}
    wanted = {(f"fold_{fold}/val_loss", n) for fold, n in lengths.items()}
    if lengths:
        wanted |= {(metric, min(lengths.values())) for metric in ("loss", "accuracy", "val_loss", "val_accuracy")}
    for metric, n in wanted:
        steps = Counter(stored.points.get((run, metric), []))
        audit.add("missing", len(set(range(n)) - steps.keys()), f"{name} {metric} {sorted(steps)} of {n}")
        audit.add("doubled", sum(n - 1 for n in steps.values()), f"{name} {metric}")
    for metric in ("epochs_run", "total_seconds", *(["objective"] if tags["hpo.state"] == "COMPLETE" else [])):
        n = len(stored.points.get((run, metric), []))
        audit.add("missing", int(n == 0), f"{name} {metric}")
        audit.add("doubled", max(0, n - 1), f"{name} {metric}")


# The faults.


@dataclasses.dataclass
class Reference:
    """A run without injected faults: its results, and the seconds from its first record to its end."""

    results: dict[int, tuple[str, str, str, str]]
    seconds: float
    is_deterministic: bool


def first_record(process: Process, kind: str = "start", key: str = "trial") -> float:
    """Wait for the first record, and return the time."""
    outbox = process.folder / "hpo_runs" / "studies" / "mine" / "outbox.jsonl"
    while process.process.poll() is None:
        if outbox.exists() and f'["{key}' in outbox.read_text(errors="replace"):
            break
        time.sleep(0.02)
    return time.monotonic()


def reference(strategy: str, fault: str, is_deterministic: bool, store: Path) -> Reference:
    """Run a study without faults, except those of its model."""
    with workplace(store) as folder:
        process = Process(folder, *overrides(strategy), fault=fault)
        began = first_record(process)
        code = process.wait()
        if code != 0:
            raise RuntimeError(
                f"{strategy} without faults ended with exit code {code}:\n{process.log.read_text()[-3000:]}"
            )
        return Reference(Stored.read(folder).results, time.monotonic() - began, is_deterministic)


@contextlib.contextmanager
def workplace(store: Path) -> Iterator[Path]:
    """Make a temporary folder for one study, with an empty store."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        (folder / "hpo_runs").mkdir()
        shutil.copy(store, folder / "hpo_runs" / "mlflow.db")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def finish(folder: Path, strategy: str, audit: Audit, *options: str, fault: str = "") -> None:
    """Run the command of a study until the study has finished."""
    for _ in range(3):
        process = Process(folder, *overrides(strategy), *options, fault=fault)
        code = process.wait()
        process.audit_orphans(audit)
        text = process.log.read_text(errors="replace")
        if code == 0 or (code == 2 and "an unfinished study" in text):
            return
        audit.add("wrong", int("Traceback" in text), text[-1500:])
    audit.add("wrong", 1, f"the study could not be resumed ({code}): {text[-1500:]}")


def kill_driver(
    folder: Path, strategy: str, left_alone: Reference, moment: float, audit: Audit, kills: int = 1
) -> set[int]:
    """Kill the driver and each driver that resumes the study, at random moments of start-up and search."""
    rng, known = random.Random(moment), set()  # noqa: S311 no secret
    audit.n_faults = 0
    outbox = folder / "hpo_runs" / "studies" / "mine" / "outbox.jsonl"
    for number in range(kills):
        size = outbox.stat().st_size if outbox.exists() else 0
        process = Process(folder, *overrides(strategy))
        if number and rng.random() < STARTING_SHARE:
            time.sleep(rng.random() * STARTING_SECONDS)
        else:
            while process.process.poll() is None and (not outbox.exists() or outbox.stat().st_size == size):
                time.sleep(0.02)
            if not number:
                first_record(process)
            time.sleep(rng.random() * left_alone.seconds * min(1.0, 1.4 / kills))
        is_over = process.process.poll() is not None
        audit.n_faults += not is_over
        process.kill()
        process.audit_orphans(audit)
        known |= finished_in_outbox(folder)
        if is_over:
            break
    finish(folder, strategy, audit)
    return known


def kill_worker(folder: Path, strategy: str, left_alone: Reference, moment: float, audit: Audit) -> set[int]:
    process = Process(folder, *overrides(strategy))
    first_record(process)
    time.sleep(moment * left_alone.seconds * 0.5)
    for worker in process.workers[:1]:
        worker.kill()
    audit.add("wrong", abs(process.wait()), process.log.read_text(errors="replace")[-1500:])
    process.audit_orphans(audit)
    return set()


def model_fault(name: str) -> Callable[..., set[int]]:
    def run(folder: Path, strategy: str, left_alone: Reference, moment: float, audit: Audit) -> set[int]:
        process = Process(folder, *overrides(strategy), fault=name)
        audit.add("wrong", abs(process.wait()), process.log.read_text(errors="replace")[-1500:])
        process.audit_orphans(audit)
        results = Stored.read(folder).results.values()
        failed = Counter(reason for _, state, reason, _ in results if state == "FAIL")
        audit.add("wrong", int(failed[REASONS[name]] == 0 or len(failed) > 1), f"{name}: failed for {failed}")
        return set()

    return run


@contextlib.contextmanager
def server(folder: Path) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """Run an MLflow server on the study's database; yield its address and functions that start and kill it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running: list[subprocess.Popen[bytes]] = []
    address = f"http://127.0.0.1:{port}"

    def start() -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--backend-store-uri", f"sqlite:///{folder}/hpo_runs/mlflow.db", "--workers", "1"]
        command += ["--artifacts-destination", str(folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (folder / "server.log").open("a") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        running.append(process)
        until = time.monotonic() + 120
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                opener.open(f"{address}/health", timeout=1).close()
                return
            time.sleep(0.3)
        raise RuntimeError("the MLflow server did not start")

    def stop() -> None:
        while running:
            process = running.pop()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    try:
        start()
        yield address, start, stop
    finally:
        stop()


def server_fault(is_back: bool) -> Callable[..., set[int]]:
    def run(folder: Path, strategy: str, left_alone: Reference, moment: float, audit: Audit) -> set[int]:
        with server(folder) as (address, start, stop):
            process = Process(folder, *overrides(strategy), f"tracking.uri={address}")
            first_record(process)
            time.sleep(moment * left_alone.seconds)
            stop()
            if is_back:
                time.sleep(DOWN_SECONDS)
                start()
            audit.add("wrong", abs(process.wait()), process.log.read_text(errors="replace")[-1500:])
            process.audit_orphans(audit)
            known = finished_in_outbox(folder)
            if not is_back:
                start()
            sync = Process(folder, "sync", f"tracking.uri={address}")
            audit.add("wrong", abs(sync.wait()), sync.log.read_text(errors="replace")[-1500:])
            return known

    return run


def database_locked(folder: Path, strategy: str, left_alone: Reference, moment: float, audit: Audit) -> set[int]:
    process = Process(folder, *overrides(strategy))
    first_record(process)
    time.sleep(moment * left_alone.seconds)
    with contextlib.closing(sqlite3.connect(folder / "hpo_runs" / "mlflow.db", timeout=60)) as db:
        db.execute("begin exclusive")
        time.sleep(LOCKED_SECONDS)
        db.rollback()
    audit.add("wrong", abs(process.wait()), process.log.read_text(errors="replace")[-1500:])
    process.audit_orphans(audit)
    known = finished_in_outbox(folder)
    sync = Process(folder, "sync")
    audit.add("wrong", abs(sync.wait()), sync.log.read_text(errors="replace")[-1500:])
    return known


def disk_full(folder: Path, strategy: str, left_alone: Reference, moment: float, audit: Audit) -> set[int]:
    """Fill the small file system that the study records on; needs root to mount it."""
    disk = folder / "hpo_runs"
    store = (disk / "mlflow.db").read_bytes()
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=True)
    try:
        (disk / "mlflow.db").write_bytes(store)
        process = Process(folder, *overrides(strategy))
        first_record(process)
        time.sleep(moment * left_alone.seconds * 0.5)
        ballast = disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        code = process.wait()
        text = process.log.read_text(errors="replace")
        audit.add("wrong", int("Traceback" in text), text[-2500:])
        is_told = "disk" in text or "space" in text
        audit.add("wrong", int(not (code == 0 or (code == 1 and is_told))), f"{code}: {text[-1500:]}")
        process.audit_orphans(audit)
        ballast.unlink()
        known = finished_in_outbox(folder)
        finish(folder, strategy, audit)
        Process(folder, "sync").wait()
        shutil.copytree(disk, folder / "kept")
        return known
    finally:
        subprocess.run(["/bin/umount", "--lazy", str(disk)], check=True)
        if (folder / "kept").exists():
            shutil.copytree(folder / "kept", disk, dirs_exist_ok=True)


RUN: dict[str, Callable[..., set[int]]] = {
    "kill_driver": kill_driver,
    "kill_worker": kill_worker,
    "server_down_30s": server_fault(is_back=True),
    "server_down": server_fault(is_back=False),
    "database_locked": database_locked,
    "disk_full": disk_full,
    **{name: model_fault(name) for name in MODEL_FAULTS},
}


def one(
    strategy: str, fault: str, left_alone: Reference, moment: float, store: Path, keep: Path | None, kills: int = 1
) -> Audit:
    """Run one study with one fault, and audit it; its driver may be killed several times."""
    audit = Audit()
    with workplace(store) as folder:
        try:
            options = {"kills": kills} if fault in DRIVER_FAULTS else {}
            known = RUN[fault](folder, strategy, left_alone, moment, audit, **options)
            n_trials = len(left_alone.results)
            stored = Stored.read(folder)
            audit_record(stored, audit, known, n_trials)
            if left_alone.is_deterministic:
                results = stored.results
                different = [n for n in left_alone.results if results.get(n) != left_alone.results[n]]
                shown = [(results.get(n), left_alone.results[n]) for n in different[:2]]
                audit.add("unequal", len(different), f"trials {different}: {shown}")
        except Exception as error:
            audit.add("wrong", 1, f"{type(error).__name__}: {error}")
        if audit.total and keep is not None:
            shutil.copytree(folder, keep / f"{strategy}-{fault}-{moment:.3f}", dirs_exist_ok=True)
    return audit


def table(rows: dict[tuple[str, str], list[Audit]]) -> str:
    """Return a Markdown table with a row for each strategy and fault."""
    lines = [f"| strategy | fault | studies | faults | {' | '.join(COUNTS)} |", "| --- " * (4 + len(COUNTS)) + "|"]
    for (strategy, fault), audits in rows.items():
        sums = [sum(getattr(audit, name) for audit in audits) for name in COUNTS]
        n_faults = sum(audit.n_faults for audit in audits)
        lines.append(f"| {strategy} | {fault} | {len(audits)} | {n_faults} | {' | '.join(map(str, sums))} |")
    return "\n".join(lines)


def prepared_store() -> Path:
    """Return the path of an empty, migrated MLflow database."""
    from hpo.tracking.store import open_store

    folder = Path(tempfile.mkdtemp(prefix="faults-store-"))
    open_store(f"sqlite:///{folder}/mlflow.db", "prepared", folder)
    return folder / "mlflow.db"


def deterministic(strategies: Sequence[str]) -> dict[str, bool]:
    """Return which strategies are reproducible, as listed by ``python -m hpo strategies``."""
    listed = subprocess.run(
        [sys.executable, "-m", "hpo", "strategies", "--markdown"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.splitlines()
    column = [cell.strip() for cell in listed[0].split("|")].index("reproducible")
    cells = {line.split("|")[1].strip(" `"): line.split("|")[column].strip() for line in listed[2:]}
    return {name: cells[name] == "yes" for name in strategies}


def run(
    strategies: Sequence[str],
    faults: Sequence[str],
    repeats: int,
    jobs: int,
    seed: int,
    keep: Path | None,
    kills: int = 1,
) -> int:
    """Run all cases, print the table, and return the sum of its counts."""
    store, rng = prepared_store(), random.Random(seed)  # noqa: S311 no secret
    is_deterministic = deterministic(strategies)
    rows: dict[tuple[str, str], list[Audit]] = {}
    cache: dict[tuple[str, str], Reference] = {}
    with ThreadPoolExecutor(jobs) as pool:
        todo = [(s, f, rng.random()) for s in strategies for f in faults for _ in range(repeats)]
        alone = {(s, f if f in MODEL_FAULTS else "") for s, f, _ in todo}
        made = {key: pool.submit(reference, *key, is_deterministic[key[0]], store) for key in sorted(alone)}
        cache = {key: future.result() for key, future in made.items()}
        futures = [
            pool.submit(one, s, f, cache[s, f if f in MODEL_FAULTS else ""], moment, store, keep, kills)
            for s, f, moment in todo
        ]
        for (strategy, fault, moment), future in zip(todo, futures, strict=True):
            audit: Any = future.result()
            rows.setdefault((strategy, fault), []).append(audit)
            print(
                f"{strategy:16} {fault:16} at {moment:.2f}: {'correct' if not audit.total else audit.remarks}",
                flush=True,
            )
    print()
    print(table(rows))
    return sum(audit.total for audits in rows.values() for audit in audits)


def main() -> int:
    """Run the command; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", default=",".join(configs.options("strategy")))
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--kills", type=int, default=1, help="how often the driver of a study is killed")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for copies of studies with errors")
    parsed = parser.parse_args()
    strategies, faults = parsed.strategies.split(","), parsed.faults.split(",")
    return min(1, run(strategies, faults, parsed.repeats, parsed.jobs, parsed.seed, parsed.keep, parsed.kills))


if __name__ == "__main__":
    sys.exit(main())
