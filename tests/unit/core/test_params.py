"""Params as they are recorded."""

from hpo.core.params import canonical


def test_canonical_params_have_one_spelling() -> None:
    assert canonical({"b": 1.0, "a": "x"}) == '{"a":"x","b":1.0}'
