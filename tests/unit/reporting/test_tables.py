"""Tables of trials, and curves over folds."""

import csv
import io
from pathlib import Path

import pandas
import pytest

from hpo.core.early_stopping import EarlyStoppingOutcome
from hpo.core.states import StopReason
from hpo.core.trial import FoldResult, Trial
from hpo.reporting.tables import mean_curves, trials_csv, write_history


def fold(number: int, losses: tuple[float, ...], score: float | None = 0.5) -> FoldResult:
    reason = StopReason.MAX_EPOCHS if score is not None else StopReason.PRUNED
    outcome = EarlyStoppingOutcome("val_loss", 3, 0.0, len(losses), 5, None, 1, min(losses), True, reason)
    return FoldResult(number, 1, score, outcome, {"val_loss": losses}, {}, others={"n_weights": 7.0 + number})


def test_mean_curves_end_with_the_shortest_fold() -> None:
    means = mean_curves([fold(0, (3.0, 2.0, 1.0)), fold(1, (5.0, 4.0))])
    assert means == [{"val_loss": 4.0}, {"val_loss": 3.0}]
    assert mean_curves([]) == []


def test_history_has_every_epoch_of_every_fold(tmp_path: Path) -> None:
    path = write_history([fold(0, (3.0, 2.0, 1.0)), fold(1, (5.0, 4.0))], tmp_path / "deep" / "history.parquet")
    table = pandas.read_parquet(path)
    assert table.to_dict("list") == {
        "fold": [0, 0, 0, 1, 1],
        "epoch": [0, 1, 2, 0, 1],
        "val_loss": [3.0, 2.0, 1.0, 5.0, 4.0],
    }
    assert pandas.read_parquet(write_history([], tmp_path / "empty.parquet")).empty


def test_csv_row_has_fold_scores_and_other_objectives() -> None:
    whole = Trial(0, {"x": 1}, (fold(0, (1.0, 0.5), 0.25), fold(1, (1.0, 0.5), 0.75)))
    cut = Trial(1, {"x": 2, "y": "a"}, (fold(0, (1.0, 0.5), None),))
    first, second = csv.DictReader(io.StringIO(trials_csv((whole, cut))))
    assert (first["objective"], first["score_fold_0"], first["score_fold_1"]) == ("0.5", "0.25", "0.75")
    assert float(first["std"]) == pytest.approx(0.3535533906)
    assert float(first["objective_n_weights"]) == 7.5
    assert (first["best_epoch"], first["epochs_run"]) == ("1.0", "4")
    assert (second["state"], second["objective"], second["score_fold_1"]) == ("PRUNED", "", "")
    assert (first["params.y"], second["params.y"]) == ("", "a")
