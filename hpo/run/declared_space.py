"""The search space of a study with trials that ask for their params while they run."""

from __future__ import annotations

import threading

from hpo.core.space import Parameter, SearchSpace, united


class DeclaredSpace:
    """Collects the parameters that trials ask for. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parameters: dict[str, Parameter] = {}

    def add(self, parameter: Parameter) -> None:
        """Add a parameter; one that was declared before with another domain gets the union of both."""
        with self._lock:
            known = self._parameters.get(parameter.name)
            self._parameters[parameter.name] = parameter if known is None else united(known, parameter)

    @property
    def space(self) -> SearchSpace:
        """All parameters so far."""
        with self._lock:
            return SearchSpace(list(self._parameters.values()))
