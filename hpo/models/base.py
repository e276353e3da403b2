"""The model contract: what evaluation needs of anything that can be trained.

A Keras model is one function (see :mod:`hpo.models.keras.model`), named by ``_target_`` in ``conf/model/*.yaml``.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from hpo.core.early_stopping import EarlyStopping
from hpo.core.identity import PartIdentity
from hpo.core.params import Params, ParamValue
from hpo.core.space import Parameter, SearchSpace
from hpo.core.states import Decision, StopReason
from hpo.datasets.base import Array, DataSpec
from hpo.errors import SuggestionRefused

if TYPE_CHECKING:
    from hpo.models.objectives.base import WholeObjective


class Control(Protocol):
    """The driver's side of a running training. Methods may be called from any thread."""

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        """Report the metrics of a finished epoch, counted from 0, and return whether training may continue."""
        ...

    def poll(self) -> Decision:
        """Return whether training may continue; cheap enough to be called between batches."""
        ...


class ObjectiveControl(Control, Protocol):
    """A control for objectives that ask for their params while they run; see :mod:`hpo.models.objectives.base`."""

    def suggest(self, parameter: Parameter) -> ParamValue:
        """Let the strategy choose a value now; the value is recorded at once.

        Raises:
            SuggestionRefused: when the strategy cannot choose one.
        """
        ...

    def note(self, name: str, text: str) -> None:
        """Record a note of the objective on its trial."""
        ...


class Undisturbed:
    """A :class:`Control` that never stops training."""

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        return Decision.CONTINUE

    def poll(self) -> Decision:
        return Decision.CONTINUE


class WithoutStrategy(Undisturbed):
    """An :class:`ObjectiveControl` for tasks outside of a search, such as a refit: refuses suggestions, drops notes."""

    def suggest(self, parameter: Parameter) -> ParamValue:
        raise SuggestionRefused(f"no strategy is running that could choose a value of {parameter.name!r}")

    def note(self, name: str, text: str) -> None: ...


@dataclass(frozen=True)
class FoldData:
    """The arrays of one fold: rows to train on, and rows that early stopping watches.

    Args:
        x_train, x_watch: samples, ``(n, *input_shape)``.
        y_train, y_watch: labels or real values, ``(n,)``. There are no watched rows in the refit of the best trial.
    """

    x_train: Array
    y_train: Array
    x_watch: Array | None
    y_watch: Array | None

    @property
    def is_refit(self) -> bool:
        """Whether this is the refit of the best trial, with nothing to watch."""
        return self.x_watch is None


@dataclass(frozen=True)
class FitPlan:
    """How to train on one fold.

    Args:
        max_epochs: most epochs to train.
        seed: seed of everything random in training.
        early_stopping: when to stop, and whether to restore the best weights.
        budget_fraction: ``max_epochs`` divided by the study's ``max_epochs``; for budgets that are not epochs, and for
            schedules over the full budget.
        extra: metrics of :mod:`hpo.models.metrics` to report for the watched rows, besides the model's own.
    """

    max_epochs: int
    seed: int
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    budget_fraction: float = 1.0
    extra: tuple[str, ...] = ()


@dataclass
class FitLog:
    """The record of one training, complete up to the point where training ends or fails.

    :class:`hpo.models.fitting.EpochMonitor` fills everything about epochs.

    Args:
        max_epochs: epochs that are allowed; a model without epochs sets 1.
        history: metric → one value for each epoch.
        seconds: phase → wall seconds of this trial.
        shared_by: phase → number of trials that trained together in it, for phases of more than one trial.
        epochs_run: finished epochs.
        best_epoch: the epoch with the best monitored value, from 0.
        best_value: the monitored value at ``best_epoch``.
        stopped_epoch: the epoch at which early stopping ended training.
        restored_best_weights: whether the model has the weights of ``best_epoch``.
        stop_reason: why training ended.
        problem: one line that says why training failed, if it did without an exception.
        n_weights: number of weights of the model.
    """

    max_epochs: int = 1
    history: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    shared_by: dict[str, int] = field(default_factory=dict)
    epochs_run: int = 0
    best_epoch: int | None = None
    best_value: float | None = None
    stopped_epoch: int | None = None
    restored_best_weights: bool = False
    stop_reason: StopReason = StopReason.MAX_EPOCHS
    problem: str | None = None
    n_weights: int | None = None

    @contextmanager
    def phase(self, name: str, shared_by: int = 1) -> Iterator[None]:
        """Measure the wall seconds of a block, and add them to ``seconds[name]``.

        Args:
            name: the phase, such as ``build``, ``train`` or ``score``.
            shared_by: number of trials that the block works for; each is charged an equal part of the seconds.
        """
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add_seconds(name, time.perf_counter() - started, shared_by)

    def add_seconds(self, name: str, seconds: float, shared_by: int = 1) -> None:
        """Add wall seconds of work that ``shared_by`` trials share to a phase, divided among them."""
        if shared_by < 1:
            raise ValueError(f"shared_by must be at least 1, not {shared_by}")
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds / shared_by
        if shared_by > 1:
            self.shared_by[name] = max(shared_by, self.shared_by.get(name, 1))


@dataclass(frozen=True)
class Fit:
    """One training: what :meth:`Model.fit` needs, and the log that it fills.

    Args:
        params: values by name; a parameter that is not named has the model's default.
        spec: shape and target of the data.
        data: rows to train on and rows that early stopping watches.
        plan: epochs, seed, early stopping and extra metrics.
        log: filled epoch by epoch; kept if training raises.
        control: the driver's side, which gets the metrics of every epoch.
    """

    params: Params
    spec: DataSpec
    data: FoldData
    plan: FitPlan
    log: FitLog
    control: Control


@dataclass(frozen=True)
class FeatureMaps:
    """The kernels of a network's first convolution, and its activations for some images.

    Args:
        filters: kernels, ``(height, width, channels, n_filters)``.
        images: ``(n, height, width, channels)``.
        maps: activations, ``(n, height, width, n_filters)``.
    """

    filters: Array
    images: Array
    maps: Array


@dataclass(frozen=True)
class SavedNetwork:
    """A network of an earlier study, copied to this machine.

    Args:
        uri: URI of the model in MLflow.
        path: file in the format of Keras.
    """

    uri: str
    path: Path


Fetch = Callable[[str, Path], SavedNetwork]
"""Copies the network of a study, by its name, or of an MLflow URI into a folder; raises InputError if it cannot."""


@dataclass(frozen=True)
class Origin:
    """The network that a model starts from.

    Args:
        wanted: its name in the config.
        uri: where it was found.
        digest: 32 hexadecimal characters, computed from its layers and weights.
    """

    wanted: str
    uri: str
    digest: str


class FittedModel(ABC):
    """A trained model."""

    @abstractmethod
    def evaluate(self, x: Array, y: Array, extra: Sequence[str] = ()) -> dict[str, float]:
        """Return metrics of labelled samples by name: those that training reports, without ``val_``, and ``extra``.

        Args:
            x: samples, ``(n, *input_shape)``.
            y: labels or real values, ``(n,)``.
            extra: names of :func:`hpo.models.metrics.names`.
        """

    @abstractmethod
    def predict(self, x: Array) -> Array:
        """Return what the saved MLflow model predicts for ``n`` samples, such as probabilities ``(n, n_classes)``."""

    @abstractmethod
    def predict_targets(self, x: Array) -> tuple[Array, Array | None]:
        """Return predicted labels or real values ``(n,)``, and the scores ``(n, n_classes)`` of a classifier.

        Scores are probabilities, or numbers that rank the classes; None for a regressor or without any.
        """

    def feature_maps(self, x: Array) -> FeatureMaps | None:
        """Return the activations of the first convolution for images ``x``; None for models without one."""
        return None

    @abstractmethod
    def save_weights(self, path: Path) -> None:
        """Write the weights to ``path``; replace an existing file in one step, so that no half-written file remains."""

    @abstractmethod
    def save(self, path: Path, example: Array) -> None:
        """Write a complete MLflow model folder, from which ``mlflow.pyfunc`` loads a model that predicts as this one.

        ``mlflow.FLAVOR.save_model`` of the model's library does it. Import MLflow inside this method, since training
        does not need it; :mod:`hpo.models.saving` has options that all flavors take. The folder should load without
        hpo.

        Args:
            path: a folder that does not exist yet.
            example: samples, ``(n, *input_shape)``, for the signature and as the input example.
        """


EvaluatorT = TypeVar("EvaluatorT", covariant=True)


class EvaluatorFactory(Protocol[EvaluatorT]):
    """Makes the evaluator of a trainable; one method for each kind."""

    def for_model(self, model: Model) -> EvaluatorT:
        """Make the evaluator that trains and scores ``model`` on the study's folds."""
        ...

    def for_objective(self, objective: WholeObjective) -> EvaluatorT:
        """Make the evaluator that calls ``objective`` once a trial."""
        ...


class Trainable(ABC):
    """What the config group ``model`` names and a study tunes: a :class:`Model`, or an objective that trains by itself.

    Attributes:
        weights_suffix: ending of the files that hold the weights of trials; an objective saves none.
        has_epochs: whether a budget is a number of epochs, each of which is reported; otherwise it is a share of the
            training rows, and the model trains in one step.
        is_self_contained: whether it loads its data, splits them, trains and stops by itself. A study of it has a
            placeholder for its dataset and its resampling, and no early stopping of its own.
        is_defined_by_run: whether trials ask for their params while they run, so that the search space is not known
            beforehand.
        origin: the network that it starts from, once resolved; None for trainables that start from scratch.
    """

    weights_suffix: str
    has_epochs: bool = True
    is_self_contained: bool = False
    is_defined_by_run: bool = False
    origin: Origin | None = None

    @abstractmethod
    def make_evaluator(self, factory: EvaluatorFactory[EvaluatorT]) -> EvaluatorT:
        """Make the evaluator of this trainable's kind with ``factory``."""

    def identity(self, space: SearchSpace) -> PartIdentity:
        """What defines it besides its options; a subclass adds the libraries that it trains with.

        Args:
            space: what is searched, for libraries that only some params need.
        """
        values = {"base_digest": self.origin.digest} if self.origin else {}
        return PartIdentity(code=(type(self),), values=values)

    def resolve(self, fetch: Fetch) -> None:  # noqa: B027 most models start from scratch
        """Fetch the network that the model starts from.

        Called once, by the driver, before any other method. Workers receive the resolved model and need no store.

        Raises:
            InputError: when the network cannot be fetched or does not fit.
        """

    def describe_budget(self, max_epochs: int, budget_fraction: float) -> str:
        """Describe a budget in the model's own unit: ``9 epochs``, ``90 trees``, ``a third of the rows``."""
        return f"{max_epochs} epoch{'s' * (max_epochs != 1)}"

    @property
    def own_space(self) -> SearchSpace | None:
        """The search space that comes with the model, for ``search_space=from_model``; None where there is none."""
        return None

    @property
    @abstractmethod
    def tunables(self) -> dict[str, ParamValue]:
        """Every parameter that a search space may name, with its default."""


class Model(Trainable):
    """A family of models with named parameters.

    Attributes:
        image_shape: height, width and channels that images are resized to; None takes samples as they are.
        takes_rows: whether every sample is passed as one row of numbers, with images flattened.
    """

    image_shape: tuple[int, ...] | None = None
    takes_rows: bool = False

    def make_evaluator(self, factory: EvaluatorFactory[EvaluatorT]) -> EvaluatorT:
        return factory.for_model(self)

    def check_fits(self, spec: DataSpec) -> None:
        """Refuse data that the model is not made for.

        Raises:
            ConfigError: for example for class labels and a regression model.
        """

    @abstractmethod
    def metrics(self, spec: DataSpec) -> tuple[str, ...]:
        """Return the names of the metrics that :meth:`fit` reports after each epoch."""

    @abstractmethod
    def fit(self, fit: Fit) -> FittedModel:
        """Train, and fill ``fit.log`` with :class:`hpo.models.fitting.EpochMonitor`.

        Raises:
            Exception: any exception of the library or of user code; it fails the trial.
        """

    @abstractmethod
    def restore(self, params: Params, spec: DataSpec, path: Path) -> FittedModel:
        """Return the trained model with the weights that were saved to ``path``."""
