"""Building the parts of a study from a config."""

from pathlib import Path
from typing import Any

import pytest

from hpo.errors import ConfigError, InputError
from hpo.evaluation.resampling import Holdout, Resampling
from hpo.models.base import Trainable
from hpo.study.build import build_model, build_part

HOLDOUT = {"_target_": "hpo.evaluation.resampling.Holdout", "validation_fraction": 0.2}


def refusal(node: dict[str, Any], kind: type = Resampling) -> InputError:
    with pytest.raises(InputError) as refused:
        build_part({"resampling": node}, "resampling", kind)
    return refused.value


def test_part_is_built_with_its_options() -> None:
    built = build_part({"resampling": HOLDOUT}, "resampling", Resampling)
    assert isinstance(built, Holdout)
    assert built.validation_fraction == 0.2


def test_part_of_another_kind_is_refused() -> None:
    assert "hpo.models.base.Trainable" in refusal(HOLDOUT, Trainable).expected


def test_errors_of_the_part_itself_are_passed_on() -> None:
    error = refusal({**HOLDOUT, "validation_fraction": 2})
    assert (type(error), error.key) == (ConfigError, "resampling.validation_fraction")


def test_unknown_option_is_named_with_the_override_that_removes_it() -> None:
    error = refusal({**HOLDOUT, "fraction": 1})
    assert (error.key, error.fix) == ("resampling.fraction", "'~resampling.fraction'")


def test_name_of_an_earlier_version_is_replaced() -> None:
    error = refusal({**HOLDOUT, "_target_": "hpo.resampling.Holdout"})
    assert error.fix == "resampling._target_=hpo.evaluation.resampling.Holdout"


def test_error_in_user_code_has_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_folds.py").write_text("def make(n):\n    return 1 / n\n")
    monkeypatch.syspath_prepend(tmp_path)
    error = refusal({"_target_": "my_folds.make", "n": 0})
    assert f"{tmp_path}/my_folds.py, line 2, raised ZeroDivisionError" in error.expected


@pytest.mark.parametrize("node", [{}, {"_target_": "nowhere.build"}])
def test_model_without_an_importable_target_is_refused(node: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        build_model({"model": node})
    assert refused.value.key == "model._target_"
