"""What a comparison says, in the terminal and as Markdown, of numbers that can be checked by hand."""

import io
import math
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from rich.console import Console
from scipy import stats

from hpo.compare.comparison import Comparison, Look, Settings
from hpo.compare.studies import LeftOut, group
from hpo.compare.text import (
    efficiency_table,
    interval,
    levels_table,
    markdown,
    notes,
    number,
    pairs_table,
    print_comparison,
    setting,
    signed,
)
from hpo.errors import ConfigError
from unit.compare.toy_comparison import grouped, study

BEST = (0.90, 0.92, 0.91, 0.93, 0.92)
WORST = (0.80, 0.81, 0.82, 0.80, 0.83)
AS_BEST = (0.901, 0.919, 0.911, 0.929, 0.920)
NOISY = (0.95, 0.86, 0.99, 0.82, 0.93)


def compared(settings: Settings | None = None, looks: Sequence[Look] = (), **scores: Sequence[float]) -> Comparison:
    return Comparison(grouped(scores), settings or Settings(), looks)


def looked(seeds: Sequence[int], spent: float, levels: str = "ab") -> Look:
    return Look(tuple(seeds), tuple(levels), spent)


def printed(comparison: Comparison, paths: Sequence[str] = ()) -> str:
    text = io.StringIO()
    print_comparison(Console(file=text, width=200), comparison, paths)
    return text.getvalue()


def row(comparison: Comparison, level: str) -> dict[str, str]:
    """The cells of a level by their headings."""
    headings, rows = levels_table(comparison)
    (cells,) = (cells for cells in rows if cells[0] == level)
    return dict(zip(headings, cells, strict=True))


# The tables


def test_numbers_have_four_digits_and_none_is_a_dash() -> None:
    assert [number(value) for value in (0.12345, 1.0, None, math.nan)] == ["0.1235", "1.0000", "-", "-"]
    assert number(0.5, digits=1) == "0.5"


def test_the_setting_names_what_is_shared() -> None:
    expected = "strategy on mlp, digits, holdout, at most 2 trials each, 5 seeds (0, 1, 2, 3, 4)"
    assert setting(compared(optuna=BEST, random=WORST)) == expected
    timed = Comparison(grouped({"optuna": BEST, "random": WORST}, limits__n_trials="None"), Settings())
    assert setting(timed) == "strategy on mlp, digits, holdout, 5 seeds (0, 1, 2, 3, 4)"


def test_a_level_is_a_row_of_means_over_seeds() -> None:
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


def test_levels_are_listed_best_first_in_either_direction() -> None:
    made = compared(a=WORST, b=BEST, c=AS_BEST)
    assert [cells[0] for cells in levels_table(made)[1]] == ["b", "c", "a"]
    of_mae = {"objective": "minimize val_mae"}
    studies = [study("a", seed, test_mae=0.5, **of_mae) for seed in (0, 1)]
    studies += [study("b", seed, test_mae=0.1, **of_mae) for seed in (0, 1)]
    assert [cells[0] for cells in levels_table(Comparison(group(studies, "strategy"), Settings()))[1]] == ["b", "a"]


def test_a_target_that_some_never_reach_is_counted() -> None:
    studies = [study("optuna", seed, 0.9, scores=(0.5, 0.7, 0.8)) for seed in (0, 1, 2)]
    studies += [study("random", seed, 0.8, scores) for seed, scores in enumerate([(0.8, 0.1, 0.2), (0.1, 0.6, 0.7)])]
    studies += [study("random", 2, 0.8, (0.1, 0.2, 0.75))]
    made = Comparison(group(studies, "strategy"), Settings())
    assert made.target == 0.75  # the median of the weaker one: 0.7, 0.75, 0.8
    assert row(made, "optuna")["trials to 0.75"] == "3"
    assert row(made, "random")["trials to 0.75"] == "2 (2 of 3)"  # after 1 and after 3 trials


def test_failures_are_counted_over_all_seeds() -> None:
    studies = [study("optuna", seed, 0.9, scores=(None, 0.5, 0.7)) for seed in (0, 1)]
    studies += [study("random", seed, 0.8, scores=(0.5, 0.7, 0.6)) for seed in (0, 1)]
    made = Comparison(group(studies, "strategy"), Settings())
    assert (row(made, "optuna")["failed"], row(made, "random")["failed"]) == ("2", "0")


def test_seconds_that_were_not_recorded_are_a_dash() -> None:
    made = Comparison(grouped({"optuna": BEST, "random": WORST}, search_seconds=math.nan), Settings())
    assert row(made, "random")["seconds"] == "-"


def test_a_pair_is_a_row_with_its_interval() -> None:
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


def test_the_interval_is_of_the_level_that_this_look_has() -> None:
    made = compared(Settings(max_seeds=10), optuna=BEST, random=WORST)
    assert made.alpha == pytest.approx(0.05 / 8)
    low, high = stats.ttest_rel(BEST, WORST).confidence_interval(1 - 0.05 / 8)
    headings, (cells,) = pairs_table(made)
    assert headings[2] == "99.38% interval"
    assert cells[2] == f"{low:+.4f} to {high:+.4f}"


def test_equal_differences_have_no_interval_and_say_so() -> None:
    made = compared(optuna=(0.9,) * 4, random=(0.8,) * 4)
    assert interval(made.differences[0]) == "all differences are equal"
    cells = pairs_table(made)[1][0]
    assert cells[3] == "-"
    assert cells[-1].startswith("unresolved: about ")


def test_a_pair_that_is_open_says_how_many_more_seeds() -> None:
    made = compared(Settings(max_seeds=2000), optuna=NOISY, random=BEST)
    cells = pairs_table(made)[1][0]
    assert made.differences[0].n_more is not None
    assert cells[-1] == f"unresolved: about {made.differences[0].n_more} more seeds"


def test_more_seeds_are_counted_by_what_the_last_look_may_spend() -> None:
    declared = compared(Settings(max_seeds=1000), optuna=NOISY, random=BEST).differences[0]
    # At five of a thousand seeds next to nothing may be spent; at the last look nearly everything.
    (alone,) = compared(optuna=NOISY, random=BEST).differences
    assert declared.alpha < 1e-6
    assert declared.n_more == alone.n_more


def test_where_no_more_looks_were_declared_other_seeds_would_settle_it() -> None:
    made = compared(optuna=NOISY, random=BEST)
    cells = pairs_table(made)[1][0]
    assert made.differences[0].n_more is not None
    assert cells[-1] == f"unresolved: about {made.differences[0].n_more + 5} other seeds"


# The verdict


def test_the_better_one_is_named() -> None:
    assert compared(optuna=BEST, random=WORST).verdict == "Optuna is better than random."
    assert compared(a=WORST, b=BEST).verdict == "B is better than a."


def test_all_that_are_beaten_are_named() -> None:
    said = compared(a=WORST, b=BEST, c=tuple(score - 0.01 for score in WORST)).verdict
    assert said == "B is better than a and c."


def test_what_makes_no_difference_is_equivalent_within_the_effect() -> None:
    said = compared(Settings(min_effect=0.005), optuna=BEST, random=AS_BEST).verdict
    assert said == "Optuna is equivalent to random within 0.005."
    three = compared(a=BEST, b=WORST, c=AS_BEST).verdict
    assert three == "A is better than b and it is equivalent to c within 0.01."


def test_what_is_open_says_what_would_settle_it() -> None:
    made = compared(optuna=NOISY, random=BEST)
    n = made.differences[0].n_more
    assert n is not None
    assert made.verdict == (  # 0.916 against 0.910
        f"Random has the best mean, but whether it is better than optuna is unresolved: "
        f"about {n + 5} other seeds, in a comparison of their own, would settle it."
    )


def test_of_equal_means_none_is_the_best() -> None:
    said = compared(a=(0.8, 0.9, 1.0), b=(1.0, 0.9, 0.8)).verdict
    assert said.startswith("A has the same mean as b, and whether they are equivalent is unresolved: about ")
    assert (signed(-1e-9, 4), signed(-0.1, 2), signed(0.0, 2)) == ("+0.0000", "-0.10", "+0.00")


def test_more_seeds_than_were_declared_are_not_promised() -> None:
    made = compared(Settings(max_seeds=7), optuna=NOISY, random=BEST)
    assert made.verdict.endswith("would settle it, of which max_seeds=7 allows 2.")


def test_of_three_the_open_one_comes_last() -> None:
    made = compared(a=BEST, b=WORST, c=NOISY)
    said = made.verdict
    assert said.startswith("A is better than b; against c it is unresolved: about ")
    assert said.endswith(" other seeds, in a comparison of their own, would settle it.")


def test_a_comparison_of_ties_says_what_it_can() -> None:
    assert compared(a=(0.9,) * 5, b=(0.9,) * 5).verdict == "A is equivalent to b within 0.01."


# Settings


def test_the_smallest_difference_that_matters_has_a_default_by_metric() -> None:
    assert compared(a=BEST, b=WORST).min_effect == 0.01
    assert compared(Settings(min_effect=0.03), a=BEST, b=WORST).min_effect == 0.03
    of_mae: dict[str, Any] = {"objective": "minimize val_mae", "test_mae": 40.0}
    made = Comparison(grouped({"a": (0.9, 0.8), "b": (0.9, 0.8)}, **of_mae), Settings())
    assert made.min_effect == pytest.approx(2.0)  # a twentieth of the level


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"min_effect": 0.0}, "min_effect"),
        ({"min_effect": math.inf}, "min_effect"),
        ({"alpha": 1.0}, "alpha"),
        ({"alpha": 0.0}, "alpha"),
        ({"max_seeds": 1}, "max_seeds"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings(**given)
    assert refused.value.key == key
    assert refused.value.fix.startswith(f"{key}=")


def test_more_seeds_than_were_declared_are_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        compared(Settings(max_seeds=4), a=BEST, b=WORST)
    assert (refused.value.key, refused.value.fix) == ("max_seeds", "max_seeds=5")


def test_earlier_looks_have_spent_their_part() -> None:
    made = compared(Settings(max_seeds=5), [looked(range(3), 0.05 * (3 / 5) ** 3)], a=BEST, b=WORST)
    assert made.alpha == made.spent == pytest.approx(0.05 * (1 - (3 / 5) ** 3))
    assert not made.is_exploratory


@pytest.mark.parametrize("order", list(permutations([2, 3, 5])), ids=str)
@pytest.mark.parametrize("max_seeds", [None, 5, 8])
def test_looks_in_any_order_spend_at_most_the_error(order: tuple[int, ...], max_seeds: int | None) -> None:
    looks: list[Look] = []
    for n in order:
        spent = compared(Settings(max_seeds=max_seeds), looks, a=BEST[:n], b=WORST[:n]).spent
        looks.append(looked(range(n), spent))
    assert 0 < sum(look.spent for look in looks) <= 0.05 * (1 + 1e-9)


def test_the_same_look_again_spends_nothing_more() -> None:
    made = compared(Settings(max_seeds=10), [looked(range(5), 0.004), looked(range(7), 0.01)], a=BEST, b=WORST)
    assert made.spent == 0.004


def test_as_many_other_seeds_are_another_look() -> None:
    made = compared(None, [looked(range(4, 9), 0.05)], a=BEST, b=WORST)
    assert made.is_exploratory


def test_a_look_at_other_seeds_alone_costs_nothing_and_is_told_of() -> None:
    made = compared(None, [looked(range(5, 10), 0.05)], a=BEST, b=WORST)
    assert made.spent == 0.05
    assert "The same question was asked 1 times before, on other seeds." in notes(made)


@pytest.mark.parametrize("before", ["abc", "ab"])
def test_another_set_of_levels_that_shares_a_pair_is_another_look(before: str) -> None:
    scores = {"a": BEST, "b": WORST} if before == "abc" else {"a": BEST, "b": WORST, "c": NOISY}
    made = compared(None, [looked(range(5), 0.05, before)], **scores)
    assert made.is_exploratory
    assert f"Looks at 5 seeds of {', '.join(before)} have spent" in "\n".join(notes(made))


def test_a_look_that_shares_one_level_costs_nothing() -> None:
    made = compared(None, [looked(range(5), 0.05, "ac")], a=BEST, b=WORST)
    assert made.spent == 0.05
    assert "asked" not in "\n".join(notes(made))


def test_a_first_look_of_many_is_strict_and_not_exploratory() -> None:
    made = compared(Settings(max_seeds=1000), a=BEST, b=WORST)
    assert 0 < made.spent < 1e-8
    assert not made.is_exploratory


def test_an_exploratory_look_promises_nothing() -> None:
    made = compared(None, [Look((0, 1, 2), ("optuna", "random"), 0.05)], optuna=NOISY, random=BEST)
    assert "settle" not in made.verdict
    assert pairs_table(made)[1][0][-1] == "unresolved"


def test_what_is_missing_is_said_with_the_verdict() -> None:
    made = Comparison(grouped({"a": BEST, "b": WORST}), Settings(), missing=["mine-a-s9"])
    assert made.verdict == "In the meantime, with 1 study missing: a is better than b."


def test_small_differences_have_the_decimals_that_show_them() -> None:
    made = compared(Settings(min_effect=1e-6), a=[b + 2e-6 * i for i, b in enumerate(WORST)], b=WORST)
    assert pairs_table(made)[1][0][1] == "+0.00000400"


def test_efficiency_is_a_row_a_level_and_budget() -> None:
    headings, rows = efficiency_table(compared(a=BEST, b=WORST))
    assert headings[:2] == ["strategy", "by"]
    assert [row[:2] for row in rows] == [
        [level, axis] for level in ("a", "b") for axis in ("trials", "epochs", "seconds")
    ]


def test_a_look_that_was_not_declared_is_exploratory() -> None:
    made = compared(None, [looked(range(3), 0.05)], a=BEST, b=WORST)
    assert made.is_exploratory
    assert made.spent == 0.0
    assert made.verdict == "Exploratory, since the error was spent on earlier looks: a is better than b."
    said = "\n".join(notes(made))
    assert "Looks at 3 seeds have spent what may be spent of an error of 0.05" in said
    assert "no result" in said


# Notes


def test_notes_say_what_was_assumed() -> None:
    said = "\n".join(notes(compared(a=BEST, b=WORST)))
    assert "Differences below 0.01 do not matter (a default; min_effect=… states your own)." in said
    assert "This look spends 0.05 of an error of 0.05; to add seeds and look again" in said
    assert "on 5 seeds as pairs" in said
    assert "seconds" not in said
    own = "\n".join(notes(compared(Settings(0.03, 10), [looked(range(3), 0.05 * (3 / 10) ** 3)], a=BEST, b=WORST)))
    assert "Differences below 0.03 do not matter." in own
    spent = 0.05 * ((5 / 10) ** 3 - (3 / 10) ** 3)
    assert f"spends {spent:.3g} of an error of 0.05 that is spread over looks up to 10 seeds" in own
    assert "; earlier looks: 3 seeds." in own


def test_notes_say_how_often_the_test_split_was_scored() -> None:
    made = Comparison(grouped({"a": BEST, "b": WORST}), Settings(), (), {"d1": 31, "d2": 7})
    said = "\n".join(notes(made))
    assert "has been scored 31 times" in said
    assert "7 times" not in said


def test_seconds_of_different_machines_are_not_compared() -> None:
    studies = [study("a", seed, test) for seed, test in enumerate(BEST)]
    studies += [study("b", seed, test, hardware="that") for seed, test in enumerate(WORST)]
    made = Comparison(group(studies, "strategy"), Settings())
    assert made.axes == ("trials", "epochs")
    assert notes(made)[-1] == "The studies ran on different machines, so that their seconds are not compared."
    assert compared(a=BEST, b=WORST).axes == ("trials", "epochs", "seconds")


# Forms


def left_out() -> Comparison:
    studies = [study(level, seed) for level in ("random", "optuna") for seed in (0, 1)]
    before = [LeftOut("mine", "it is [red]interrupted", "python -m hpo resume mine")]
    return Comparison(group(studies, "strategy", before), Settings())


def test_markdown_has_the_verdict_first_and_tables_that_are_whole() -> None:
    made = compared(optuna=BEST, random=WORST)
    lines = markdown(made).splitlines()
    assert lines[0] == "# Strategy on mlp, digits, holdout, at most 2 trials each, 5 seeds (0, 1, 2, 3, 4)"
    assert lines[2] == "**Optuna is better than random.**"
    tables = [line for line in lines if line.startswith("|")]
    assert len(tables) == (2 + 2) + (2 + 1) + (2 + 2 * 3)
    assert {line.count("|") for line in tables[:4]} == {12}
    assert [line.count("|") for line in tables[4:]] == [8] * 3 + [5] * 8
    assert all(f"- {note}" in lines for note in notes(made))
    assert "## Left out" not in lines


def test_markdown_tables_survive_a_bar_in_a_name() -> None:
    text = markdown(Comparison(grouped({"a|b": BEST, "c": WORST}), Settings()))
    assert "| a/b | 0.9160 |" in text


def test_markdown_says_what_is_left_out() -> None:
    assert "## Left out\n\n- `mine`: it is [red]interrupted\n" in markdown(left_out())


def test_the_terminal_has_the_verdict_last_and_the_files_below() -> None:
    lines = printed(compared(optuna=BEST, random=WORST), ["a/report.html", "a/report.md"]).rstrip().splitlines()
    assert lines[-3:] == ["Optuna is better than random.", "  a/report.html", "  a/report.md"]
    assert lines[0].startswith("strategy on mlp, digits")
    assert any(line.split()[:2] == ["random", "0.8120"] for line in lines)


def test_the_terminal_says_what_is_left_out_and_the_command_that_helps() -> None:
    assert "left out: mine: it is [red]interrupted; python -m hpo resume mine" in printed(left_out())


def test_the_terminal_shows_brackets_as_they_are() -> None:
    said = printed(Comparison(grouped({"[bold]a": BEST, "b": WORST}), Settings()))
    assert "[bold]a is better than b." in said
    assert "[bold]a − b" in said
