"""The identity of a study, put together from its parts."""

from pathlib import Path
from typing import Any

import pytest
import toy
import toy_study

from hpo.core.identity import PartIdentity
from hpo.core.limits import Limits
from hpo.core.packages import versions_of
from hpo.core.space import Categorical, SearchSpace
from hpo.models.sklearn.model import SklearnModel
from hpo.study.identity import describe_differences, put_together
from hpo.study.study import Study

TREE = "sklearn.tree.DecisionTreeClassifier"


def sklearn_versions(*space: Any, **options: Any) -> set[str]:
    model = SklearnModel(options.pop("estimator", TREE), **options)
    parts = {"model": model.identity(SearchSpace(space))}
    return set(put_together({}, parts, {})["versions"].get("model", ()))


def test_identity_has_options_values_versions_and_code_by_part() -> None:
    config = {"model": {"units": 3}, "seed": 1, "limits": {"n_trials": 3}, "tracking": {}, "executor": {}, "study": "s"}
    parts = {"model": PartIdentity(("sklearn", "numpy", "not_installed"), (toy.CurveModel,), {"data_digest": "d"})}
    identity = put_together(config, parts, {"folds_digest": "f"})
    assert identity["format"] == 2
    assert (identity["model"], identity["seed"]) == ({"units": 3}, 1)
    assert (identity["data_digest"], identity["folds_digest"]) == ("d", "f")
    assert {"limits", "tracking", "executor", "study"}.isdisjoint(identity)
    assert identity["versions"] == {"common": versions_of(["hpo", "numpy"]), "model": versions_of(["sklearn"])}
    assert "toy" in identity["code"]["model"]


def test_every_target_in_a_part_is_found_in_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("outer", "inner", "listed"):
        (tmp_path / f"{name}_of_mine.py").write_text("def build(**options): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    inner = {"_target_": "inner_of_mine.build", "_partial_": True}
    node = {"_target_": "outer_of_mine.build", "option": inner, "many": [{"_target_": "listed_of_mine.build"}]}
    identity = put_together({"resampling": node}, {"resampling": PartIdentity()}, {})
    assert set(identity["code"]["resampling"]) == {"outer_of_mine", "inner_of_mine", "listed_of_mine"}


def test_target_that_hydra_imports_by_its_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gamma_of_mine.py").write_text("def gamma(n): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    node = {"sampler": {"gamma": {"_target_": "hydra.utils.get_method", "path": "gamma_of_mine.gamma"}}}
    identity = put_together({"strategy": node}, {"strategy": PartIdentity()}, {})
    assert set(identity["code"]["strategy"]) == {"gamma_of_mine"}


def test_version_of_installed_target_package_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages"
    info = installed / "team_models-1.2.dist-info"
    info.mkdir(parents=True)
    (installed / "team_models.py").write_text("def build(data): ...\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: team_models\nVersion: 1.2\n")
    monkeypatch.syspath_prepend(str(installed))
    parts = {"model": PartIdentity(), "dataset": PartIdentity()}
    node = {"_target_": "team_models.build"}
    identity = put_together({"model": node, "dataset": node}, parts, {})
    assert identity["versions"]["model"] == {"team_models": "1.2"}
    assert "dataset" not in identity["versions"]
    assert "code" not in identity


def test_sklearn_model_names_the_libraries_that_it_uses() -> None:
    assert sklearn_versions() == {"scikit-learn"}
    assert sklearn_versions(balance="random") == {"scikit-learn", "imbalanced-learn"}
    assert sklearn_versions(Categorical("balance", choices=(None, "smote"))) == {"scikit-learn", "imbalanced-learn"}
    assert sklearn_versions(estimator="xgboost.XGBClassifier") == {"scikit-learn", "xgboost"}
    assert sklearn_versions(estimator="lightgbm.LGBMClassifier") == {"scikit-learn", "lightgbm"}


def made(**changed: Any) -> Study:
    return toy_study.study(toy_study.Listed([]), Limits(n_trials=1), **changed)


def test_fingerprint_changes_with_the_identity() -> None:
    one, other = made(), made(executor=toy_study.InlineExecutor(2))
    assert one.fingerprint == made().fingerprint
    assert one.fingerprint != other.fingerprint
    assert describe_differences(one.identity, other.identity) == ["threads_per_trial: 1 before, 2 now"]
