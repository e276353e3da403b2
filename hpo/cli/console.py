"""The console that every command prints to."""

from __future__ import annotations

import os
import sys
from typing import Any


def console() -> Any:
    """Return a rich console on standard output that survives a closed pipe."""
    from rich.console import Console

    class PersistentConsole(Console):
        """Keeps a study running when the process that reads its output ends."""

        def on_broken_pipe(self) -> None:
            self.quiet = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.close(nowhere)

    # Without a terminal rich assumes 80 columns, which would break every line of a log file.
    return PersistentConsole() if sys.stdout.isatty() else PersistentConsole(width=160)
