"""The dataset contract: a function that returns a :class:`Dataset`, named by ``_target_`` in a dataset's YAML."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from hpo.core.identity import PartIdentity
from hpo.errors import DatasetError

Array = np.ndarray[Any, Any]


class DatasetUnavailable(DatasetError):
    """The data is not on this machine and cannot be downloaded now; a fallback may replace it."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        name: as in the data.
        categories: labels of a categorical column, the values of which are indices of them; None for numbers. NaN is a
            missing value in both.
    """

    name: str
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True)
class DataSpec:
    """Shape and target of the data that a model is fitted to.

    Args:
        input_shape: shape of one sample, without the batch axis.
        n_classes: number of classes; 0 for real targets (regression).
        columns: of a table, in the order of a sample's values; empty for other data.
        n_words: of texts, upper limit of the word numbers in the samples, where 0 is padding; 0 for other data.
        target_mean, target_std: of the real targets of the training rows, set by the model's training, so that a
            network can learn standardised targets and predict in the original unit.
    """

    input_shape: tuple[int, ...]
    n_classes: int
    columns: tuple[Column, ...] = ()
    n_words: int = 0
    target_mean: float = 0.0
    target_std: float = 1.0

    @property
    def is_regression(self) -> bool:
        """Whether targets are real numbers instead of classes."""
        return self.n_classes == 0


@dataclass(frozen=True)
class Dataset:
    """Labelled samples with a fixed test split.

    Args:
        name: of the dataset, as recorded.
        x, y: samples of shape ``(n, …)``, and integer labels or real targets (regression) of shape ``(n,)``; the
            resampling splits them.
        x_test, y_test: the test split; it never depends on a study's seed.
        source: where the data comes from, in words.
        groups: group of every row of ``x`` that has to stay in one part, such as a patient; None without groups.
        gap: number of rows to leave out between a training part and the next part of rows in order of time, since
            their targets were not known yet; None for rows without an order.
        columns, n_words: see :class:`DataSpec`.
        class_names: names of the labels 0, 1, …; empty if they have none.

    Attributes:
        is_placeholder: whether it has no rows, for a trainable that loads its data itself.

    Raises:
        DatasetError: if samples and labels do not match, or there are fewer than two classes or values.
    """

    name: str
    x: Array
    y: Array
    x_test: Array
    y_test: Array
    source: str
    groups: Array | None = None
    gap: int | None = None
    columns: tuple[Column, ...] = ()
    n_words: int = 0
    class_names: tuple[str, ...] = ()
    is_placeholder: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y) or len(self.x_test) != len(self.y_test) or not len(self.x_test):
            raise DatasetError(
                f"dataset {self.name}",
                f"{len(self.x)} + {len(self.x_test)} samples",
                f"the same number of labels ({len(self.y)} + {len(self.y_test)}) and at least one test sample",
                "correct the dataset",
            )
        if self.groups is not None and len(self.groups) != len(self.x):
            raise DatasetError(
                f"dataset {self.name}", f"{len(self.groups)} groups", f"{len(self.x)}", "correct the dataset"
            )
        if len(np.unique(self.y)) < 2:
            found, wanted = ("one value", "two values") if self.is_regression else ("one class", "two classes")
            raise DatasetError(
                f"dataset {self.name}", f"{found} in the target", f"at least {wanted}", "correct the dataset"
            )
        if self.is_regression and not (np.isfinite(self.y).all() and np.isfinite(self.y_test).all()):
            raise DatasetError(
                f"dataset {self.name}", "targets that are not finite", "real numbers", "correct the dataset"
            )

    @property
    def is_regression(self) -> bool:
        """Whether targets are real numbers instead of classes."""
        return bool(self.y.dtype.kind == "f")

    @property
    def spec(self) -> DataSpec:
        """Shape and target of the data that a model is fitted to."""
        n_classes = 0 if self.is_regression else int(self.y.max()) + 1
        return DataSpec(tuple(self.x.shape[1:]), n_classes, self.columns, self.n_words)

    @cached_property
    def digest(self) -> str:
        """Hash of every sample, label and their order: 32 hexadecimal characters."""
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.x, self.y, self.x_test, self.y_test, *(() if self.groups is None else (self.groups,))):
            digest.update(f"{array.dtype} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @property
    def identity(self) -> PartIdentity:
        """What defines it besides its options: the data themselves."""
        return PartIdentity(values={"data_digest": self.digest})

    def with_images_of(self, shape: tuple[int, ...]) -> Dataset:
        """Return the samples as images of ``shape`` (height, width, channels), resized bilinearly if they differ.

        The digest is that of the original data.

        Raises:
            DatasetError: if the samples are not images with that number of channels.
        """
        if self.x.shape[1:] == shape:
            return self
        if self.x.ndim != len(shape) + 1 or self.x.shape[-1] != shape[-1]:
            raise DatasetError(
                "dataset",
                f"{self.name}, samples of shape {self.x.shape[1:]}",
                f"images of shape {shape}, or of another height and width with {shape[-1]} channels",
                "choose another dataset or model",
            )
        return self._changed(x=_resize(self.x, shape), x_test=_resize(self.x_test, shape))

    def flat(self) -> Dataset:
        """Return the samples as rows of real numbers; the digest is that of the original data."""
        x, x_test = (part.reshape(len(part), -1).astype("float64") for part in (self.x, self.x_test))
        return self._changed(x=x, x_test=x_test)

    def _changed(self, x: Array, x_test: Array) -> Dataset:
        changed = replace(self, x=x, x_test=x_test)
        vars(changed)["digest"] = self.digest
        return changed


def _resize(images: Array, shape: tuple[int, ...]) -> Array:
    # Imported here, since scipy.ndimage is slow to import and most data needs no resizing.
    from scipy.ndimage import zoom

    factors = (1.0, shape[0] / images.shape[1], shape[1] / images.shape[2], 1.0)
    resized: Array = zoom(images, factors, order=1, grid_mode=True, mode="nearest")
    return resized
