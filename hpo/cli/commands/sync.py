"""``python -m hpo sync``: delivers records that wait in outboxes."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from hpo.cli import stores
from hpo.cli.command import Command, add_store_arguments
from hpo.cli.exit_codes import BAD_INPUT, FAILED, OK
from hpo.errors import InputError, first_line, redact


def _execute(parsed: argparse.Namespace) -> int:
    from hpo.run.location import StoreLocation
    from hpo.run.lock import lock_study
    from hpo.run.session import deliver
    from hpo.tracking.outbox import find_pending_studies

    # No study starts here, so tracking.offline=refuse does not apply.
    where = replace(StoreLocation.of(stores.tracking_config(parsed)), offline="allow")
    code, folders = OK, find_pending_studies(where.output_path)
    if not folders:
        print("nothing waits: MLflow has every record")
    for folder in folders:
        try:
            with lock_study(folder, folder.name):
                print(f"{folder.name}: {deliver(where, folder)} records delivered", flush=True)
        except InputError as error:
            code = BAD_INPUT
            print(f"{folder.name}: not delivered: {redact(str(error))}", file=sys.stderr)
        except Exception as error:  # MLflow, the network and databases raise errors of many types
            code = FAILED
            print(f"{folder.name}: not delivered: {first_line(error)}", file=sys.stderr)
    return code


COMMAND = Command(
    "sync",
    "[OVERRIDE ...]",
    "deliver records that MLflow could not take when they were written",
    "Delivers the records of all studies of this folder that MLflow could not take when they were written.",
    add_store_arguments,
    _execute,
)
