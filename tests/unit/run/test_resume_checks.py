"""Which recorded studies may be resumed."""

import json
from dataclasses import replace
from typing import Any

import pytest
from toy_study import Listed, study

from hpo.core.limits import Limits
from hpo.core.states import StopReason
from hpo.core.trial import RecordedTrial
from hpo.errors import ConfigError
from hpo.run.resume_checks import require_same_identity, require_unfinished
from hpo.tracking.resume import RecordedStudy

from .trials import trial


def recorded(tags: dict[str, str], identity: dict[str, Any] | None = None, n_trials: int = 2) -> RecordedStudy:
    waiting = RecordedTrial(trial(n_trials, None, StopReason.INTERRUPTED), {})
    trials = tuple(RecordedTrial(trial(number), {}) for number in range(n_trials))
    return RecordedStudy(tags, {}, lambda name: json.dumps(identity), (*trials, waiting))


def test_equal_fingerprints_are_not_compared_further() -> None:
    built = study(Listed([]), Limits(9))
    assert require_same_identity(built, recorded({"hpo.fingerprint": built.fingerprint}), is_forced=False) is None


def test_other_identity_is_refused_unless_forced() -> None:
    built = study(Listed([]), Limits(9))
    before = json.loads(json.dumps(built.identity, default=str)) | {"seed": 7}
    other = recorded({"hpo.fingerprint": "another"}, before)
    with pytest.raises(ConfigError, match="seed: 7 before, 0 now") as refused:
        require_same_identity(built, other, is_forced=False)
    assert "--force-resume" in refused.value.fix
    changes = require_same_identity(built, other, is_forced=True)
    assert changes is not None
    assert "    seed: 7 before, 0 now" in changes


def test_same_identity_of_another_format_is_accepted() -> None:
    built = study(Listed([]), Limits(9))
    same = json.loads(json.dumps(built.identity, default=str))
    assert require_same_identity(built, recorded({"hpo.fingerprint": "another"}, same), is_forced=False) is None


LOGGED = {"hpo.best_trial": "0", "hpo.best_model_uri": "models:/m"}


@pytest.mark.parametrize(
    ("limits", "tags", "higher"),
    [
        (Limits(2), {"hpo.ended_by": "n_trials"}, "limits.n_trials=4"),
        (Limits(1), {"hpo.ended_by": "n_trials"}, "limits.n_trials=3"),
        (Limits(9, timeout_seconds=5.0), {"hpo.ended_by": "timeout_seconds", "hpo.spent_seconds": "5.25"},
         "limits.timeout_seconds=10"),
        (Limits(9, max_epochs_total=6), {"hpo.ended_by": "max_epochs_total", "hpo.spent_epochs": "6"},
         "limits.max_epochs_total=12"),
    ],
)  # fmt: skip
def test_finished_study_is_refused_with_a_higher_limit(limits: Limits, tags: dict[str, str], higher: str) -> None:
    finished = recorded({"hpo.state": "finished", **LOGGED, **tags})
    with pytest.raises(ConfigError, match="an unfinished study, or a higher limits") as refused:
        require_unfinished(study(Listed([]), limits), finished)
    assert refused.value.fix == f"{higher}, or study=another"


@pytest.mark.parametrize(
    ("limits", "tags"),
    [
        (Limits(3), {"hpo.ended_by": "n_trials"}),
        (Limits(None, max_epochs_total=9), {"hpo.ended_by": "n_trials"}),
        (Limits(9, timeout_seconds=5.5), {"hpo.ended_by": "timeout_seconds", "hpo.spent_seconds": "5.25"}),
        (Limits(9, max_epochs_total=7), {"hpo.ended_by": "max_epochs_total", "hpo.spent_epochs": "6"}),
        (Limits(2), {"hpo.ended_by": "n_trials", "hpo.best_model_uri": ""}),  # its model could not be logged
    ],
)
def test_finished_study_resumes_with_higher_limit_or_no_model(limits: Limits, tags: dict[str, str]) -> None:
    require_unfinished(study(Listed([]), limits), recorded({"hpo.state": "finished", **LOGGED, **tags}))


@pytest.mark.parametrize("state", ["running", "interrupted", "failed"])
def test_unfinished_study_is_resumed(state: str) -> None:
    require_unfinished(study(Listed([]), Limits(2)), recorded({"hpo.state": state, "hpo.ended_by": "exhausted"}))


def test_exhausted_study_is_refused() -> None:
    finished = recorded({"hpo.state": "finished", "hpo.ended_by": "exhausted", **LOGGED})
    with pytest.raises(ConfigError, match="nothing left to try"):
        require_unfinished(study(Listed([]), Limits(9)), finished)
    without_best = replace(finished, tags={"hpo.state": "finished", "hpo.ended_by": "exhausted"})
    with pytest.raises(ConfigError, match="nothing left to try"):
        require_unfinished(study(Listed([]), Limits(9)), without_best)
