"""The config schema, where ``conf/`` and ``search_spaces/`` are found, and what a wrong override is answered with.

Imports no backend, so that ``--help`` and config errors answer at once.
"""

from __future__ import annotations

import copy
import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Optional

from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hpo.errors import ConfigError, hide
from hpo.space import SearchSpace
from hpo.trial import EarlyStopping, Limits, Objective, Params


@dataclass
class ParamConf:
    """One parameter of a search space; flat, since OmegaConf has no unions. ``hpo.space`` checks the rest."""

    type: str = MISSING
    low: Any = None
    high: Any = None
    log: Optional[bool] = None  # noqa: UP045 OmegaConf reads no X | None
    step: Any = None
    choices: Any = None
    grid: Any = None
    when: Any = None


@dataclass
class ObjectiveConf:
    """Arguments of :class:`hpo.trial.Objective`."""

    metric: str = MISSING
    direction: Optional[str] = None  # noqa: UP045
    epoch: str = "best"
    others: dict[str, Optional[str]] = field(default_factory=dict)  # noqa: UP045


@dataclass
class EarlyStoppingConf:
    """Arguments of :class:`hpo.trial.EarlyStopping`."""

    monitor: str = "val_loss"
    patience: Optional[int] = 3  # noqa: UP045
    min_delta: float = 0.0
    restore_best_weights: bool = True
    start_from_epoch: int = 0


@dataclass
class LimitsConf:
    """Arguments of :class:`hpo.trial.Limits`."""

    n_trials: Optional[int] = None  # noqa: UP045
    timeout_seconds: Optional[float] = None  # noqa: UP045
    max_epochs_total: Optional[int] = None  # noqa: UP045
    max_consecutive_failures: Optional[int] = None  # noqa: UP045


@dataclass
class TrackingConf:
    """Where the record goes: an MLflow tracking URI, an experiment, and a folder for files."""

    uri: str = MISSING
    experiment: str = MISSING
    output_path: str = MISSING
    offline: str = "refuse"


@dataclass
class Conf:
    """A composed config. Groups with a ``_target_`` are free mappings: their target checks them."""

    model: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    search_space: dict[str, ParamConf] = field(default_factory=dict)
    strategy: dict[str, Any] = field(default_factory=dict)
    resampling: dict[str, Any] = field(default_factory=dict)
    executor: dict[str, Any] = field(default_factory=dict)
    tracking: TrackingConf = field(default_factory=TrackingConf)
    objective: ObjectiveConf = field(default_factory=ObjectiveConf)
    early_stopping: EarlyStoppingConf = field(default_factory=EarlyStoppingConf)
    limits: LimitsConf = field(default_factory=LimitsConf)
    study: Optional[str] = None  # noqa: UP045
    enqueue: list[dict[str, Any]] = field(default_factory=list)
    seed: int = 0
    max_epochs: int = 10


ADDRESSES = ("MLFLOW_TRACKING_URI",)  # variables whose passwords are taken out by what they look like
_FREE = ("model", "dataset", "strategy", "resampling", "executor")  # mappings that only their target checks
GROUPS = ("model", "dataset", "search_space", "strategy", "resampling", "executor", "tracking")


def resource_dir(name: str) -> Path:
    """Absolute path of ``conf`` or ``search_spaces``: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def register() -> None:
    """Make the schema, the shipped search spaces and the resolver ``grace`` known to Hydra."""
    OmegaConf.register_new_resolver("grace", lambda number: max(1, int(number) // 4) + 1, replace=True)
    store = ConfigStore.instance()
    store.store(name="base_config", node=Conf)
    for path in sorted(resource_dir("search_spaces").glob("*.yaml")):
        store.store(group="search_space", name=path.stem, node=OmegaConf.load(path), provider="hpo")


def options(group: str) -> dict[str, str]:
    """Shipped options of a config group with the first comment line of each: its one-line description."""
    folder = resource_dir("search_spaces") if group == "search_space" else resource_dir("conf") / group
    return {path.stem: _description(path) for path in sorted(folder.glob("*.yaml"))}


def _description(path: Path) -> str:
    comments = (line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    return next((text for text in comments if not text.startswith("@")), "")


def plain(conf: DictConfig) -> dict[str, Any]:
    """The config as plain mappings, interpolations resolved.

    Values that come from the environment are taken for secrets, but for addresses: nothing that is printed or recorded
    shows them.

    Raises:
        ConfigError: for an interpolation that names nothing or a mandatory value that is missing.
    """
    try:
        container = OmegaConf.to_container(conf, resolve=True, throw_on_missing=True, enum_to_str=True)
    except OmegaConfBaseException as error:
        raise explain(error, []) from error
    assert isinstance(container, dict)
    for name in re.findall(r"\$\{oc\.env:\s*['\"]?(\w+)", str(OmegaConf.to_container(conf, resolve=False))):
        if name not in ADDRESSES:
            hide(os.environ.get(name, ""))
    return {str(key): value for key, value in container.items()}


def for_the_record(conf: DictConfig) -> dict[str, Any]:
    """As :func:`plain`, but with ``${oc.env:…}`` as it was written."""

    def masked(raw: Any, value: Any) -> Any:
        if isinstance(raw, dict):
            return {key: masked(inner, value[key]) for key, inner in raw.items()}
        if isinstance(raw, list):
            return [masked(inner, value[place]) for place, inner in enumerate(raw)]
        return raw if isinstance(raw, str) and "oc.env:" in raw else value

    raw = OmegaConf.to_container(conf, resolve=False, enum_to_str=True)
    recorded = masked(raw, plain(conf))
    assert isinstance(recorded, dict)
    return recorded


@dataclass(frozen=True)
class Definition:
    """What a study's config states as plain values, checked."""

    space: SearchSpace
    objective: Objective
    early_stopping: EarlyStopping
    limits: Limits
    seed: int
    max_epochs: int
    enqueue: tuple[Params, ...] = ()

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Definition:
        """Read it from a composed config.

        A space that is the model's own is empty here, and nothing is enqueued, until :func:`with_space_of_model` has
        put it into the config.

        Raises:
            ConfigError: for any value that cannot be used.
        """
        _check_keys(config)
        for key, least in (("seed", 0), ("max_epochs", 1)):
            if config[key] < least:
                raise ConfigError(key, config[key], f"a whole number of at least {least}", f"{key}={least}")
        name = config["study"]
        if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name):
            raise ConfigError(
                "study",
                name,
                "at most 100 letters, digits, '_', '.' and '-', since it names a folder",
                f"study={re.sub(r'[^A-Za-z0-9_.-]+', '-', name).strip('-.')[:100] or 'my_study'}",
            )
        is_open = is_from_model(config)
        space = SearchSpace([]) if is_open else SearchSpace.from_config(config["search_space"])
        if not space and not is_open:
            raise ConfigError("search_space", "empty", "at least one parameter", "search_space=mnist_cnn")
        early_stopping = EarlyStopping(**config["early_stopping"])
        if early_stopping.start_from_epoch >= config["max_epochs"]:
            raise ConfigError(
                "early_stopping.start_from_epoch",
                early_stopping.start_from_epoch,
                f"less than max_epochs, which is {config['max_epochs']}: else no epoch would be watched",
                "early_stopping.start_from_epoch=0",
            )
        return cls(
            space=space,
            objective=Objective.of(**config["objective"]),
            early_stopping=early_stopping,
            limits=Limits(**config["limits"]),
            seed=config["seed"],
            max_epochs=config["max_epochs"],
            enqueue=tuple(
                _enqueued(space, f"enqueue[{i}]", params)
                for i, params in enumerate(config["enqueue"] if not is_open else ())
            ),
        )


FROM_MODEL = "model"  # type of the entry that stands for the space that comes with the model


def is_from_model(config: Mapping[str, Any]) -> bool:
    """Whether the search space is, or completes, the model's own."""
    return any(isinstance(spec, Mapping) and spec.get("type") == FROM_MODEL for spec in config["search_space"].values())


def with_space_of_model(config: Mapping[str, Any], own: SearchSpace | None) -> dict[str, Any]:
    """The config with the model's own space written out; what the config says of a parameter replaces what it says.

    Raises:
        ConfigError: when the model has none.
    """
    if own is None:
        expected = "a space of one's own, since the model comes with none"
        raise ConfigError(
            "search_space", "from_model", expected, "search_space=NAME, as python -m hpo --help lists them"
        )
    stated = {name: spec for name, spec in config["search_space"].items() if spec.get("type") != FROM_MODEL}
    whole = {name: asdict(ParamConf(**spec)) for name, spec in own.to_config().items()}
    return {**config, "search_space": {**whole, **stated}}


_SECTIONS = {"objective": ObjectiveConf, "early_stopping": EarlyStoppingConf, "limits": LimitsConf}


def _check_keys(config: Mapping[str, Any]) -> None:
    """Refuse keys that ``+`` has added where nobody reads them, and those that ``~`` has taken away."""
    for section, schema in {"": Conf, **_SECTIONS, "tracking": TrackingConf}.items():
        given = config.get(section) if section else config
        if given is None:
            continue  # missed above, at the top level
        known, prefix = {each.name for each in fields(schema)}, f"{section}." if section else ""
        for key in sorted(set(given) - known):
            expected = f"a key that exists: {', '.join(sorted(known))}"
            close = difflib.get_close_matches(str(key), known, n=1)
            fix = f"{prefix}{close[0]}={given[key]}" if close else f"leave +{prefix}{key} out"
            raise ConfigError(f"{prefix}{key}", given[key], expected, fix)
        for key in sorted(known - set(given)):
            raise ConfigError(f"{prefix}{key}", "taken away", "a value, which may be null", f"leave ~{prefix}{key} out")


def _enqueued(space: SearchSpace, key: str, params: Mapping[str, Any]) -> Params:
    """A configuration to be tried first, if it lies in the space."""
    if space.contains(params):
        return space.select(params)
    unknown = [name for name in params if name not in space]
    missing = [name for name in space if space.is_active(name, params) and name not in params]
    wrong = [name for name in params if name in space and not space[name].contains(params[name])]
    if unknown:
        raise ConfigError(f"{key}.{unknown[0]}", params[unknown[0]], f"one of {', '.join(space)}", "leave it out")
    if missing:
        raise ConfigError(key, "incomplete", f"a value for {', '.join(missing)} as well", f"add {missing[0]}: …")
    if wrong:
        raise ConfigError(f"{key}.{wrong[0]}", params[wrong[0]], "a value inside the search space", "mend it")
    idle = next(name for name in params if not space.is_active(name, params))
    raise ConfigError(
        f"{key}.{idle}", params[idle], f"nothing, since {dict(space[idle].when or {})} does not hold", "leave it out"
    )


def chosen(group: str) -> str:
    """The option that was chosen in a group of the running Hydra job.

    Raises:
        ConfigError: when the command line has taken the group away.
    """
    option = HydraConfig.get().runtime.choices.get(group)
    if option is None:
        names = list(options(group))
        raise ConfigError(group, "nothing", f"one of {', '.join(names)}", f"{group}={names[0]}")
    return str(option)


def choices() -> dict[str, str]:
    """The option of every group of the running Hydra job, those of its own left out."""
    made = HydraConfig.get().runtime.choices
    return {str(group): str(option) for group, option in made.items() if not str(group).startswith("hydra/")}


def is_explicit(group: str) -> bool:
    """Whether the user chose this group's option on the command line, rather than a model or a default."""
    return any(override.lstrip("+").split("=")[0] == group for override in HydraConfig.get().overrides.task)


def is_given(key: str) -> bool:
    """Whether the user set this key on the command line."""
    return any(override.lstrip("+").split("=")[0] == key for override in HydraConfig.get().overrides.task)


def with_value(conf: DictConfig, key: str, value: Any) -> DictConfig:
    """A copy of the config with another value of one key."""
    changed = copy.deepcopy(conf)
    OmegaConf.update(changed, key, value)
    return changed


def with_option(group: str, option: str) -> DictConfig:
    """The running job's config, composed once more with another option in one group."""
    task = HydraConfig.get().overrides.task
    # What was said of the option that is replaced means nothing to the other one.
    kept = [o for o in task if not o.lstrip("+~").startswith(f"{group}.")]
    try:
        return compose(config_name="config", overrides=[*kept, f"{group}={option}"])
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error, [*kept, f"{group}={option}"]) from None


def config_dirs() -> list[str]:
    """The ``--config-dir`` of the running Hydra job, as an option of a command line; relative where it can be."""
    dirs = (Path(s.path) for s in HydraConfig.get().runtime.config_sources if s.provider == "command-line")
    here = Path.cwd()
    return [f"--config-dir={d.relative_to(here) if d.is_relative_to(here) else d}" for d in dirs]


def check_shadowing() -> None:
    """Refuse a user's YAML that has the name of a shipped one, since Hydra would ignore or merge it silently.

    Raises:
        ConfigError: naming the file.
    """
    ours = resource_dir("conf")
    for source in HydraConfig.get().runtime.config_sources:
        if source.schema != "file" or Path(source.path).resolve() == ours:
            continue
        for path in sorted(Path(source.path).rglob("*.yaml")):
            group = path.parent.relative_to(source.path).as_posix()
            if path.stem in options(group) if group != "." else path.stem == "config":
                raise ConfigError(
                    f"{group}={path.stem}",
                    path,
                    f"a name that hpo does not use itself in conf/{group}",
                    f"rename {path.name} and choose it with {group}=<new name>",
                )


def explain(error: Exception, overrides: list[str]) -> ConfigError:
    """Hydra's or OmegaConf's complaint as one message that names key, value, what was expected and the fix."""
    chain = list(_causes(error))
    text = "\n".join(str(e) for e in chain)
    for e in chain:
        if isinstance(e, OverrideParseException):
            return ConfigError(
                "override",
                e.override,
                "Hydra's key=value form, quoted where the shell would read it: " + str(e).splitlines()[0],
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
        # Hydra names the part of the key that it stumbled over, which may be too short to be of help.
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
        return ConfigError(name, "taken away", "a key that has a value to be taken away", f"leave '~{name}' out")
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
    reason = (str(said) or repr(said)).splitlines()[0]
    match = re.match(r"Value '(.*)' (?:of type '\w+' could not be converted to|is not a valid) (\w+)", reason)
    if match:
        kinds = {"Integer": ("a whole number", "1"), "Float": ("a number", "0.5"), "bool": ("true or false", "true")}
        expected, example = kinds.get(match.group(2), (match.group(2), "value"))
        return ConfigError(key, match.group(1), expected, f"{key}={example}")
    return ConfigError(key or "config", value, reason, "python -m hpo --help shows the groups, --cfg job all keys")


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
        f"{group}={close[0]}" if close else "python -m hpo --help",
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
        return ConfigError(key, value, expected, f"mend its spelling, or +{key}={value} adds it")
    known = _known_keys()
    if key.startswith("search_space.") and key.count(".") >= 2:
        if name in ParamConf.__dataclass_fields__:
            expected = "a parameter of the search space, as --cfg job shows them; capital letters count"
            return ConfigError(parent, f"{name}={value}", expected, f"mend the spelling of {parent.partition('.')[2]}")
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
