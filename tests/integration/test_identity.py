"""A study is not resumed over a change of what defines it, and the message names the change."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HELPER = "HELP = 0\n"
OWN = {
    "estimator": """
from sklearn.tree import DecisionTreeClassifier
import my_helper
class Mine(DecisionTreeClassifier): ...
""",
    "keras": """
import keras
import my_helper
def build(data, *, units=4):
    model = keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(units), keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model
""",
    "hypermodel": """
import keras
import my_helper
def build(hp):
    layers = [keras.layers.Dense(hp.Int("units", 2, 4)), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential(layers)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
""",
    "objective": """
def objective(trial):
    import my_helper
    return trial.suggest_float("x", 0, 1)
""",
    "dataset": """
import my_helper
from hpo.datasets import embedded
def load():
    return embedded.iris()
""",
    "model": """
import my_helper
from hpo.models.sklearn.model import SklearnModel
class Mine(SklearnModel): ...
""",
}
TREE = ("model=decision_tree", "dataset=iris", "max_epochs=1", "executor.threads_per_trial=1", "strategy=random")
NETWORK = ("dataset=iris", "max_epochs=1", "executor.threads_per_trial=1", "strategy=random")
STUDIES = {
    "estimator": (*TREE, "model.estimator=my_code.Mine"),
    "keras": (*NETWORK, "model=mine", "--config-dir=conf"),
    "hypermodel": (*NETWORK, "model=keras_tuner", "model.hypermodel=my_code.build", "objective.metric=val_accuracy"),
    "objective": ("model=optuna_objective", "model.objective=my_code.objective", "strategy=optuna"),
    "dataset": (*TREE, "dataset._target_=my_code.load"),
    "model": (*TREE, "model._target_=my_code.Mine"),
}
YAML = {
    "model/mine.yaml": (
        "# @package _global_\ndefaults:\n  - override /search_space: mine\n"
        "objective: {metric: val_accuracy}\nmodel: {_target_: my_code.build}\n"
    ),
    "search_space/mine.yaml": "units: {type: int, low: 2, high: 4}\n",
}


@pytest.fixture
def folder(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, from which ``my_code`` and ``my_helper`` are imported."""
    monkeypatch.syspath_prepend(str(workdir))
    yield workdir
    for name in ("my_code", "my_helper"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("kind", STUDIES)
def test_edited_code_is_named(
    kind: str, folder: Path, hpo: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "my_code.py").write_text(OWN[kind])
    (folder / "my_helper.py").write_text(HELPER)
    for name, text in YAML.items():
        (folder / "conf" / name).parent.mkdir(parents=True)
        (folder / "conf" / name).write_text(text)
    assert hpo(*STUDIES[kind], "limits.n_trials=1", "study=mine") == 0
    part = "dataset" if kind == "dataset" else "model"
    for edited in ("my_code", "my_helper"):
        text = (folder / f"{edited}.py").read_text()
        (folder / f"{edited}.py").write_text(f"{text}# edited\n")
        capfd.readouterr()
        assert hpo("resume", "mine", "limits.n_trials=2") == 2
        said = [line.strip() for line in capfd.readouterr().err.splitlines() if '" before, "' in line]
        assert len(said) == 1, said
        assert said[0].startswith(f"code.{part}.{edited}: ")
        (folder / f"{edited}.py").write_text(text)
    assert hpo("resume", "mine", "limits.n_trials=2") == 0


def test_changed_result_of_an_edited_estimator_needs_force(
    folder: Path, hpo: Callable[..., int], read: Callable[..., Any]
) -> None:
    (folder / "my_code.py").write_text(OWN["estimator"])
    (folder / "my_helper.py").write_text(HELPER)
    assert hpo(*STUDIES["estimator"], "limits.n_trials=1", "study=mine") == 0
    (folder / "my_code.py").write_text(OWN["estimator"] + "    def predict(self, x): return 0 * super().predict(x)\n")
    assert hpo("resume", "mine", "limits.n_trials=2") == 2
    assert hpo("resume", "mine", "limits.n_trials=2", "--force-resume") == 0
    assert "code.model.my_code" in read("mine")[1].tags["hpo.forced_resume"]


LIBRARIES = {
    "scikit-learn": (*TREE,),
    "xgboost": ("model=xgboost", *TREE[1:], "max_epochs=1"),
    "lightgbm": ("model=lightgbm", *TREE[1:], "max_epochs=1"),
    "imbalanced-learn": (*TREE, "+model.balance=random"),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.usefixtures("workdir")
def test_another_version_of_a_library_that_trains_is_named(
    library: str, hpo: Callable[..., int], read: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert hpo(*LIBRARIES[library], "limits.n_trials=1", "study=mine") == 0
    _, study, _ = read("mine")
    (path,) = Path("hpo_runs/artifacts").glob(f"{study.run_id}/artifacts/fingerprint.json")
    versions = json.loads(path.read_text(encoding="utf-8"))["versions"]["model"]
    assert "keras" not in versions
    installed, other = versions[library], "9" * len(versions[library])
    fingerprint = study.tags["hpo.fingerprint"]
    _replace_in_record({rf"\"{library}\": \"{installed}": rf"\"{library}\": \"{other}", fingerprint: fingerprint[::-1]})
    capfd.readouterr()
    assert hpo("resume", "mine", "limits.n_trials=2") == 2
    assert f'versions.model.{library}: "{other}" before, "{installed}" now' in capfd.readouterr().err


def _replace_in_record(texts: dict[str, str]) -> None:
    """Replace texts by others of the same length in the study's own record."""
    path = Path("hpo_runs/studies/mine/outbox.jsonl")
    record = path.read_text(encoding="utf-8")
    for old, new in texts.items():
        assert old in record
        record = record.replace(old, new)
    path.write_text(record, encoding="utf-8")
