"""Numbers of a comparison, and what earlier analyses leave to spend."""

from itertools import permutations
from typing import Any

import pytest

from hpo.compare.comparison import Comparison
from hpo.compare.conclusion import conclude
from hpo.compare.ledger import InterimAnalysis
from hpo.compare.report import list_notes
from hpo.compare.spending import AnalysisPlan
from hpo.errors import ConfigError
from unit.compare.toy_comparison import BEST, NOISY, WORST, analysed, compared, grouped


def test_more_seeds_are_computed_for_the_last_analysis() -> None:
    declared = compared(AnalysisPlan(max_seeds=1000), optuna=NOISY, random=BEST).differences[0]
    # The analysis of 5 of 1,000 seeds may spend almost nothing; the last one spends almost everything.
    (alone,) = compared(optuna=NOISY, random=BEST).differences
    assert declared.alpha < 1e-6
    assert declared.n_more == alone.n_more


def test_min_effect_default_depends_on_metric() -> None:
    assert compared(a=BEST, b=WORST).min_effect == 0.01
    assert compared(AnalysisPlan(min_effect=0.03), a=BEST, b=WORST).min_effect == 0.03
    of_mae: dict[str, Any] = {"objective": "minimize val_mae", "test_mae": 40.0}
    made = Comparison(grouped({"a": (0.9, 0.8), "b": (0.9, 0.8)}, **of_mae), AnalysisPlan())
    assert made.min_effect == pytest.approx(2.0)  # a twentieth of the level


def test_more_seeds_than_max_seeds_are_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        compared(AnalysisPlan(max_seeds=4), a=BEST, b=WORST)
    assert (refused.value.key, refused.value.fix) == ("max_seeds", "max_seeds=5")


def test_earlier_analyses_reduce_alpha() -> None:
    made = compared(AnalysisPlan(max_seeds=5), [analysed(range(3), 0.05 * (3 / 5) ** 3)], a=BEST, b=WORST)
    assert made.spending.alpha == made.spending.spent == pytest.approx(0.05 * (1 - (3 / 5) ** 3))
    assert not made.spending.is_exploratory


@pytest.mark.parametrize("order", list(permutations([2, 3, 5])), ids=str)
@pytest.mark.parametrize("max_seeds", [None, 5, 8])
def test_analyses_in_any_order_spend_at_most_alpha(order: tuple[int, ...], max_seeds: int | None) -> None:
    analyses: list[InterimAnalysis] = []
    for n in order:
        spent = compared(AnalysisPlan(max_seeds=max_seeds), analyses, a=BEST[:n], b=WORST[:n]).spending.spent
        analyses.append(analysed(range(n), spent))
    assert 0 < sum(each.spent for each in analyses) <= 0.05 * (1 + 1e-9)


def test_repeated_analysis_spends_nothing_more() -> None:
    made = compared(AnalysisPlan(max_seeds=10), [analysed(range(5), 0.004), analysed(range(7), 0.01)], a=BEST, b=WORST)
    assert made.spending.spent == 0.004


def test_analysis_of_overlapping_seeds_is_charged() -> None:
    made = compared(None, [analysed(range(4, 9), 0.05)], a=BEST, b=WORST)
    assert made.spending.is_exploratory


def test_analysis_of_other_seeds_is_free_and_noted() -> None:
    made = compared(None, [analysed(range(5, 10), 0.05)], a=BEST, b=WORST)
    assert made.spending.spent == 0.05
    assert "1 earlier analysis of the same question used other seeds." in list_notes(made)


@pytest.mark.parametrize("before", ["abc", "ab"])
def test_analysis_that_shares_a_pair_is_charged(before: str) -> None:
    scores = {"a": BEST, "b": WORST} if before == "abc" else {"a": BEST, "b": WORST, "c": NOISY}
    made = compared(None, [analysed(range(5), 0.05, before)], **scores)
    assert made.spending.is_exploratory
    assert f"Earlier analyses (5 seeds of {', '.join(before)}) spent the whole alpha of 0.05." in "\n".join(
        list_notes(made)
    )


def test_analysis_that_shares_one_level_is_free() -> None:
    made = compared(None, [analysed(range(5), 0.05, "ac")], a=BEST, b=WORST)
    assert made.spending.spent == 0.05
    assert "other seeds" not in "\n".join(list_notes(made))


def test_early_analysis_of_many_is_not_exploratory() -> None:
    made = compared(AnalysisPlan(max_seeds=1000), a=BEST, b=WORST)
    assert 0 < made.spending.spent < 1e-8
    assert not made.spending.is_exploratory


def test_unplanned_analysis_is_exploratory() -> None:
    made = compared(None, [analysed(range(3), 0.05)], a=BEST, b=WORST)
    assert made.spending.is_exploratory
    assert made.spending.spent == 0.0
    assert conclude(made) == "Exploratory, because earlier analyses spent the whole alpha: a is better than b."
    said = "\n".join(list_notes(made))
    assert "Earlier analyses (3 seeds) spent the whole alpha of 0.05." in said
    assert "a hypothesis, not a finding" in said
