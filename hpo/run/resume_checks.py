"""Decides whether a recorded study may be resumed: same identity, and something left to do."""

from __future__ import annotations

import json

from hpo.core.limits import Limits
from hpo.errors import ConfigError
from hpo.run.result import StopCause
from hpo.study.identity import describe_differences
from hpo.study.study import Study
from hpo.tracking.resume import RecordedStudy
from hpo.tracking.schema import Artifact, Tag


def require_same_identity(study: Study, recorded: RecordedStudy, is_forced: bool) -> str | None:
    """Compare the identity of a study with that of its record.

    Args:
        is_forced: whether to accept differences.

    Returns:
        The differences, a line for each key; None if there are none.

    Raises:
        ConfigError: when they differ and that is not forced.
    """
    changes = _changes(study, recorded)
    if changes and not is_forced:
        raise ConfigError(
            "study",
            study.name,
            f"the same definition as the recorded study; they differ in\n{changes}",
            "the same command as before, another name (study=…), or --force-resume to resume in spite of it",
        )
    return changes


def _changes(study: Study, recorded: RecordedStudy) -> str | None:
    if recorded.tags.get(Tag.FINGERPRINT) == study.fingerprint:
        return None
    lines = describe_differences(json.loads(recorded.texts(Artifact.IDENTITY)), study.identity)
    return "\n".join(f"    {line}" for line in lines) or None


def require_unfinished(study: Study, recorded: RecordedStudy) -> None:
    """Check that a study is not finished, that a limit was raised, or that its best model was not logged yet.

    Raises:
        ConfigError: when there is nothing left to do.
    """
    tags = recorded.tags
    if tags.get(Tag.STATE) != "finished":
        return
    if study.evaluator.has_model and tags.get(Tag.BEST_TRIAL) and not tags.get(Tag.BEST_MODEL_URI):
        return
    limits = study.definition.limits
    n_finished = sum(each.trial.state.is_finished for each in recorded.trials)
    reached: dict[str, tuple[str, float | None, float]] = {
        StopCause.N_TRIALS: ("n_trials", limits.n_trials, n_finished),
        StopCause.TIMEOUT: ("timeout_seconds", limits.timeout_seconds, float(tags.get(Tag.SPENT_SECONDS, 0))),
        StopCause.MAX_EPOCHS: ("max_epochs_total", limits.max_epochs_total, int(tags.get(Tag.SPENT_EPOCHS, 0))),
    }
    ended_by = tags.get(Tag.ENDED_BY)
    if ended_by not in reached:
        expected = "an unfinished study; this one has nothing left to try"
        raise ConfigError("study", study.name, expected, "study=another for another search")
    name, limit, done = reached[ended_by]
    if limit is not None and limit <= done:
        expected = f"an unfinished study, or a higher limits.{name}: it ended at {done:g}"
        higher = _higher_limit(name, done, limits)
        raise ConfigError("study", study.name, expected, f"limits.{name}={higher}, or study=another")


def _higher_limit(name: str, done: float, limits: Limits) -> int:
    return int(done) + max(1, int(getattr(limits, name) or 10))
