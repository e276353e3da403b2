"""Starts Keras and its backend in the driver, without the notes on devices that TensorFlow prints while it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# TensorFlow prints these whatever its log level is: they come before that level applies.
_DEVICE_NOTES = ("absl::InitializeLog", "cudart_stub.cc", "cuda_platform.cc", "cpu_feature_guard.cc", "port.cc")
# A process of its own, so that the last words of a backend that aborts are shown.
_FILTER = """
import os, sys
notes = [note.encode() for note in sys.argv[1:]]
for line in sys.stdin.buffer:
    if not any(note in line for note in notes):
        os.write(2, line)
"""


def start_backend() -> None:
    """Import Keras and have its backend look for devices; does nothing if Keras is imported already.

    Only libraries are loaded here. A user's module is imported afterwards, with standard error as it is.
    """
    if "keras" in sys.modules:
        return
    with _without_lines(_DEVICE_NOTES):
        import keras

        keras.ops.zeros(1)


@contextmanager
def _without_lines(parts: tuple[str, ...]) -> Iterator[None]:
    """Drop the lines of standard error that contain one of ``parts``."""
    sys.stderr.flush()
    try:
        real = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _FILTER, *parts], stdin=subprocess.PIPE, start_new_session=True
    ) as reader:
        assert reader.stdin is not None
        os.dup2(reader.stdin.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            reader.stdin.close()
