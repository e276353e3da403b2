"""Ends the processes of a Ray that a study has started, once the study has ended or its driver is dead.

Without it, Ray's agents outlive a killed driver by a minute. It runs as ``python -m hpo.executors.ray.reaper MARK``
with a pipe from the driver as standard input. The driver writes a line once Ray has started, and the reaper answers
with one. When the pipe ends, it kills every process with ``MARK`` in its environment and their children.
"""

from __future__ import annotations

import contextlib
import os
import sys

import psutil

VARIABLE = "HPO_RAY_MARK"
ROUNDS = 3  # a process may start another one just before it ends


def marked(mark: str) -> set[psutil.Process]:
    """Return the processes with ``mark`` in their environment and their children, without this one."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(VARIABLE) == mark:
                # Agents overwrite their environment with their title, and lose their parent when the driver is killed.
                found |= {process, *process.children(recursive=True)}
    return found


def main() -> None:
    """Wait for the end of the driver, then kill what it has started; see the module."""
    mark = sys.argv[1]
    sys.stdin.buffer.readline()
    known = marked(mark)
    print("ready", flush=True)
    sys.stdin.buffer.read()
    for _ in range(ROUNDS):
        for process in marked(mark) | known:
            with contextlib.suppress(psutil.Error):
                process.kill()


if __name__ == "__main__":
    main()
