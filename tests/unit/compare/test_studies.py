"""Reading a study as it is compared."""

import json
import math
from pathlib import Path

from hpo.compare.studies import from_tables
from hpo.core.objective import Objective
from hpo.reporting.tables import epoch_rows, fold_rows, trial_rows, write_table
from unit.compare.toy_comparison import IDENTITY, study, trial


def test_study_reads_objective_and_test_score() -> None:
    one = study("random", 3, 0.75, objective__n_weights="minimize")
    assert (one.name, one.seed, one.test_score) == ("random-3", 3, 0.75)
    assert one.objective == Objective("val_accuracy", "maximize", "best", {"n_weights": "minimize"})


def test_test_score_is_of_the_objective_metric() -> None:
    one = study("random", 0, objective="minimize val_loss", identity={"objective": {"epoch": "last"}}, test_loss=0.25)
    assert one.test_score == 0.25
    assert one.objective.epoch == "last"
    assert math.isnan(study("random", 0, objective="minimize val_mae").test_score)


def test_level_is_option_choice_or_value() -> None:
    choices = json.dumps({"strategy/pruner": "median"})
    one = study("optuna", 0, choices=choices, identity={"model": {"dropout": 0.5, "units": None}})
    levels = {by: one.level(by) for by in ("strategy", "model", "strategy/pruner", "model.dropout", "model.units")}
    assert levels == {
        "strategy": "optuna",
        "model": "mlp",
        "strategy/pruner": "median",
        "model.dropout": "0.5",
        "model.units": "null",
    }
    assert one.level("model._target_") == "hpo.models.toy"
    assert one.level("model.nothing") == "absent"


def test_tables_are_made_from_trials() -> None:
    one = study("random", 0, scores=(0.7, None, 0.9))
    assert one.trials["state"].tolist() == ["COMPLETE", "FAIL", "COMPLETE"]
    assert one.trials["objective"].dropna().tolist() == [0.7, 0.9]
    assert len(one.folds) == 3
    assert len(one.epochs) == 12


def test_recorded_tables_equal_tables_made_from_trials(tmp_path: Path) -> None:
    trials = [trial(0, 0.7), trial(1, None), trial(2, 0.9)]
    objective = Objective("val_accuracy", "maximize")
    for name, rows in (
        ("trials", trial_rows(trials, objective, {0: "well-fitted"})),
        ("folds", fold_rows(trials)),
        ("epochs", epoch_rows(trials)),
    ):
        write_table(rows, tmp_path / f"{name}.parquet")
    one = study("random", 0, scores=(0.7, None, 0.9))
    read = from_tables(one.record, dict(IDENTITY), tmp_path)
    for column in ("trial", "state", "stop_reason", "epochs_run", "ended_order", "params"):
        assert read.trials[column].tolist() == one.trials[column].tolist()
    assert read.trials["fit"].dropna().to_dict() == {0: "well-fitted"}
    assert read.epochs["val_loss"].tolist() == one.epochs["val_loss"].tolist()
    assert read.level("max_epochs") == "8"


def test_earlier_identity_is_converted_to_current_format() -> None:
    one = study("random", 0, identity={"model": {"_target_": "hpo.models.sklearn_model.SklearnModel"}})
    assert one.identity["format"] == 1
    assert one.identity["model._target_"] == "hpo.models.sklearn.model.SklearnModel"
    assert one.identity["versions.common.numpy"] == "2"
    assert one.recorded_identity["versions"]["numpy"] == "2"
