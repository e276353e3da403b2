"""Where studies are recorded: the options of ``tracking``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.errors import ConfigError, TrackingError, redact
from hpo.tracking.store import open_store

OFFLINE = ("refuse", "allow")


@dataclass(frozen=True)
class StoreLocation:
    """An MLflow store and experiment, and the folder of the files of studies.

    Args:
        uri: MLflow's tracking URI.
        experiment: name of the experiment.
        output_path: contains ``studies/<name>`` for every study of this machine.
        offline: whether a study may start while the store does not answer: ``refuse`` or ``allow``.
    """

    uri: str
    experiment: str
    output_path: Path
    offline: str = "refuse"

    @classmethod
    def of(cls, tracking: Mapping[str, Any]) -> StoreLocation:
        """Build a location from the config.

        Raises:
            ConfigError: for an unknown value of ``offline``.
        """
        if tracking["offline"] not in OFFLINE:
            raise ConfigError("tracking.offline", tracking["offline"], "refuse or allow", "tracking.offline=allow")
        return cls(tracking["uri"], tracking["experiment"], Path(tracking["output_path"]), tracking["offline"])

    def folder(self, name: str) -> Path:
        """The folder of the study with that name."""
        return self.output_path / "studies" / name

    def connect(self) -> tuple[Any, str]:
        """Return the client and the id of the experiment; see :func:`hpo.tracking.store.open_store`.

        Raises:
            TrackingError: when the store cannot be reached or a folder cannot be written to.
            ConfigError: when the server refuses access.
        """
        try:
            return open_store(self.uri, self.experiment, self.output_path)
        except TrackingError as error:
            if self.offline == "allow":
                raise
            fix = f"{error.fix}, or tracking.offline=allow, which records on disk until the store answers"
            raise TrackingError(error.key, error.value, error.expected, fix) from error

    @property
    def store(self) -> str:
        """URI and experiment in words, without a password; identifies the store in ``study.json``."""
        return f"{redact(self.uri)} {self.experiment}"
