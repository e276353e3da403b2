"""A study, built from its config: the one place where what the user named becomes objects."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import inspect
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from hpo.config import FROM_MODEL, Definition, is_from_model, with_space_of_model
from hpo.datasets.base import Dataset
from hpo.datasets.own import OwnData
from hpo.errors import ConfigError, InputError
from hpo.evaluation import Evaluator, check_space_fits
from hpo.executors.base import Executor
from hpo.extras import install_command
from hpo.models.base import Model, SavedNetwork, WholeObjective
from hpo.objective import ObjectiveEvaluator
from hpo.resampling import OwnResampling, Resampling
from hpo.space import SearchSpace
from hpo.strategies.base import Search, Strategy, StrategyTags
from hpo.trial import derive_seed

# What may change while a study goes on; everything else defines it. (The start-up trials follow from a limit.)
MUTABLE = ("limits", "executor", "tracking", "study")
_VERSIONS = ("hpo", "keras", "tensorflow", "numpy", "scikit-learn", "optuna")
# Packages whose distribution has another name.
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "keras_tuner": "keras-tuner"}


@dataclass(frozen=True)
class Names:
    """The options that make up a study, as they are recorded; ``choices`` has those of all groups by group."""

    model: str
    dataset: str
    strategy: str
    resampling: str
    choices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """Everything that a study is made of.

    Args:
        config: the composed config as it is recorded: plain mappings, without values from the environment.
        dataset_note: why another dataset than the configured one was taken, where that is so.
    """

    name: str
    names: Names
    config: Mapping[str, Any]
    definition: Definition
    model: Model
    dataset: Dataset
    evaluator: Evaluator
    strategy: Strategy
    executor: Executor
    dataset_note: str | None = None

    @property
    def search(self) -> Search:
        """What the strategy is told."""
        definition = self.definition
        start = definition.space.select(self.model.tunables)
        return Search(
            space=definition.space,
            objective=definition.objective,
            n_trials=definition.limits.n_trials,
            max_epochs=definition.max_epochs,
            seed=derive_seed("strategy", definition.seed, self.names.strategy),
            default_params=start if start and definition.space.contains(start) else None,
            enqueued=definition.enqueue,
            row_splits=self.evaluator.row_splits,
            defined_by_run=self.is_defined_by_run,
        )

    @property
    def is_defined_by_run(self) -> bool:
        """Whether trials ask for their params while they run, so that no space is known before."""
        return isinstance(self.model, WholeObjective)

    def with_found(self, space: SearchSpace) -> Study:
        """The study with the space that its trials have asked for, where it had none of its own."""
        return replace(self, definition=replace(self.definition, space=space)) if self.is_defined_by_run else self

    @property
    def max_epochs(self) -> int:
        """The most epochs of one fold: the full budget of a trial."""
        return self.definition.max_epochs

    @property
    def n_at_once(self) -> int:
        """Trials that train at the same time: as many as there are workers, if the strategy proposes so many."""
        return self.executor.n_workers if self.strategy.tags.parallel else 1

    @property
    def defaults_outside(self) -> list[str]:
        """Parameters whose default in the model lies outside the space, so that no trial can begin there."""
        start = self.definition.space.select(self.model.tunables)
        return [name for name, value in start.items() if not self.definition.space[name].contains(value)]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that the results depend on; two studies are comparable where their identities agree."""
        kept = {key: value for key, value in self.config.items() if key not in MUTABLE}
        return kept | {
            "data_digest": self.dataset.digest,
            "folds_digest": self.evaluator.folds_digest,
            "threads_per_trial": self.executor.threads_per_trial,
            "code": code_digests(self.config),
            "keras_backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
            "versions": {name: importlib.metadata.version(name) for name in (*_VERSIONS, *self._backend)},
            # Absent for all others, whose fingerprints stay what they were.
            **({"base_digest": self.model.origin.digest} if self.model.origin else {}),
        }

    @property
    def _backend(self) -> list[str]:
        package = self.strategy.tags.backend.partition(".")[0]
        name = _DISTRIBUTIONS.get(package, package)
        return [] if name in _VERSIONS else [name]

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal characters that change when :attr:`identity` does."""
        text = json.dumps(self.identity, sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def code_digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Of the files behind every ``_target_`` that no installed package has a version for: the user's own."""
    found: dict[str, str] = {}
    for target in _targets(config):
        module = sys.modules.get(target.rpartition(".")[0])
        path = Path(getattr(module, "__file__", None) or "")
        is_installed = {"site-packages", "dist-packages"} & set(path.parts) or target.startswith("hpo.")
        if path.is_file() and not is_installed:
            found[target] = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    return found


def _targets(config: Mapping[str, Any]) -> Iterator[str]:
    """Dotted names of what the config has made, a hypermodel's and an objective's among them."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _targets(value)
        elif key in ("_target_", "hypermodel", "objective") and isinstance(value, str):
            yield value


def default_name(names: Names, seed: int) -> str:
    """A study name from its parts and the time."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return f"{names.model}-{names.dataset}-{names.strategy}-s{seed}-{now}"


def build_study(
    config: Mapping[str, Any],
    definition: Definition,
    names: Names,
    dataset_note: str | None = None,
    to_record: Mapping[str, Any] | None = None,
    known: Mapping[str, str] | None = None,
) -> Study:
    """Put a study together and check that its parts fit; what is quick to check comes first.

    Args:
        to_record: the config as it is recorded, where that differs from ``config``.
        known: the tags of a study that goes on.

    Raises:
        ConfigError: for parts that cannot be made or do not fit.
        DatasetError: when the data are missing, corrupt or do not fit the model.
    """
    executor = _build(config, "executor", Executor)
    executor.prepare()
    with _without_device_notes():
        strategy = _build(config, "strategy", Strategy)
    resampling = _build(config, "resampling", Resampling)
    with _without_device_notes():
        model = build_model(config)
        check_own_fits(config, model, resampling, names)
        if isinstance(model, WholeObjective):
            definition = replace(definition, enqueue=tuple(config["enqueue"]))
        elif is_from_model(config):
            config = with_space_of_model(config, model.own_space)
            to_record = {**(to_record or config), "search_space": config["search_space"]}
            definition = Definition.of(config)
        check_space_fits(list(definition.space), model.tunables)
        resolve_model(model, config, known)
        dataset = build_dataset(config)
        check_own_data_fit(dataset, model, names)
        objective, seed = definition.objective, definition.seed
        evaluator: Evaluator
        if isinstance(model, WholeObjective):
            evaluator = ObjectiveEvaluator(model, dataset, objective, seed)
        else:
            evaluator = Evaluator(model, dataset, resampling, objective, definition.early_stopping, seed)
    name = config["study"] or default_name(names, definition.seed)
    study = Study(
        name, names, to_record or config, definition, model, dataset, evaluator, strategy, executor, dataset_note
    )
    check_strategy_fits(study, resampling)
    strategy.plan(study.search)
    return study


def strategy_tags(config: Mapping[str, Any]) -> StrategyTags:
    """What the configured strategy can do.

    Raises:
        ConfigError: when its library is not installed.
    """
    with _without_device_notes():
        strategy: Strategy = _build(config, "strategy", Strategy)
    return strategy.tags


def check_own_fits(config: Mapping[str, Any], model: Model, resampling: Resampling, names: Names) -> None:
    """Refuse an objective what it does by itself, and other models what only an objective does.

    Raises:
        ConfigError: naming the key.
    """
    is_own, chosen = isinstance(resampling, OwnResampling), f"model={names.model}"
    if not isinstance(model, WholeObjective):
        if is_own:
            expected = f"folds of the study, since {chosen} does not split its data itself"
            raise ConfigError("resampling", names.resampling, expected, "resampling=holdout")
        return
    if not is_own:
        expected = f"own, since {chosen} loads and splits its data itself"
        raise ConfigError("resampling", names.resampling, expected, "resampling=own")
    stated = [name for name, spec in config["search_space"].items() if spec["type"] != FROM_MODEL]
    if stated or not is_from_model(config):
        expected = f"no parameters, since {chosen} asks for its own while it runs"
        raise ConfigError("search_space", ", ".join(stated), expected, "search_space=from_model")
    if config["early_stopping"]["patience"] is not None:
        expected = f"null, since {chosen} trains by itself"
        fix = "early_stopping.patience=null"
        raise ConfigError("early_stopping.patience", config["early_stopping"]["patience"], expected, fix)


def check_own_data_fit(dataset: Dataset, model: Model, names: Names) -> None:
    """As :func:`check_own_fits`, of the data.

    Raises:
        ConfigError: naming the key.
    """
    if isinstance(model, WholeObjective) is isinstance(dataset, OwnData):
        return
    if isinstance(dataset, OwnData):
        expected = f"data to train on, since model={names.model} loads none itself"
        raise ConfigError("dataset", names.dataset, expected, "dataset=digits")
    expected = f"own, since model={names.model} loads its data itself"
    raise ConfigError("dataset", names.dataset, expected, "dataset=own")


def check_strategy_fits(study: Study, resampling: Resampling) -> None:
    """Refuse what the strategy cannot do.

    Raises:
        ConfigError: naming both keys.
    """
    tags, definition, chosen = study.strategy.tags, study.definition, f"strategy={study.names.strategy}"
    if study.is_defined_by_run and not tags.define_by_run:
        expected = f"one of Optuna's, since model={study.names.model} asks for its params while it runs"
        raise ConfigError("strategy", f"{study.names.strategy} ({tags.backend})", expected, "strategy=optuna")
    conditional = [name for name, parameter in definition.space.items() if parameter.when]
    if conditional and not tags.conditional:
        key = f"search_space.{conditional[0]}.when"
        expected = f"no conditions, since {chosen} ({tags.backend}) takes none"
        fix = f"'~search_space.{conditional[0]}', {key}=null, or a strategy with conditions: python -m hpo strategies"
        raise ConfigError(key, dict(definition.space[conditional[0]].when or {}), expected, fix)
    if tags.pruning and not resampling.allows_pruning:
        expected = (
            f"a strategy that does not prune, since resampling={study.names.resampling} has folds that say too little"
        )
        fix = "strategy/pruner=none" if "pruner" in study.config["strategy"] else "strategy=random"
        raise ConfigError("strategy", f"{study.names.strategy}, which prunes", expected, f"{fix}, or resampling=kfold")
    if definition.objective.others:
        names = ", ".join(definition.objective.others)
        if not tags.several_objectives:
            expected = f"one objective, since {chosen} takes one"
            raise ConfigError("objective.others", names, expected, "strategy=optuna_nsga2")
        if tags.pruning:
            expected = f"one objective, since a pruner compares one curve and {chosen} prunes"
            raise ConfigError("objective.others", names, expected, "strategy/pruner=none, or strategy=optuna_nsga2")
    if definition.enqueue and not tags.enqueues:
        expected = f"nothing, since {chosen} ({tags.backend}) takes no configurations to begin with"
        raise ConfigError("enqueue", f"{len(definition.enqueue)} configurations", expected, "strategy=optuna")


# What TensorFlow prints about devices when it starts, whatever its log level; none of it is an error of the study.
_DEVICE_NOTES = ("absl::InitializeLog", "cudart_stub.cc", "cuda_platform.cc", "cpu_feature_guard", "port.cc")


@contextmanager
def _without_device_notes() -> Iterator[None]:
    """Hold back standard error while a backend starts, and let through all that is not a note on its devices."""
    sys.stderr.flush()
    try:
        real = os.dup(2)
    except OSError:  # closed: nothing to hold back
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines(keepends=True):
                if not any(note in line for note in _DEVICE_NOTES):
                    sys.stderr.write(line)


def build_model(config: Mapping[str, Any]) -> Model:
    """The model that the config names: a :class:`Model`, or a function that builds a Keras model.

    Raises:
        ConfigError: when it cannot be found or made.
    """
    options = dict(config["model"])
    target = options.pop("_target_", None)
    if target is None:
        raise ConfigError("model._target_", None, "the dotted name of a function or class", "model=mnist_cnn")
    try:
        found = get_object(target)
    except Exception as error:  # importing a user's module may raise anything
        raise _not_found("model", target, error) from error
    if not inspect.isfunction(found):
        model: Model = _build(config, "model", Model)
        return model
    from hpo.models.keras_model import KerasModel  # imports Keras

    return KerasModel(found, **options)


def resolve_model(model: Model, config: Mapping[str, Any], known: Mapping[str, str] | None = None) -> None:
    """Have ``model`` get what it begins from, out of the store that the study is recorded in.

    Args:
        known: the tags of a study that goes on: with the model that it began from, whatever the name stands for now.

    Raises:
        InputError: when it cannot be had or is of no use.
    """
    where = config["tracking"]

    def fetch(wanted: str, folder: Path) -> SavedNetwork:
        from hpo import tracking  # imports MLflow, which most models do not need to be built

        if known and wanted == known.get("hpo.base"):
            wanted = known["hpo.base_uri"]
        return tracking.fetch_network(where["uri"], where["experiment"], wanted, folder)

    model.resolve(fetch)


def build_dataset(config: Mapping[str, Any]) -> Dataset:
    """The data that the config names.

    Raises:
        ConfigError: when they cannot be found or made.
        DatasetError: when they are missing or corrupt.
    """
    dataset: Dataset = _build(config, "dataset", Dataset)
    return dataset


def _build(config: Mapping[str, Any], key: str, kind: type | None = None) -> Any:
    node = config[key]
    try:
        built = instantiate(node, _convert_="all")
    except InstantiationException as error:
        explained = _explain(key, node, error)
        # An error of ours that Hydra wrapped has this one as its context already: naming it a cause makes a circle.
        raise explained from (None if explained.__cause__ or explained.__traceback__ else error)
    if kind is not None and not isinstance(built, kind):
        raise ConfigError(
            f"{key}._target_",
            node.get("_target_"),
            f"what makes a {kind.__module__}.{kind.__name__}",
            f"python -m hpo --help lists the options of {key}",
        )
    return built


def _explain(key: str, node: Mapping[str, Any], error: InstantiationException) -> InputError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return cause
        last, cause = cause, cause.__cause__
    target = str(node.get("_target_"))
    is_missing = isinstance(last, ModuleNotFoundError) and install_command(str(last.name))
    if is_missing or "locating target" in str(error):
        return _not_found(key, target, last)
    where = re.search(r"full_key: (\S+)", str(error))
    inner: Any = node
    for part in where.group(1).split(".") if where else ():
        inner = inner.get(part, {}) if isinstance(inner, Mapping) else {}
    full_key = f"{key}.{where.group(1)}" if where else key
    target = str(inner.get("_target_", target)) if isinstance(inner, Mapping) else target
    said = f"{type(last).__name__}: {str(last).splitlines()[0] if str(last) else 'no message'}"
    option = re.search(r"unexpected keyword argument '(\w+)'", said)
    if option and isinstance(inner, Mapping):
        name = option.group(1)
        expected = f"an option that {target} takes"
        return ConfigError(f"{full_key}.{name}", inner.get(name, "given"), expected, f"'~{full_key}.{name}'")
    return ConfigError(full_key, target, f"options that it takes ({said})", "python -m hpo --cfg job shows them")


def _not_found(key: str, target: str, error: BaseException) -> ConfigError:
    module = target.rpartition(".")[0]
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ModuleNotFoundError) and (command := install_command(str(error.name))):
        return ConfigError(key, target, f"the library {error.name}, which is not installed", command)
    return ConfigError(
        f"{key}._target_",
        target,
        f"a name that can be imported ({type(error).__name__}: {error})",
        f"run `python -m hpo` in the folder that holds {module.split('.')[0]}, or install it",
    )
