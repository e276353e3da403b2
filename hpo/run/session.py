"""A driver's session with a study: one driver at a time, on a new study or on one that was stopped.

The folder of a study, ``<output_path>/studies/<name>``, holds a lock, ``study.json`` (the command line, for
``resume``), the outbox, and the weights of the best trial. What defines a study is never taken from MLflow: there it is
only compared.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from hpo.core.limits import Limits
from hpo.errors import ConfigError, TrackingError, redact
from hpo.run.metadata import driver
from hpo.run.result import StopCause
from hpo.study.identity import describe_differences
from hpo.study.study import Study
from hpo.tracking.delivery import OutboxUploader
from hpo.tracking.outbox import STUDY, delivered_bytes, undelivered
from hpo.tracking.reader import StudyRecord, find_study
from hpo.tracking.resume import RecordedStudy, load_from_mlflow, load_from_outbox
from hpo.tracking.schema import Artifact, Tag
from hpo.tracking.store import STORE_ERRORS, open_store, store_exists
from hpo.tracking.writer import Tracker

# A driver on another machine that was not heard of for so long is dead: it says so four times as often.
DEAD_SECONDS = 120.0
OFFLINE = ("refuse", "allow")


@dataclass(frozen=True)
class StoreLocation:
    """Where a study is recorded: the options of ``tracking``.

    Args:
        offline: whether a study may begin while the store does not answer: ``refuse`` or ``allow``.
    """

    uri: str
    experiment: str
    output_path: Path
    offline: str = "refuse"

    @classmethod
    def of(cls, tracking: Mapping[str, Any]) -> StoreLocation:
        """From the config.

        Raises:
            ConfigError: for an unknown ``offline``.
        """
        if tracking["offline"] not in OFFLINE:
            raise ConfigError("tracking.offline", tracking["offline"], "refuse or allow", "tracking.offline=allow")
        return cls(tracking["uri"], tracking["experiment"], Path(tracking["output_path"]), tracking["offline"])

    def folder(self, name: str) -> Path:
        """Of the study with that name."""
        return self.output_path / "studies" / name

    def connect(self) -> tuple[Any, str]:
        """The client and the experiment's id; see :func:`hpo.tracking.open_store`."""
        try:
            return open_store(self.uri, self.experiment, self.output_path)
        except TrackingError as error:
            if self.offline == "allow":
                raise
            fix = f"{error.fix}, or tracking.offline=allow, which records on disk until it answers"
            raise TrackingError(error.key, error.value, error.expected, fix) from error

    @property
    def store(self) -> str:
        """The store in words, without a password."""
        return f"{redact(self.uri)} {self.experiment}"


@dataclass(frozen=True)
class Session:
    """What a runner needs to write a study's record, and to go on with it.

    Args:
        changes: what differs from the recorded study, where that was forced.
    """

    tracker: Tracker
    recorded: RecordedStudy | None
    changes: str | None


def free_name(where: StoreLocation, wanted: str) -> str:
    """``wanted``, or with a number where another study has it: a name that nobody chose must collide with none."""
    for number in range(1, 10_000):
        name = wanted if number == 1 else f"{wanted}-{number}"
        try:
            where.folder(name).mkdir(parents=True)
            return name
        except FileExistsError:
            continue
        except OSError as error:
            expected = f"a folder that can be written to ({error.strerror})"
            fix = "tracking.output_path=another"
            raise TrackingError("tracking.output_path", where.output_path, expected, fix) from error
    raise ConfigError("study", wanted, "a name that is free", "study=another")


@contextmanager
def claim(folder: Path, name: str) -> Iterator[None]:
    """Be the one driver of a study. The lock ends with its process, however that ends.

    Raises:
        ConfigError: naming the process that has it.
        TrackingError: when the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise _held(name, _read_json(folder / "driver.json")) from None
    except OSError as error:
        expected = f"a folder that can be written to ({error.strerror})"
        raise TrackingError("tracking.output_path", folder, expected, "tracking.output_path=another") from error
    try:
        _write_json(folder / "driver.json", driver())
        yield
    finally:
        if not any((folder / name).exists() for name in ("study.json", "outbox.jsonl")):
            shutil.rmtree(folder, ignore_errors=True)  # it was refused before it began
        lock.release()


def _held(name: str, holder: Mapping[str, Any]) -> ConfigError:
    who = f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'this machine')}"
    if "created" in holder:
        who += f", started {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(holder['created']))}"
    return ConfigError(
        "study",
        name,
        f"a study that nobody else is running: {who} has it",
        f"wait for it, end it (kill {holder.get('pid', 'PID')}), or study=another",
    )


def look_up(where: StoreLocation, name: str) -> Mapping[str, str]:
    """The tags of a study that there is, empty for a new one; what waits in its outbox is delivered first.

    Raises:
        TrackingError: when the store does not answer and that is not allowed.
    """
    if not store_exists(where.uri):
        return {}
    try:
        found = _find(where, name)
        return found.tags if found else {}
    except TrackingError:
        if where.offline == "refuse":
            raise
        recorded = load_from_outbox(where.folder(name), (), 1)
        return recorded.tags if recorded else {}


def _find(where: StoreLocation, name: str) -> StudyRecord | None:
    client, experiment_id = where.connect()
    folder = where.folder(name)
    uid = _read_json(folder / "study.json").get("uid")
    try:
        if folder in undelivered(where.output_path):
            deliver(where, folder)
        found = find_study(client, experiment_id, name, uid) if uid else None
        return found or find_study(client, experiment_id, name)
    except STORE_ERRORS as error:
        expected = f"an MLflow store that answers ({redact(str(error).splitlines()[0])[:200]})"
        raise TrackingError("tracking.uri", redact(where.uri), expected, "try again when it does") from error


def deliver(where: StoreLocation, folder: Path) -> int:
    """Deliver what waits in the outbox of a study, and return the number of records.

    Raises:
        ConfigError: when the study belongs to another store.
        Exception: whatever MLflow or the network raises.
    """
    known = _read_json(folder / "study.json")
    if not _is_its_store(folder, where):
        expected = f"the store that study {folder.name} belongs to, {known.get('store')}, or where that has moved to"
        raise ConfigError("tracking.uri", redact(where.uri), expected, "tracking.uri=… tracking.experiment=…")
    return OutboxUploader(folder, str(known["uid"]), where.connect).deliver()


def _is_its_store(folder: Path, where: StoreLocation) -> bool:
    """Whether the study in ``folder`` is recorded there: by name or, where the store has moved, by what it holds."""
    known = _read_json(folder / "study.json")
    if not known or known.get("store") == where.store:
        return True
    courier = OutboxUploader(folder, str(known["uid"]), where.connect)
    if delivered_bytes(folder) and courier.run_id(STUDY) is None:
        return False
    _write_json(folder / "study.json", {**known, "store": where.store})
    return True


def open_session(
    study: Study,
    where: StoreLocation,
    overrides: Sequence[str],
    is_named: bool,
    is_forced: bool,
    say: Callable[[str], None],
) -> Session:
    """Begin a study, or go on with one that was stopped; to be called by whoever has claimed it.

    Args:
        overrides: the command line, as it is to be kept for ``resume``.
        is_named: whether the user gave the name, which may be that of a study there is.
        is_forced: whether to go on with a study that something defining has changed of.
        say: see :class:`hpo.tracking.Tracker`.

    Raises:
        ConfigError: when the study has finished, is another one, or is being run elsewhere.
        TrackingError: when the store does not answer and that is not allowed.
    """
    folder = where.folder(study.name)
    _require_own_folder(folder, where, study.name)
    recorded = None
    try:
        found = _find(where, study.name) if is_named else None
        if not is_named:
            where.connect()
    except TrackingError:
        if where.offline == "refuse":
            raise
        say("MLflow does not answer; the records wait on disk (python -m hpo sync delivers them)")
        recorded = load_from_outbox(folder, study.evaluator.metric_names, study.evaluator.n_folds)
    else:
        if found is not None:
            _require_dead_driver(study.name, found)
            recorded = _recorded(study, where, found)
    changes = None
    if recorded is not None:
        changes = _changes(study, recorded)
        if changes and not is_forced:
            raise ConfigError(
                "study",
                study.name,
                f"a study that is defined as this one; it differs in\n{changes}",
                "the same command as before, another name (study=…), or --force-resume to go on all the same",
            )
        _require_open_end(study, recorded)
    else:
        _put_aside(folder)
    uid = recorded.tags[Tag.STUDY_UID] if recorded and Tag.STUDY_UID in recorded.tags else None
    uid = uid or (str(_read_json(folder / "study.json")["uid"]) if recorded else uuid.uuid4().hex)
    known = {"uid": uid, "store": where.store, "overrides": [redact(override) for override in overrides]}
    _write_json(folder / "study.json", known)
    return Session(Tracker(folder, uid, where.connect, say, json.dumps(driver())), recorded, changes)


def _recorded(study: Study, where: StoreLocation, found: StudyRecord) -> RecordedStudy:
    """The record of a study: from its outbox, which is quick to read, where no driver elsewhere has gone on with it."""
    names, n_folds = study.evaluator.metric_names, study.evaluator.n_folds
    here = load_from_outbox(where.folder(study.name), names, n_folds)
    sessions = [tags.get(Tag.N_RESUMED, "0") for tags in (found.tags, here.tags if here else {})]
    if here is not None and sessions[0] == sessions[1]:
        return replace(here, tags={**here.tags, Tag.STUDY_UID: found.tags[Tag.STUDY_UID]})
    client, _ = where.connect()
    return load_from_mlflow(client, found, names, n_folds)


def _require_own_folder(folder: Path, where: StoreLocation, name: str) -> None:
    """Two stores may have studies of one name, but not in one folder."""
    if not _is_its_store(folder, where):
        raise ConfigError(
            "study",
            name,
            f"a name that {where.output_path} does not have for another store, "
            f"{_read_json(folder / 'study.json').get('store')}",
            "study=another, or tracking.output_path=another",
        )


def _require_dead_driver(name: str, found: StudyRecord) -> None:
    """The lock tells of drivers in the same folder; the record of those elsewhere."""
    if found.state != "running" or Tag.DRIVER not in found.tags:
        return
    holder = json.loads(found.tags[Tag.DRIVER])
    if holder["host"] == socket.gethostname():
        try:
            process = psutil.Process(holder["pid"])
            is_alive = round(process.create_time()) == holder["created"] and process.pid != os.getpid()
        except psutil.Error:
            is_alive = False
    else:
        seen = float(found.tags.get(Tag.DRIVER_SEEN, found.started))
        is_alive = time.time() - seen < DEAD_SECONDS
    if is_alive:
        raise _held(name, holder)


def _changes(study: Study, recorded: RecordedStudy) -> str | None:
    """What has changed in the study's identity since it was recorded, a line for each key; None if nothing has."""
    if recorded.tags.get(Tag.FINGERPRINT) == study.fingerprint:
        return None
    lines = describe_differences(json.loads(recorded.texts(Artifact.IDENTITY)), study.identity)
    return "\n".join(f"    {line}" for line in lines) or None


def _require_open_end(study: Study, recorded: RecordedStudy) -> None:
    """A study that has finished goes on only with a higher limit."""
    if recorded.tags.get(Tag.STATE) != "finished":
        return
    ended_by, limits = recorded.tags.get(Tag.ENDED_BY), study.definition.limits
    n_finished = sum(each.trial.state.is_finished for each in recorded.trials)
    has_model = study.evaluator.has_model
    if has_model and recorded.tags.get(Tag.BEST_TRIAL) and not recorded.tags.get(Tag.BEST_MODEL_URI):
        return  # its winner could not be tested or logged
    reached = {
        StopCause.N_TRIALS: ("n_trials", limits.n_trials, n_finished),
        StopCause.TIMEOUT: (
            "timeout_seconds",
            limits.timeout_seconds,
            float(recorded.tags.get(Tag.SPENT_SECONDS, 0)),
        ),
        StopCause.MAX_EPOCHS: (
            "max_epochs_total",
            limits.max_epochs_total,
            int(recorded.tags.get(Tag.SPENT_EPOCHS, 0)),
        ),
    }
    if ended_by not in reached:
        expected = "a study that is not finished: there is nothing left for its strategy to try"
        raise ConfigError("study", study.name, expected, "study=another for another search")
    name, limit, done = reached[StopCause(ended_by)]
    if limit is not None and limit <= done:
        expected = f"a study that is not finished, or a higher limits.{name}: it has ended with {done:g}"
        raise ConfigError("study", study.name, expected, f"limits.{name}={_more(name, done, limits)}, or study=another")


def _more(name: str, done: float, limits: Limits) -> int:
    return int(done) + max(1, int(getattr(limits, name) or 10))


def _put_aside(folder: Path) -> None:
    """The outbox of a study that MLflow has no longer, since it was deleted there."""
    outbox = folder / "outbox.jsonl"
    (folder / "delivered").unlink(missing_ok=True)
    if outbox.exists() and outbox.stat().st_size:
        outbox.rename(folder / f"outbox-{int(time.time())}.jsonl")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    partial = path.with_name(f"partial-{path.name}")
    try:
        partial.write_text(json.dumps(value, indent=2), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        expected = f"a folder that takes files ({error.strerror})"
        raise TrackingError("tracking.output_path", path.parent, expected, "free some space") from error


def remembered(where: StoreLocation, name: str) -> list[str]:
    """The command line of a study in this output folder.

    Raises:
        ConfigError: when there is no such study here.
    """
    known = _read_json(where.folder(name) / "study.json")
    if "overrides" not in known:
        here = sorted(path.parent.name for path in (where.output_path / "studies").glob("*/study.json"))
        raise ConfigError(
            "study",
            name,
            f"a study that was begun in {where.output_path}: {', '.join(here[:5]) or 'there is none'}",
            f"its own command line with study={name}, which goes on with it wherever it was begun",
        )
    return [str(override) for override in known["overrides"]]


def is_running(folder: Path) -> bool:
    """Whether a driver of this machine has the study in ``folder``."""
    if not (folder / "lock").exists():
        return False
    lock = FileLock(folder / "lock", timeout=0)
    try:
        with lock:
            return False
    except Timeout:
        return True
