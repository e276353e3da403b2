"""Errors of Hydra and OmegaConf, explained in one message with key, value, expectation and fix."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hpo.config.groups import options
from hpo.config.schema import Conf, ParamConf
from hpo.errors import ConfigError, first_line

_FREE = ("model", "dataset", "strategy", "resampling", "executor")  # mappings that only their target checks


def explain(error: Exception, overrides: list[str]) -> ConfigError:
    """Explain an error of Hydra or OmegaConf in one message with key, value, expectation and fix."""
    chain = list(_causes(error))
    text = "\n".join(str(e) for e in chain)
    for e in chain:
        if isinstance(e, OverrideParseException):
            return ConfigError(
                "override",
                e.override,
                "Hydra's key=value form, quoted where the shell would read it: " + first_line(e),
                "'key=value', 'key=[a, b]' or 'key={a: 1}'",
            )
        if isinstance(e, MissingConfigException) and e.missing_cfg_file:
            return _unknown_option(str(e.missing_cfg_file), list(e.options or []))
    full_key = re.search(r"full_key: (\S+)", text)
    overridden = re.search(r"Could not override '([^']+)'|Error merging override (\S+)", text)
    key = full_key.group(1) if full_key else ""
    value = "given"
    if overridden:
        named = _first(overridden).partition("=")[0].lstrip("+~")
        override = next((o for o in overrides if o.lstrip("+~").partition("=")[0] == named), f"{named}=given")
        value = override.partition("=")[2]
        # Hydra may name only a part of the key, which is too short to help.
        key = key if key.startswith(named) else named
    if ".when." in f"{key}.":
        parent = key.partition(".when")[0]
        return ConfigError(
            f"{parent}.when",
            value,
            "a parent that it names already, since Hydra merges mappings",
            f"{parent}.when=null '{parent}.when={value or '{parent: [value]}'}'",
        )
    if "is not in struct" in text or re.search(r"Key '[^']*' not in '", text) or "Could not override" in text:
        return _unknown_key(key or "config", value)
    if "is not a subclass of ParamConf" in text:
        expected = "a parameter in a search space file; the command line changes and removes, but adds none"
        fix = "put it into search_space/my_space.yaml in a folder, then --config-dir FOLDER search_space=my_space"
        return ConfigError(f"search_space.{key.removeprefix('search_space.')}", value, expected, fix)
    if removed := re.search(r"Could not delete from config\. '([^']+)' does not exist", text):
        name = removed.group(1)
        return ConfigError(name, "removed", "a key with a value that can be removed", f"leave '~{name}' out")
    if added := re.search(r"Could not append to config\. An item is already at '([^']+)'", text):
        name = added.group(1)
        override = next((o for o in overrides if o.lstrip("+").partition("=")[0] == name), f"+{name}=value")
        value = override.partition("=")[2]
        return ConfigError(name, value, "no + in front, since the key is there already", f"{name}={value}")
    if unset := re.search(r"Environment variable '(\w+)' not found", text):
        name = unset.group(1)
        return ConfigError(key, f"${{oc.env:{name}}}", f"the variable {name} in the environment", f"export {name}=…")
    if missing := re.search(r"Missing mandatory value: (\S+)", text):
        key = key or missing.group(1)
        return ConfigError(key, "not given", "a value, which the option cannot do without", f"{key}=…")
    said = next((e for e in chain if isinstance(e, OmegaConfBaseException)), error)
    reason = first_line(said)
    match = re.match(r"Value '(.*)' (?:of type '\w+' could not be converted to|is not a valid) (\w+)", reason)
    if match:
        kinds = {"Integer": ("a whole number", "1"), "Float": ("a number", "0.5"), "bool": ("true or false", "true")}
        expected, example = kinds.get(match.group(2), (match.group(2), "value"))
        return ConfigError(key, match.group(1), expected, f"{key}={example}")
    return ConfigError(key or "config", value, reason, "python -m hpo --cfg job, which shows every key")


def _first(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group)


def _causes(error: BaseException | None) -> Iterator[Exception]:
    seen: set[int] = set()
    while isinstance(error, Exception) and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _unknown_option(missing: str, available: list[str]) -> ConfigError:
    group, _, option = missing.rpartition("/")
    names = available or list(options(group))
    close = difflib.get_close_matches(option, names, n=1) or names[:1]
    return ConfigError(
        group,
        option,
        f"one of {', '.join(names)}" if names else "an option that exists",
        f"{group}={close[0]}" if close else f"python -m hpo help {group}",
    )


def _known_keys() -> list[str]:
    def walk(node: Any, prefix: str) -> Iterator[str]:
        for key in node:
            yield f"{prefix}{key}"
            if OmegaConf.is_dict(node) and not OmegaConf.is_missing(node, key) and OmegaConf.is_dict(node[key]):
                yield from walk(node[key], f"{prefix}{key}.")

    return list(walk(OmegaConf.structured(Conf), ""))


def _unknown_key(key: str, value: str) -> ConfigError:
    parent, _, name = key.rpartition(".")
    if "@" in key:
        expected = "`# @package _global_` as the very first line of the YAML file that says `override /…`"
        return ConfigError(key, "overridden by a file of its own package", expected, "move that line to the top")
    if parent and key.partition(".")[0] in _FREE:
        expected = f"a key of {key.partition('.')[0]}, as --cfg job shows them"
        return ConfigError(key, value, expected, f"correct its spelling, or +{key}={value} adds it")
    known = _known_keys()
    if key.startswith("search_space.") and key.count(".") >= 2:
        if name in ParamConf.__dataclass_fields__:
            expected = "a parameter of the search space, as --cfg job shows them; capital letters count"
            fix = f"correct the spelling of {parent.partition('.')[2]}"
            return ConfigError(parent, f"{name}={value}", expected, fix)
        known = [f"{parent}.{name}" for name in ParamConf.__dataclass_fields__]
    siblings = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == parent]
    close = difflib.get_close_matches(name, siblings, n=1)
    similar = f"{parent}.{close[0]}" if parent and close else close[0] if close else None
    if similar is None:
        anywhere = difflib.get_close_matches(key, known, n=1)
        similar = anywhere[0] if anywhere else None
    expected = f"a key that exists: {', '.join(siblings)}" if siblings else "a key that exists"
    if similar:
        return ConfigError(key, value, expected, f"{similar}={value}")
    return ConfigError(key, value, expected, f"+{key}={value} adds a key; --cfg job shows those there are")
