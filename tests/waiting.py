"""Waiting for a condition that another thread or process brings about."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def wait_until(is_true: Callable[[], object], timeout: float = 60.0) -> None:
    """Return as soon as ``is_true()`` is; fail after ``timeout`` seconds."""
    ends = time.monotonic() + timeout
    never = threading.Event()
    while not is_true():
        assert time.monotonic() < ends, f"not true within {timeout:g} s"
        never.wait(0.02)
