"""Ends the processes of a Ray that a study has started, once that is over or its driver is dead.

Ray's own agents outlive a driver that is killed by a minute. Run as ``python -m hpo.executors.ray.reaper MARK`` with a
pipe from the driver as standard input, which says a line once Ray has started, and is answered by one: every process
with ``MARK`` in its environment, and those below them at that time, are killed when the pipe ends.
"""

from __future__ import annotations

import contextlib
import os
import sys

import psutil

VARIABLE = "HPO_RAY_MARK"
ROUNDS = 3  # a process may start another one just before it ends


def marked(mark: str) -> set[psutil.Process]:
    """The processes with ``mark`` in their environment and those below them, this one not counted."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(VARIABLE) == mark:
                # Agents write their title over their environment, and lose their parent when the driver is killed.
                found |= {process, *process.children(recursive=True)}
    return found


def main() -> None:
    """See the module."""
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
