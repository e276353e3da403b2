"""What a dotted name in a config stands for, and what is said where it stands for nothing."""

import json
from pathlib import Path

import pytest

from hpo.config.targets import imported
from hpo.errors import ConfigError


@pytest.mark.parametrize("name", ["json.dumps", "json.decoder.JSONDecoder.decode"])
def test_a_name_stands_for_what_python_calls_so(name: str) -> None:
    assert imported("model.objective", name) in (json.dumps, json.JSONDecoder.decode)


def test_what_is_no_name_is_itself() -> None:
    assert imported("model.objective", json.dumps) is json.dumps


def test_a_misspelt_name_is_told_from_a_missing_module() -> None:
    with pytest.raises(ConfigError, match=r"has no attribute 'dump_s'\)\n.*model.objective=json.dumps"):
        imported("model.objective", "json.dump_s")
    with pytest.raises(ConfigError, match="the folder that holds no_such_module"):
        imported("model.objective", "no_such_module.objective")
    with pytest.raises(ConfigError, match="name that can be imported"):
        imported("model.objective", "objective")


def test_what_a_module_lacks_itself_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_another.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="No module named 'no_such_library'"):
        imported("model.objective", "needs_another.objective")
