"""Runs the commands of ``docs/operations.md`` for backup, restore and upgrades."""

from __future__ import annotations

from pathlib import Path

import pytest
from composed import POSTGRES, Composition
from deployed import FOREST, HPO, carry_out, documented, filled_in, record, require_complete

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not POSTGRES.exists(), reason="PostgreSQL's server is not installed (apt-get install postgresql)"
    ),
    pytest.mark.xdist_group("deployment"),
]


def test_restored_backup_is_complete_and_writable(tmp_path: Path) -> None:
    variables = filled_in()
    study = ("tracking=server", "executor=local", "strategy=random", "study=forest", *FOREST)
    with Composition(variables) as before:
        before.up("mlflow")
        driver = before.run("study", *study, "limits.n_trials=3", entrypoint=HPO)
        assert driver.wait() == 0, driver.text
        stored = require_complete(before, "forest", 3, driver)
        for line in documented("backup"):
            carry_out(before, line, tmp_path)
    with Composition(variables) as after:
        for line in documented("restore"):
            carry_out(after, line, tmp_path)
        assert record(after, "forest") == stored
        for line in documented("upgrade"):
            carry_out(after, line, tmp_path)
        driver = after.run("study", "resume", "forest", "limits.n_trials=5", "tracking=server", entrypoint=HPO)
        assert driver.wait() == 0, driver.text
        more = require_complete(after, "forest", 5, driver)
        assert stored.results.items() <= more.results.items()
        best = after.run("study", "best", "forest", "tracking=server", entrypoint=HPO)
        assert best.wait() == 0, best.text
