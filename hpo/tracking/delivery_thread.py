"""The thread that delivers a study's outbox to MLflow while the study runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from hpo.errors import first_line
from hpo.tracking.delivery import OutboxUploader
from hpo.tracking.outbox import STUDY
from hpo.tracking.schema import Tag

FLUSH_SECONDS = 2.0  # between two deliveries
MAX_WAIT_SECONDS = 30.0  # between two attempts while the store does not answer
HEARTBEAT_SECONDS = 30.0


class DeliveryThread:
    """Delivers pending records every two seconds; while the store does not answer, it retries less and less often.

    Args:
        uploader: used by this thread only.
        driver: the value of ``Tag.DRIVER`` that belongs to this process; None to skip the check for another driver.
        say: receives one message when the store stops answering and one when it answers again; called from the thread.
    """

    def __init__(self, uploader: OutboxUploader, driver: str | None, say: Callable[[str], None]) -> None:
        self._uploader, self._driver, self._say = uploader, driver, say
        self._changed = threading.Condition()
        self._n_rounds = self._wanted = 0
        self._is_busy = self._is_closing = self._was_in_trouble = False
        self._last_heartbeat = time.monotonic()
        self.trouble: str | None = None
        """Why the store does not answer, in one line; None while it does."""
        self.is_taken_over = False
        """Whether another driver has resumed the study."""
        self._thread = threading.Thread(target=self._run, name="hpo-tracker", daemon=True)
        self._thread.start()

    def flush(self, seconds: float | None = None) -> bool:
        """Wait until everything appended so far is uploaded.

        Args:
            seconds: to wait at most; None waits until the store has answered or failed to.

        Returns:
            Whether everything is uploaded.
        """
        until = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            # A round in progress may have missed the newest records, so the one after it counts.
            round_ = self._wanted = max(self._wanted, self._n_rounds + (2 if self._is_busy else 1))
            self._changed.notify_all()
            while self._n_rounds < round_:
                left = 1.0 if until is None else min(1.0, until - time.monotonic())
                if left <= 0 or not self._thread.is_alive():
                    return False
                self._changed.wait(left)
            return self.trouble is None

    def close(self, seconds: float | None = None) -> bool:
        """Flush, then end the thread; returns whether everything is uploaded."""
        is_delivered = self.flush(seconds)
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        # A thread that waits for an answer is abandoned: it ends with the process.
        self._thread.join(seconds if is_delivered else 0.1)
        return is_delivered

    def _run(self) -> None:
        wait = FLUSH_SECONDS
        while self._wait_for_round(wait):
            try:
                self._uploader.deliver()
                self._send_heartbeat()
                self.trouble, wait = None, FLUSH_SECONDS
            except Exception as error:  # MLflow, the network and databases raise many types
                self.trouble, wait = first_line(error), min(MAX_WAIT_SECONDS, 2 * wait)
            self._report_trouble()
            with self._changed:
                self._n_rounds += 1
                self._is_busy = False
                self._changed.notify_all()

    def _wait_for_round(self, seconds: float) -> bool:
        """Wait until the next round is due or requested; returns False once the thread has to end."""
        with self._changed:
            if self._n_rounds >= self._wanted and not self._is_closing:
                self._changed.wait(seconds)
            if self._is_closing and self._n_rounds >= self._wanted:
                return False
            self._is_busy = True
            return True

    def _report_trouble(self) -> None:
        text = None
        if self.trouble is not None and not self._was_in_trouble:
            text = f"MLflow does not answer ({self.trouble}); training continues, and records wait on disk"
        elif self.trouble is None and self._was_in_trouble:
            text = "MLflow answers again; all pending records are delivered"
        self._was_in_trouble = self.trouble is not None
        with suppress(Exception, SystemExit):  # a closed terminal must not end the delivery
            if text is not None:
                self._say(text)

    def _send_heartbeat(self) -> None:
        """Record that this driver is alive, for other machines, and check that no other driver has taken over."""
        if time.monotonic() - self._last_heartbeat < HEARTBEAT_SECONDS:
            return
        self._last_heartbeat = time.monotonic()
        client, _ = self._uploader.store
        run_id = self._uploader.run_id(STUDY)
        if run_id is None:
            return
        if self._driver is not None and client.get_run(run_id).data.tags.get(Tag.DRIVER) != self._driver:
            self.is_taken_over = True  # for example while this machine was suspended
        else:
            client.set_tag(run_id, Tag.DRIVER_SEEN, str(round(time.time())))
