"""Nested mappings."""

from hpo.core.mappings import flattened


def test_keys_are_joined_with_dots_and_empty_mappings_are_values() -> None:
    nested = {"a": {"b": {"c": 1}, "d": [{"e": 2}]}, "f": {}, "g": None}
    assert flattened({}) == {}
    assert flattened(nested) == {"a.b.c": 1, "a.d": [{"e": 2}], "f": {}, "g": None}
    assert flattened({}) == {}


def test_flattening_is_idempotent() -> None:
    once = flattened({"a": {"b": 1}})
    assert flattened(once) == once
