"""Records the metadata of a study when it starts and when it is resumed: tags, params, dataset and config."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import yaml

from hpo.core.mappings import flattened
from hpo.core.space import SearchSpace
from hpo.run.lock import this_driver
from hpo.study.identity import MUTABLE
from hpo.study.study import Study
from hpo.tracking.outbox import STUDY
from hpo.tracking.resume import RecordedStudy
from hpo.tracking.schema import Artifact, Tag, limit_tag, objective_tag
from hpo.tracking.writer import DatasetRecord, Tracker


def hardware() -> str:
    """Processor and number of cores of this machine: only studies with equal hardware are compared by time."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {psutil.cpu_count()} cores"


def record_start(
    study: Study, tracker: Tracker, overrides: Sequence[str], recorded: RecordedStudy | None, changes: str | None
) -> None:
    """Start the run of a new study, or reopen that of a recorded one.

    Args:
        overrides: the command line that defines the study.
        recorded: the record of a study that is resumed; None for a new one.
        changes: the differences from the recorded study, if the user resumes it in spite of them.
    """
    may_change = {
        Tag.STATE: "running",
        Tag.ENDED_BY: "",
        Tag.PROBLEMS: "",
        Tag.DRIVER: json.dumps(this_driver()),
        Tag.DRIVER_SEEN: str(round(time.time())),
        **{limit_tag(name): str(value) for name, value in asdict(study.definition.limits).items()},
        Tag.EXECUTOR: json.dumps(study.config.get("executor", {}), sort_keys=True),
        Tag.WORKERS: str(study.executor.n_workers),
    }
    if recorded is not None:
        may_change[Tag.N_RESUMED] = str(int(recorded.tags.get(Tag.N_RESUMED, 0)) + 1)
        if changes:
            may_change |= {Tag.FORCED_RESUME: changes, Tag.RESUMED_FINGERPRINT: study.fingerprint}
        tracker.reopen_study(may_change, {each.trial.number: each.attempt for each in recorded.trials})
    else:
        _record_new(study, tracker, overrides, may_change)
    # Without `tracking`: its URI may contain a password.
    config = {key: value for key, value in study.config.items() if key != "tracking"}
    tracker.log_text(STUDY, yaml.safe_dump(config, sort_keys=False), Artifact.CONFIG)


def _record_new(study: Study, tracker: Tracker, overrides: Sequence[str], may_change: Mapping[str, str]) -> None:
    tags = {
        Tag.STRATEGY: study.names.strategy,
        Tag.MODEL: study.names.model,
        Tag.DATASET: study.dataset.name,
        Tag.RESAMPLING: study.names.resampling,
        Tag.SEED: study.definition.seed,
        Tag.OVERRIDES: json.dumps(list(overrides)),
        Tag.FINGERPRINT: study.fingerprint,
        Tag.DATA_DIGEST: study.dataset.digest,
        Tag.FOLDS_DIGEST: study.evaluator.folds_digest,
        Tag.OBJECTIVE: f"{study.definition.objective.direction} {study.definition.objective.metric}",
        **{objective_tag(name): way for name, way in study.definition.objective.others.items()},
        Tag.N_FOLDS: study.evaluator.n_folds,
        Tag.BACKEND: study.strategy.tags.backend,
        Tag.THREADS_PER_TRIAL: study.executor.threads_per_trial,
        Tag.FIRST_N_TRIALS: study.definition.limits.n_trials,
        Tag.HARDWARE: study.executor.hardware or hardware(),
        Tag.CHOICES: json.dumps(dict(study.names.choices), sort_keys=True),
        **may_change,
    }
    if study.model.origin:
        origin = study.model.origin
        tags |= {Tag.BASE: origin.wanted, Tag.BASE_URI: origin.uri, Tag.BASE_DIGEST: origin.digest}
    if study.dataset_note:
        tags[Tag.DATASET_NOTE] = study.dataset_note
    defining = {key: value for key, value in study.config.items() if key not in MUTABLE}
    data = DatasetRecord(study.dataset.name, study.dataset.digest, study.dataset.source, study.evaluator.n_samples)
    texts = {
        Artifact.SEARCH_SPACE: space_text(study.definition.space),
        Artifact.IDENTITY: json.dumps(study.identity, indent=2, default=str),
    }
    tracker.start_study(study.name, {k: str(v) for k, v in tags.items()}, _params_of(defining), data, texts)


def space_text(space: SearchSpace) -> str:
    """Format a search space as YAML."""
    return str(yaml.safe_dump(space.to_config(), sort_keys=False))


def _params_of(defining: Mapping[str, Any]) -> dict[str, Any]:
    """MLflow's params of a study; keys that a parameter of the search space does not use are left out."""
    params = flattened(defining)
    return {key: value for key, value in params.items() if value is not None or not key.startswith("search_space.")}
