"""``python -m hpo``: dispatches to a command, and maps errors to messages and exit codes.

Start-up imports Hydra and nothing heavier, so that help and config errors take less than a second.
"""

from __future__ import annotations

import atexit
import difflib
import gc
import os
import re
import sys
import traceback
from collections.abc import Sequence

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

import hpo
from hpo import config as configs
from hpo.cli import commands, overview
from hpo.cli.exit_codes import BAD_INPUT, FAILED, INTERRUPTED, OK
from hpo.core.process import prepare_process
from hpo.errors import ConfigError, InputError, StudyFailed, redact


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if argv is None:  # the process ends with this command line
        # Python's last garbage collections take over a second with all libraries loaded; Ctrl-C should end at once.
        atexit.register(gc.freeze)
    # hpo sets it so that Hydra raises instead of printing; if the user sets it, tracebacks are printed as well.
    user_setting = os.environ.get("HYDRA_FULL_ERROR")
    wants_traceback = user_setting == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    prepare_process()
    try:
        return _dispatch(arguments)
    except (InputError, StudyFailed) as error:
        if wants_traceback:
            traceback.print_exc()
        print(f"error: {redact(str(error))}", file=sys.stderr)
        return BAD_INPUT if isinstance(error, InputError) else FAILED
    except (HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            traceback.print_exc()
        print(f"error: {redact(str(configs.explain(error, arguments)))}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception:  # a bug in hpo; its traceback may hold secrets
        print(redact(traceback.format_exc()), file=sys.stderr, end="")
        return FAILED
    finally:
        if user_setting is None:
            del os.environ["HYDRA_FULL_ERROR"]


def _dispatch(arguments: list[str]) -> int:
    first = arguments[0] if arguments else ""
    if first in commands.NAMES:
        return commands.load(first).run(arguments[1:])
    if {"-h", "--help"} & set(arguments):
        print(overview.overview())
        return OK
    if first == "--version":
        print(f"hpo {hpo.__version__}")
        return OK
    if re.fullmatch(r"[A-Za-z][\w-]*", first):
        close = difflib.get_close_matches(first, commands.NAMES, 1)
        expected = f"one of {', '.join(commands.NAMES)}, or overrides such as strategy=optuna"
        raise ConfigError("command", first, expected, f"python -m hpo {close[0] if close else '--help'}")
    return commands.load("run").run(arguments)
