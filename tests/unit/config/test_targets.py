"""Dotted names in a config: what they stand for, and the messages where they cannot be imported."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hpo.config.targets import imported, instance, place_in_user_code
from hpo.errors import ConfigError


def refusal(name: str) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        imported("model.objective", name)
    return refused.value


@pytest.mark.parametrize("name", ["json.dumps", "json.decoder.JSONDecoder.decode"])
def test_name_of_a_function_or_method_is_imported(name: str) -> None:
    assert imported("model.objective", name) in (json.dumps, json.JSONDecoder.decode)


def test_object_is_returned_unchanged() -> None:
    assert imported("model.objective", json.dumps) is json.dumps


def test_misspelt_name_suggests_the_nearest() -> None:
    error = refusal("json.dump_s")
    assert "has no attribute 'dump_s'" in error.expected
    assert error.fix == "model.objective=json.dumps"
    assert refusal("json.qqqqqqq").fix == "model.objective=MODULE.NAME"


@pytest.mark.parametrize("name", ["no_such_module.objective", "no_such_module.deep.objective"])
def test_missing_module_advises_its_folder(name: str) -> None:
    assert "the folder that holds no_such_module" in refusal(name).fix


def test_missing_submodule_is_named() -> None:
    assert "module 'json' has no attribute 'no_such'" in refusal("json.no_such.objective").expected


def test_name_without_module_is_refused() -> None:
    assert "a name that can be imported" in refusal("objective").expected


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("import no_such_library\n", 1, "ModuleNotFoundError: No module named 'no_such_library'"),
        ("x = 1\n\nraise KeyError('a\\nb')\n", 3, "KeyError: 'a"),
        ("raise ValueError('first\\nsecond')\n", 1, "ValueError: first"),
        ("x = 1\ndef f(:\n", 2, "SyntaxError: invalid syntax"),
        ("from json import nothing\n", 1, "ImportError: cannot import name 'nothing'"),
        ("import json\njson.nothing\n", 2, "AttributeError: module 'json' has no attribute 'nothing'"),
        ("import json\njson.loads('[')\n", 2, "JSONDecodeError: Expecting value"),
    ],
)
def test_error_inside_a_user_s_module_has_its_place(
    text: str, line: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "goes_wrong.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    error = refusal("goes_wrong.objective")
    assert re.search(rf"goes_wrong\.py, line {line}, raised {re.escape(said)}", error.expected)
    assert "second" not in error.expected
    assert error.fix.startswith(f"correct {tmp_path}/goes_wrong.py, line {line}")


def test_place_is_relative_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "; here.py, line 1, raised ZeroDivisionError" in refusal("here.objective").expected


def test_errors_of_libraries_alone_have_no_place() -> None:
    with pytest.raises(json.JSONDecodeError) as raised:
        json.loads("[")
    raised.value.__traceback__ = raised.value.__traceback__.tb_next  # type: ignore[union-attr]
    assert place_in_user_code(raised.value) is None


def test_class_with_required_arguments_is_refused() -> None:
    class Needs:
        def __init__(self, scale: float) -> None: ...

    kinds: list[Any] = [dict, Needs]
    assert instance("model.objective", "builtins.dict", kinds[0]) == {}
    with pytest.raises(ConfigError, match=r"a class without arguments \(.*'scale'\)"):
        instance("model.objective", "mine.Needs", kinds[1])
