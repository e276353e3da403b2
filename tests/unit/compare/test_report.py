"""Tables and notes of a report, checked by hand."""

import math

import pytest
from scipy import stats

from hpo.compare.comparison import Comparison
from hpo.compare.groups import group_studies
from hpo.compare.report import (
    describe_setting,
    efficiency_table,
    interval,
    levels_table,
    list_notes,
    list_ranking_notes,
    number,
    pairs_table,
    ranks_table,
)
from hpo.compare.spending import AnalysisPlan
from unit.compare.toy_comparison import AS_BEST, BEST, NOISY, WORST, always, analysed, compared, grouped, ranked, study


def row(comparison: Comparison, level: str) -> dict[str, str]:
    """The cells of a level by their headings."""
    headings, rows = levels_table(comparison)
    (cells,) = (cells for cells in rows if cells[0] == level)
    return dict(zip(headings, cells, strict=True))


def test_missing_numbers_are_a_dash() -> None:
    assert [number(value) for value in (0.12345, 1.0, None, math.nan)] == ["0.1235", "1.0000", "-", "-"]
    assert number(0.5, digits=1) == "0.5"


def test_setting_names_shared_parts_and_limits() -> None:
    expected = "strategy on mlp, digits, holdout, at most 2 trials each, 5 seeds (0, 1, 2, 3, 4)"
    assert describe_setting(compared(optuna=BEST, random=WORST)) == expected
    timed = Comparison(grouped({"optuna": BEST, "random": WORST}, limits__n_trials="None"), AnalysisPlan())
    assert describe_setting(timed) == "strategy on mlp, digits, holdout, 5 seeds (0, 1, 2, 3, 4)"


def test_level_row_has_means_over_seeds() -> None:
    # Every study has two trials of 4 epochs of 8, that come to 0.7 and 0.9.
    assert row(compared(optuna=BEST, random=WORST), "random") == {
        "strategy": "random",
        "test accuracy": "0.8120",
        "± sd": "0.0130",
        "best val_accuracy": "0.9000",
        "over-tuning": "+0.0880",
        "trials to 0.9": "2",
        "trials": "2",
        "epochs": "8",
        "seconds": "100",
        "epochs saved": "50%",
        "failed": "0",
    }


def test_levels_are_listed_best_first() -> None:
    made = compared(a=WORST, b=BEST, c=AS_BEST)
    assert [cells[0] for cells in levels_table(made)[1]] == ["b", "c", "a"]
    of_mae = {"objective": "minimize val_mae"}
    studies = [study("a", seed, test_mae=0.5, **of_mae) for seed in (0, 1)]
    studies += [study("b", seed, test_mae=0.1, **of_mae) for seed in (0, 1)]
    assert [cells[0] for cells in levels_table(Comparison(group_studies(studies, "strategy"), AnalysisPlan()))[1]] == [
        "b",
        "a",
    ]


def test_seeds_that_miss_the_target_are_counted() -> None:
    studies = [study("optuna", seed, 0.9, scores=(0.5, 0.7, 0.8)) for seed in (0, 1, 2)]
    studies += [study("random", seed, 0.8, scores) for seed, scores in enumerate([(0.8, 0.1, 0.2), (0.1, 0.6, 0.7)])]
    studies += [study("random", 2, 0.8, (0.1, 0.2, 0.75))]
    made = Comparison(group_studies(studies, "strategy"), AnalysisPlan())
    assert made.curves.target == 0.75  # the median of the weaker one: 0.7, 0.75, 0.8
    assert row(made, "optuna")["trials to 0.75"] == "3"
    assert row(made, "random")["trials to 0.75"] == "2 (2 of 3)"  # after 1 and after 3 trials


def test_failed_trials_are_summed_over_seeds() -> None:
    studies = [study("optuna", seed, 0.9, scores=(None, 0.5, 0.7)) for seed in (0, 1)]
    studies += [study("random", seed, 0.8, scores=(0.5, 0.7, 0.6)) for seed in (0, 1)]
    made = Comparison(group_studies(studies, "strategy"), AnalysisPlan())
    assert (row(made, "optuna")["failed"], row(made, "random")["failed"]) == ("2", "0")


def test_missing_seconds_are_a_dash() -> None:
    made = Comparison(grouped({"optuna": BEST, "random": WORST}, search_seconds=math.nan), AnalysisPlan())
    assert row(made, "random")["seconds"] == "-"


def test_pair_row_has_interval_and_verdict() -> None:
    made = compared(optuna=BEST, random=WORST)
    expected = stats.ttest_rel(BEST, WORST)
    low, high = expected.confidence_interval(0.95)
    headings, rows = pairs_table(made)
    assert headings[:4] == ["pair", "difference", "95% interval", "effect size"]
    differences = [a - b for a, b in zip(BEST, WORST, strict=True)]
    mean, sd = sum(differences) / 5, stats.tstd(differences)
    (cells,) = rows
    assert cells[:4] == ["optuna − random", "+0.1040", f"{low:+.4f} to {high:+.4f}", f"{mean / sd * (1 - 3 / 15):+.2f}"]
    assert cells[4] == f"{expected.pvalue:.3g}"
    assert cells[-1] == "better"


def test_interval_has_confidence_of_this_analysis() -> None:
    made = compared(AnalysisPlan(max_seeds=10), optuna=BEST, random=WORST)
    assert made.spending.alpha == pytest.approx(0.05 / 8)
    low, high = stats.ttest_rel(BEST, WORST).confidence_interval(1 - 0.05 / 8)
    headings, (cells,) = pairs_table(made)
    assert headings[2] == "99.38% interval"
    assert cells[2] == f"{low:+.4f} to {high:+.4f}"


def test_equal_differences_have_no_interval() -> None:
    made = compared(optuna=(0.9,) * 4, random=(0.8,) * 4)
    assert interval(made.differences[0]) == "all differences are equal"
    cells = pairs_table(made)[1][0]
    assert cells[3] == "-"
    assert cells[-1].startswith("unresolved: needs about ")


def test_unresolved_pair_shows_more_seeds_needed() -> None:
    made = compared(AnalysisPlan(max_seeds=2000), optuna=NOISY, random=BEST)
    cells = pairs_table(made)[1][0]
    assert made.differences[0].n_more is not None
    assert cells[-1] == f"unresolved: needs about {made.differences[0].n_more} more seeds"


def test_unresolved_pair_without_max_seeds_shows_other_seeds_needed() -> None:
    made = compared(optuna=NOISY, random=BEST)
    cells = pairs_table(made)[1][0]
    assert made.differences[0].n_more is not None
    assert cells[-1] == f"unresolved: needs about {made.differences[0].n_more + 5} other seeds"


def test_small_differences_have_enough_decimals() -> None:
    made = compared(AnalysisPlan(min_effect=1e-6), a=[b + 2e-6 * i for i, b in enumerate(WORST)], b=WORST)
    assert pairs_table(made)[1][0][1] == "+0.00000400"


def test_efficiency_has_one_row_per_level_and_axis() -> None:
    headings, rows = efficiency_table(compared(a=BEST, b=WORST))
    assert headings[:2] == ["strategy", "by"]
    assert [row[:2] for row in rows] == [
        [level, axis] for level in ("a", "b") for axis in ("trials", "epochs", "seconds")
    ]


def test_notes_state_effect_and_spending() -> None:
    said = "\n".join(list_notes(compared(a=BEST, b=WORST)))
    assert "(min_effect) is 0.01, a default; set min_effect=… to change it." in said
    assert "This analysis spends 0.05 of alpha=0.05. To add seeds later, set max_seeds=…" in said
    assert "paired by seed (5 seeds)" in said
    assert "Seconds" not in said
    own = "\n".join(
        list_notes(compared(AnalysisPlan(0.03, 10), [analysed(range(3), 0.05 * (3 / 10) ** 3)], a=BEST, b=WORST))
    )
    assert "The smallest difference that matters (min_effect) is 0.03." in own
    spent = 0.05 * ((5 / 10) ** 3 - (3 / 10) ** 3)
    assert f"spends {spent:.3g} of alpha=0.05, which is spread over interim analyses of up to 10 seeds." in own
    assert "Earlier analyses: 3 seeds." in own


def test_notes_count_test_scorings() -> None:
    made = Comparison(grouped({"a": BEST, "b": WORST}), AnalysisPlan(), (), {"d1": 31, "d2": 7})
    said = "\n".join(list_notes(made))
    assert "have scored this test split 31 times" in said
    assert "7 times" not in said


def test_seconds_of_different_hardware_are_not_compared() -> None:
    studies = [study("a", seed, test) for seed, test in enumerate(BEST)]
    studies += [study("b", seed, test, hardware="that") for seed, test in enumerate(WORST)]
    made = Comparison(group_studies(studies, "strategy"), AnalysisPlan())
    assert made.curves.axes == ("trials", "epochs")
    assert list_notes(made)[-1] == "Seconds are not compared: the hardware of the studies differs or was not recorded."
    assert compared(a=BEST, b=WORST).curves.axes == ("trials", "epochs", "seconds")


def test_ranks_table_has_scores_and_ranks() -> None:
    headings, rows = ranks_table(ranked({"a": 0.8, "b": 0.9}, {"a": 0.6, "b": 0.7}))
    assert headings == ["dataset", "mean over seeds (rank)", "b", "a"]
    assert rows[0] == ["t0", "test accuracy", "0.9000 (1)", "0.8000 (2)"]
    assert rows[-1] == ["mean rank", "", "1.00", "2.00"]


def test_ranking_notes_state_smallest_p_value() -> None:
    assert any("With 3 tasks it cannot be smaller than 0.028." in note for note in list_ranking_notes(always(3)))
