"""Decides when a study ends: counts trials, epochs, seconds and failures against ``limits``."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

from hpo.core.limits import Limits
from hpo.core.states import Decision, State
from hpo.errors import SearchStopped
from hpo.run.result import StopCause


class StudyLimits:
    """What a study has spent over all its sessions, and the cause of its end. Safe to use from several threads.

    Args:
        limits: the limits of the study; all are totals over its sessions.
        clock: returns seconds; only differences count.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        # Reentrant: a signal handler may run while its thread holds it.
        self._lock = threading.RLock()
        self._cause: StopCause | None = None
        self._is_interrupted = False
        self._seconds_before = 0.0
        self._started: float | None = None
        self._n_by_state: Counter[State] = Counter()
        self._epochs = 0
        self._n_consecutive_failures = 0

    def restore(self, states: Iterable[State], seconds: float, epochs: int) -> None:
        """Continue from what earlier sessions spent; consecutive failures start again from 0.

        Args:
            states: of the finished trials.
            seconds: searched in earlier sessions.
            epochs: trained in earlier sessions.
        """
        with self._lock:
            self._n_by_state.update(states)
            self._seconds_before, self._epochs = seconds, epochs

    @property
    def cause(self) -> StopCause | None:
        """Why the study ends; None while it continues. An interrupt takes precedence over every other cause."""
        return StopCause.INTERRUPTED if self._is_interrupted else self._cause

    @property
    def is_interrupted(self) -> bool:
        """Whether the user has interrupted the study."""
        return self._is_interrupted

    @property
    def final_cause(self) -> StopCause:
        """Why a study ended that searches no more; without another cause, its strategy had nothing left to propose."""
        if self.cause is not None:
            return self.cause
        return StopCause.N_TRIALS if self.n_finished == self._limits.n_trials else StopCause.EXHAUSTED

    @property
    def seconds(self) -> float:
        """Seconds of search over all sessions."""
        return self._seconds_before + (0.0 if self._started is None else self._clock() - self._started)

    @property
    def epochs(self) -> int:
        """Epochs over all sessions, those of interrupted trials included."""
        return self._epochs

    @property
    def n_finished(self) -> int:
        """Trials that count towards ``limits.n_trials``."""
        return sum(n for state, n in self._n_by_state.items() if state.is_finished)

    def n_in(self, state: State) -> int:
        """Number of trials that ended in ``state``."""
        return self._n_by_state[state]

    def start_clock(self) -> None:
        """Start counting seconds, at the first trial: the start-up time of a library is not part of the search."""
        with self._lock:
            if self._started is None:
                self._started = self._clock()

    def count_epoch(self) -> None:
        """Count one epoch of a running trial."""
        with self._lock:
            self._epochs += 1

    def count_trial(self, state: State) -> None:
        """Count a trial that ended in ``state``; interrupted trials neither add to nor reset consecutive failures."""
        with self._lock:
            self._n_by_state[state] += 1
            if state is State.FAIL:
                self._n_consecutive_failures += 1
            elif state is not State.WAITING:
                self._n_consecutive_failures = 0

    def require_new_trial(self, n_open: int) -> None:
        """Check that one more trial may start.

        Args:
            n_open: trials that have started and not ended.

        Raises:
            SearchStopped: when the study ends.
        """
        limits = self._limits
        with self._lock:
            if limits.n_trials is not None and self.n_finished + n_open >= limits.n_trials:
                self.stop(StopCause.N_TRIALS)
            most_failures = limits.max_consecutive_failures
            if most_failures is not None and self._n_consecutive_failures >= most_failures:
                self.stop(StopCause.FAILURES)
            self._check_totals()
            if self.cause is not None:
                raise SearchStopped

    def decide(self) -> Decision:
        """Decide whether running trials continue: they do when the study only starts no more trials."""
        with self._lock:
            self._check_totals()
            cause = self.cause
            return Decision.INTERRUPT if cause is not None and cause.interrupts_trials else Decision.CONTINUE

    def _check_totals(self) -> None:
        """Check the limits that also interrupt running trials."""
        limits = self._limits
        if limits.timeout_seconds is not None and self.seconds >= limits.timeout_seconds:
            self.stop(StopCause.TIMEOUT)
        if limits.max_epochs_total is not None and self._epochs >= limits.max_epochs_total:
            self.stop(StopCause.MAX_EPOCHS)

    def stop(self, cause: StopCause) -> None:
        """End the study; the first cause stays, unless only the new one interrupts running trials."""
        with self._lock:
            if self._cause is None or (cause.interrupts_trials and not self._cause.interrupts_trials):
                self._cause = cause

    def interrupt(self) -> None:
        """End the study on behalf of the user; may be called from a signal handler."""
        self._is_interrupted = True  # without the lock, which another thread may hold
