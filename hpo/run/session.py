"""Starts a new study or resumes a recorded one: finds its record, checks it, and opens its tracker.

The folder of a study, ``<output_path>/studies/<name>``, contains its lock (:mod:`hpo.run.lock`), ``study.json``
(:mod:`hpo.run.study_file`), its outbox, and the weights of its best trial. The definition of a study is never read from
MLflow, only compared with it (:mod:`hpo.run.resume_checks`).
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpo.errors import ConfigError, TrackingError, first_line, redact
from hpo.run.location import StoreLocation
from hpo.run.lock import require_no_live_driver, this_driver
from hpo.run.resume_checks import require_same_identity, require_unfinished
from hpo.run.study_file import StudyFile
from hpo.study.study import Study
from hpo.tracking.delivery import OutboxUploader
from hpo.tracking.outbox import OUTBOX_FILE, POSITION_FILE, STUDY, delivered_bytes, find_pending_studies
from hpo.tracking.reader import StudyRecord, find_study
from hpo.tracking.resume import RecordedStudy, load_from_mlflow, load_from_outbox
from hpo.tracking.schema import Tag
from hpo.tracking.store import STORE_ERRORS, store_exists
from hpo.tracking.writer import Tracker


@dataclass(frozen=True)
class Session:
    """What a runner needs to write the record of a study.

    Args:
        tracker: writes the record.
        recorded: the record of a study that is resumed; None for a new one.
        changes: the differences from the recorded study, if the user resumes it in spite of them.
    """

    tracker: Tracker
    recorded: RecordedStudy | None
    changes: str | None


def reserve_name(location: StoreLocation, wanted: str) -> str:
    """Create the folder of a new study and return its name: ``wanted``, with a number if that is taken.

    Raises:
        TrackingError: when the folder cannot be created.
        ConfigError: when too many studies have that name.
    """
    for number in range(1, 10_000):
        name = wanted if number == 1 else f"{wanted}-{number}"
        try:
            location.folder(name).mkdir(parents=True)
            return name
        except FileExistsError:
            continue
        except OSError as error:
            expected = f"a folder that can be written to ({error.strerror})"
            fix = "tracking.output_path=another"
            raise TrackingError("tracking.output_path", location.output_path, expected, fix) from error
    raise ConfigError("study", wanted, "a name that no study has", "study=another")


def find_tags(location: StoreLocation, name: str) -> Mapping[str, str]:
    """The tags of a recorded study, empty for a new one; pending records of its outbox are delivered first.

    Raises:
        TrackingError: when the store does not answer and ``offline`` is ``refuse``.
    """
    if not store_exists(location.uri):
        return {}
    try:
        found = _find(location, name)
        return found.tags if found else {}
    except TrackingError:
        if location.offline == "refuse":
            raise
        recorded = load_from_outbox(location.folder(name), (), 1)
        return recorded.tags if recorded else {}


def _find(location: StoreLocation, name: str) -> StudyRecord | None:
    client, experiment_id = location.connect()
    folder = location.folder(name)
    saved = StudyFile.read(folder)
    try:
        if folder in find_pending_studies(location.output_path):
            deliver(location, folder)
        found = find_study(client, experiment_id, name, saved.uid) if saved else None
        return found or find_study(client, experiment_id, name)
    except STORE_ERRORS as error:
        expected = f"an MLflow store that answers ({first_line(error)})"
        raise TrackingError("tracking.uri", redact(location.uri), expected, "try again when it does") from error


def deliver(location: StoreLocation, folder: Path) -> int:
    """Deliver the pending records of a study's outbox, and return their number.

    Raises:
        ConfigError: when the study belongs to another store.
        Exception: any error of MLflow or the network.
    """
    saved = StudyFile.read(folder)
    if saved is None:
        expected = "a folder with study.json, which says where its records belong"
        raise ConfigError("tracking.output_path", folder, expected, "resume the study with its command line")
    if not _belongs_to(folder, location):
        expected = f"the store of study {folder.name}, {saved.store}, or where that has moved to"
        raise ConfigError("tracking.uri", redact(location.uri), expected, "tracking.uri=… tracking.experiment=…")
    return OutboxUploader(folder, saved.uid, location.connect).deliver()


def _belongs_to(folder: Path, location: StoreLocation) -> bool:
    """Whether the study in ``folder`` is recorded in that store, also if the store has moved to another URI."""
    saved = StudyFile.read(folder)
    if saved is None or saved.store == location.store:
        return True
    uploader = OutboxUploader(folder, saved.uid, location.connect)
    if delivered_bytes(folder) and uploader.run_id(STUDY) is None:
        return False
    replace(saved, store=location.store).write(folder)
    return True


def open_session(
    study: Study,
    location: StoreLocation,
    overrides: Sequence[str],
    is_named: bool,
    is_forced: bool,
    say: Callable[[str], None],
) -> Session:
    """Start a study, or resume the recorded one; the caller holds its lock.

    Args:
        overrides: the command line that defines the study, to be saved for ``resume``.
        is_named: whether the user gave the name, which may be that of a recorded study.
        is_forced: whether to resume a study with another identity.
        say: receives messages about the store; see :class:`hpo.tracking.writer.Tracker`.

    Raises:
        ConfigError: when the study is finished, has another identity, or is being run elsewhere.
        TrackingError: when the store does not answer and ``offline`` is ``refuse``.
    """
    folder = location.folder(study.name)
    _require_own_folder(folder, location, study.name)
    recorded = _load_record(study, location, is_named, say)
    changes = None
    if recorded is not None:
        changes = require_same_identity(study, recorded, is_forced)
        require_unfinished(study, recorded)
    else:
        _set_old_outbox_aside(folder)
    uid = _uid_of(recorded, folder)
    StudyFile(uid, location.store, overrides).write(folder)
    return Session(Tracker(folder, uid, location.connect, say, json.dumps(this_driver())), recorded, changes)


def _require_own_folder(folder: Path, location: StoreLocation, name: str) -> None:
    """Refuse a folder of a study with the same name in another store."""
    if not _belongs_to(folder, location):
        saved = StudyFile.read(folder)
        store = saved.store if saved else "unknown"
        expected = f"a name that {location.output_path} does not have for another store, {store}"
        raise ConfigError("study", name, expected, "study=another, or tracking.output_path=another")


def _load_record(
    study: Study, location: StoreLocation, is_named: bool, say: Callable[[str], None]
) -> RecordedStudy | None:
    """The record of a study with that name, from MLflow or, if that is allowed and it does not answer, from disk."""
    try:
        if not is_named:
            location.connect()
            return None
        found = _find(location, study.name)
    except TrackingError:
        if location.offline == "refuse":
            raise
        say("MLflow does not answer; the records wait on disk (python -m hpo sync delivers them)")
        return load_from_outbox(location.folder(study.name), study.evaluator.metric_names, study.evaluator.n_folds)
    if found is None:
        return None
    require_no_live_driver(study.name, found)
    return _load_found(study, location, found)


def _load_found(study: Study, location: StoreLocation, found: StudyRecord) -> RecordedStudy:
    """Load a record from its outbox, which is fast, unless a driver elsewhere has resumed the study since."""
    names, n_folds = study.evaluator.metric_names, study.evaluator.n_folds
    local = load_from_outbox(location.folder(study.name), names, n_folds)
    sessions = [tags.get(Tag.N_RESUMED, "0") for tags in (found.tags, local.tags if local else {})]
    if local is not None and sessions[0] == sessions[1]:
        return replace(local, tags={**local.tags, Tag.STUDY_UID: found.tags[Tag.STUDY_UID]})
    client, _ = location.connect()
    return load_from_mlflow(client, found, names, n_folds)


def _uid_of(recorded: RecordedStudy | None, folder: Path) -> str:
    if recorded is None:
        return uuid.uuid4().hex
    saved = StudyFile.read(folder)
    return recorded.tags.get(Tag.STUDY_UID) or (saved.uid if saved else uuid.uuid4().hex)


def _set_old_outbox_aside(folder: Path) -> None:
    """Rename the outbox of a study that was deleted in MLflow, so that the new study does not deliver it."""
    outbox = folder / OUTBOX_FILE
    (folder / POSITION_FILE).unlink(missing_ok=True)
    if outbox.exists() and outbox.stat().st_size:
        outbox.rename(folder / f"outbox-{int(time.time())}.jsonl")
