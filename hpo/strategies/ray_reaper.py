"""Ends the processes of a Ray that a study has started, once the study is over or its driver is dead.

Ray's own agents outlive a driver that is killed by a minute. Run as ``python -m hpo.strategies.ray_reaper MARK`` with a
pipe from the driver as standard input: every process with ``MARK`` in its environment is killed when the pipe ends.
"""

from __future__ import annotations

import contextlib
import os
import sys

import psutil

VARIABLE = "HPO_RAY_MARK"
ROUNDS = 3  # a process may start another one just before it ends


def marked(mark: str) -> list[psutil.Process]:
    """The processes with ``mark`` in their environment, this one not counted."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(VARIABLE) == mark:
                found.append(process)
    return found


def main() -> None:
    """See the module."""
    mark = sys.argv[1]
    sys.stdin.buffer.read()
    for _ in range(ROUNDS):
        for process in marked(mark):
            with contextlib.suppress(psutil.Error):
                process.kill()


if __name__ == "__main__":
    main()
