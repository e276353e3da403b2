"""The user's own source files behind an object."""

import functools
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from hpo.core.source_code import read_source_code
from hpo.models.sklearn.model import SklearnModel

FILES = {
    "mine/__init__.py": "",
    "mine/models.py": "from . import layers\nfrom .deep.parts import PART\nimport numpy\nclass Mine(layers.B): ...\n",
    "mine/layers.py": "import json, sklearn.tree\nclass B:\n    def fit(self):\n        import lazy_one\n",
    "mine/deep/parts.py": "PART = 1\n",  # a package without __init__.py
    "mine/unrelated.py": "",
    "lazy_one.py": "import mine.models\nfrom broken import anything\n",
    "broken.py": "this is not Python\n",
    "wrapped.py": (
        "import functools, plain\n"
        "def log(f):\n    @functools.wraps(f)\n    def inner(*a): return f(*a)\n    return inner\n"
        "build = log(plain.build)\n"
    ),
    "plain.py": "def build(scale, trial=None): return scale\nclass Callable:\n    def __call__(self, trial): ...\n",
}
OF_MINE = {"mine", "mine.models", "mine.layers", "mine.deep.parts", "lazy_one", "broken"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def module(name: str) -> Any:
    return importlib.import_module(name)


@pytest.mark.usefixtures("project")
def test_imports_are_followed_through_packages_relative_names_and_functions() -> None:
    code = read_source_code([module("mine.models").Mine])
    assert set(code.digests) == OF_MINE
    assert code.libraries == {"numpy", "sklearn"}


def test_digest_changes_with_the_file_alone(project: Path) -> None:
    mine = module("mine.models").Mine
    before = read_source_code([mine]).digests
    (project / "mine/deep/parts.py").write_text("PART = 2\n")
    (project / "mine/unrelated.py").write_text("X = 1\n")
    after = read_source_code([mine]).digests
    assert {name for name in after if after[name] != before[name]} == {"mine.deep.parts"}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("kind", ["instance", "function", "partial", "partial argument", "method", "module", "wrapped"])
def test_any_object_leads_to_its_file(kind: str) -> None:
    plain = module("plain")
    found: Any = {
        "instance": plain.Callable(),
        "function": plain.build,
        "partial": functools.partial(plain.build, 1.0),
        "partial argument": functools.partial(max, key=plain.build),
        "method": plain.Callable().__call__,
        "module": plain,
        "wrapped": functools.partial(module("wrapped").build, 1.0),
    }[kind]
    assert "plain" in read_source_code([found]).digests


@pytest.mark.parametrize(
    "found", [DecisionTreeClassifier, np.mean, SklearnModel, Path, len, functools.partial, 3, None]
)
def test_installed_code_is_not_user_code(found: Any) -> None:
    assert read_source_code([found]).digests == {}


def test_module_without_file_is_ignored() -> None:
    made = ModuleType("made_here")
    assert read_source_code([made]).digests == {}
