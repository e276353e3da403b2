"""A driver that is killed at any moment: between any two lines of what it says."""

import shutil
from pathlib import Path

import pytest
from toy_study import FOLDER, GOOD, Listed, Place, study_run, trial_runs

from hpo import tracking
from hpo.resampling import Resampling, StratifiedKFoldResampling

FOLDS = StratifiedKFoldResampling(2)


@pytest.fixture
def place(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr("hpo.finish.save_model", lambda *_: None)
    monkeypatch.setattr(tracking.Tracker, "log_model", lambda *_: None)
    return Place()


@pytest.mark.parametrize("resampling", [None, pytest.param(FOLDS, marks=pytest.mark.slow)], ids=["holdout", "folds"])
def test_a_driver_that_is_killed_between_any_two_records_loses_and_doubles_nothing(
    place: Place, resampling: Resampling | None, tmp_path: Path
) -> None:
    """The outbox of a study, cut after every line, is delivered and gone on from."""
    trials = [GOOD[0], {"x": 0.1, "kind": "raise"}, GOOD[1]]
    place.run(Listed(trials), 3, resampling=resampling)
    lines = (FOLDER / "outbox.jsonl").read_bytes().splitlines(keepends=True)
    whole = {trial.data.tags["hpo.trial"]: trial.data.tags["hpo.state"] for trial in trial_runs(place.runs)}
    n_folds = 2 if resampling else 1
    for n_lines in range(1, len(lines)):
        for run in place.runs:
            place.client.delete_run(run.info.run_id)
        shutil.rmtree(FOLDER)
        FOLDER.mkdir(parents=True)
        (FOLDER / "outbox.jsonl").write_bytes(b"".join(lines[:n_lines]))
        tracking.Courier(FOLDER, "toy", lambda: place.store).deliver()
        recorded = place.recorded(n_folds)
        result = place.run(Listed(trials), 3, recorded=recorded, resampling=resampling)
        assert result.n_tests == 1, n_lines
        runs = place.runs
        assert "RUNNING" not in {run.info.status for run in runs}, n_lines
        current = [run for run in trial_runs(runs) if run.data.tags.get("hpo.superseded") != "true"]
        assert {run.data.tags["hpo.trial"]: run.data.tags["hpo.state"] for run in current} == whole, n_lines
        for run in current:
            n_epochs = 1 if run.data.tags["hpo.state"] == "FAIL" else 3
            name = "val_loss" if n_folds == 1 else "fold_0/val_loss"
            assert place.steps(run, name) == list(range(n_epochs)), n_lines
            assert place.steps(run, "total_seconds") == [0], n_lines
        study = study_run(runs)
        assert place.steps(study, "n_complete") == [0, 1, 2], n_lines
        assert place.steps(study, "test_loss") == [0], n_lines
        assert study.data.tags["hpo.state"] == "finished", n_lines
        assert study.data.params["seed"] == "0", n_lines
