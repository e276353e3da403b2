"""States of trials, reasons why training ends, and decisions about running trials."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """State of a trial, as in Optuna. An interrupted trial is WAITING: it is run again on resume."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"

    @property
    def is_finished(self) -> bool:
        """Whether a trial in this state counts towards ``limits.n_trials``."""
        return self in (State.COMPLETE, State.PRUNED, State.FAIL)


class StopReason(StrEnum):
    """Why the training of a fold ended."""

    MAX_EPOCHS = "max_epochs"
    EARLY_STOPPED = "early_stopped"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    NODE_LOST = "node_lost"
    ERROR = "error"
    INTERRUPTED = "interrupted"

    @property
    def state(self) -> State:
        """The trial state that this reason leads to."""
        if self in (StopReason.MAX_EPOCHS, StopReason.EARLY_STOPPED):
            return State.COMPLETE
        if self is StopReason.PRUNED:
            return State.PRUNED
        return State.WAITING if self is StopReason.INTERRUPTED else State.FAIL


class Decision(StrEnum):
    """The driver's answer to a report of a running trial."""

    CONTINUE = "continue"
    PRUNE = "prune"
    INTERRUPT = "interrupt"
