"""A driver that is killed between any two records, and resumed."""

import functools
import shutil
from pathlib import Path

import objectives
import optuna
import pytest
from mlflow.entities import Run
from toy_study import FOLDER, GOOD, Listed, Place, Silent, study_run, trial_runs

from hpo.config.definition import Definition
from hpo.core.early_stopping import EarlyStopping
from hpo.core.limits import Limits
from hpo.core.objective import Objective
from hpo.core.space import SearchSpace
from hpo.datasets import own
from hpo.evaluation.objective_evaluator import ObjectiveEvaluator
from hpo.evaluation.resampling import OwnResampling, Resampling, StratifiedKFoldResampling
from hpo.executors.inline import InlineExecutor
from hpo.models.objectives.optuna import OptunaObjective
from hpo.run.runner import Runner
from hpo.strategies.optuna import OptunaStrategy
from hpo.study.study import ChosenOptions, Study
from hpo.tracking.delivery import OutboxUploader
from hpo.tracking.reader import find_study
from hpo.tracking.resume import RecordedStudy, load_from_mlflow
from hpo.tracking.writer import Tracker

FOLDS = StratifiedKFoldResampling(2)
OBJECTIVE = Objective("value", "minimize")


@pytest.fixture
def place(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(Tracker, "log_model", lambda *_: None)
    return Place()


@pytest.mark.parametrize("resampling", [None, pytest.param(FOLDS, marks=pytest.mark.slow)], ids=["holdout", "folds"])
def test_killed_driver_loses_and_repeats_nothing(place: Place, resampling: Resampling | None, tmp_path: Path) -> None:
    """Cut the outbox of a study after each line, deliver it, and resume the study."""
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
        OutboxUploader(FOLDER, "toy", lambda: place.store).deliver()
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


def asking() -> Study:
    """A study of three trials that ask for their params while they run; the second fails."""
    definition = Definition(SearchSpace([]), OBJECTIVE, EarlyStopping(patience=None), Limits(3), 0, 3)
    sampler = functools.partial(optuna.samplers.TPESampler, n_startup_trials=1)
    model = OptunaObjective(objectives.layered_and_failing)
    return Study(
        name="toy-study",
        names=ChosenOptions("optuna_objective", "own", "optuna", "own"),
        config={"model": {}, "seed": 0},
        definition=definition,
        model=model,
        dataset=own.load(),
        evaluator=ObjectiveEvaluator(model, OBJECTIVE, 0),
        strategy=OptunaStrategy(sampler, optuna.pruners.NopPruner()),
        executor=InlineExecutor(1),
        resampling=OwnResampling(),
    )


def test_requested_params_survive_a_kill_between_any_two_records(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.reporting.plots.draw", lambda *_: [])  # plots take most of the time

    def run(recorded: RecordedStudy | None = None) -> None:
        tracker = Tracker(FOLDER, "toy", place.connect, lambda text: None)
        try:
            Runner(asking(), tracker, Silent(), ["seed=0"], recorded).run()
        finally:
            tracker.close()

    def trials_of(runs: list[Run]) -> dict[str, object]:
        current = [run for run in trial_runs(runs) if run.data.tags.get("hpo.superseded") != "true"]
        return {
            run.data.tags["hpo.trial"]: (run.data.params, run.data.tags["hpo.state"], run.data.metrics.get("objective"))
            for run in current
        }

    run()
    lines = (FOLDER / "outbox.jsonl").read_bytes().splitlines(keepends=True)
    whole = trials_of(place.runs)
    assert [state for _, state, _ in whole.values()] == ["COMPLETE", "FAIL", "COMPLETE"]
    n_cut = 0
    for n_lines in range(1, len(lines)):
        for each in place.runs:
            place.client.delete_run(each.info.run_id)
        shutil.rmtree(FOLDER)
        FOLDER.mkdir(parents=True)
        (FOLDER / "outbox.jsonl").write_bytes(b"".join(lines[:n_lines]))
        OutboxUploader(FOLDER, "toy", lambda: place.store).deliver()
        found = find_study(place.client, place.store[1], "toy-study")
        assert found is not None
        run(load_from_mlflow(place.client, found, asking().evaluator.metric_names, 1))
        assert trials_of(place.runs) == whole, n_lines
        assert "RUNNING" not in {each.info.status for each in place.runs}, n_lines
        cut = [each for each in trial_runs(place.runs) if each.data.tags.get("hpo.superseded") == "true"]
        for each in cut:
            n_cut += 1
            params, _, _ = whole[each.data.tags["hpo.trial"]]
            assert each.data.params.items() <= params.items(), n_lines
    assert n_cut > 10
