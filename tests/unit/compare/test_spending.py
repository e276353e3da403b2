"""Alpha spending over interim analyses."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.compare.spending import AlphaSpending, AnalysisPlan, alpha_to_spend, plan_analysis
from hpo.errors import ConfigError
from unit.compare.toy_comparison import analysed


def test_single_analysis_spends_whole_alpha() -> None:
    assert alpha_to_spend(0.05, 5, 5, []) == 0.05
    assert alpha_to_spend(0.05, 5, 5, [5]) == 0.05  # looking again at the same studies


def test_analysis_spends_growth_of_cubic_spending_function() -> None:
    assert alpha_to_spend(0.05, 10, 5, []) == pytest.approx(0.05 / 8)
    assert alpha_to_spend(0.05, 10, 10, [5]) == pytest.approx(0.05 * 7 / 8)
    assert alpha_to_spend(0.04, 20, 15, [5, 10]) == pytest.approx(0.04 * (27 - 8) / 64)


@settings(max_examples=50, deadline=None)
@given(
    looks=st.sets(st.integers(1, 40), min_size=1).map(sorted),
    spare=st.integers(0, 20),
    alpha=st.floats(0.001, 0.5),
)
def test_growing_analyses_spend_at_most_alpha(looks: list[int], spare: int, alpha: float) -> None:
    most = looks[-1] + spare
    spent = [alpha_to_spend(alpha, most, n, looks[:place]) for place, n in enumerate(looks)]
    assert all(each > 0 for each in spent)
    assert sum(spent) <= alpha * (1 + 1e-9)
    assert (sum(spent) == pytest.approx(alpha)) is (spare == 0 or (looks[-1] / most) ** 3 > 1 - 1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(1, 59), st.sets(st.integers(1, 60)))
def test_more_seeds_spend_more(n: int, fewer: int, looks: set[int]) -> None:
    fewer = min(fewer, n - 1)
    before = [look for look in looks if look < fewer]
    assert alpha_to_spend(0.05, 60, fewer, before) < alpha_to_spend(0.05, 60, n, before)


def test_more_seeds_than_max_seeds_have_no_alpha() -> None:
    with pytest.raises(ValueError, match="11 seeds are more than max_seeds=10"):
        alpha_to_spend(0.05, 10, 11, [])


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
def test_invalid_plan_is_refused(given: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        AnalysisPlan(**given)
    assert refused.value.key == key
    assert refused.value.fix.startswith(f"{key}=")


def test_first_analysis_follows_the_plan_asked_for() -> None:
    asked = AnalysisPlan(min_effect=0.02, max_seeds=10)
    assert plan_analysis(asked, []) == asked


def test_later_analysis_follows_the_first_plan() -> None:
    first = analysed((0, 1), 0.01, max_seeds=10, min_effect=0.02)
    second = analysed((0, 1, 2), 0.01, max_seeds=5, min_effect=0.05)
    assert plan_analysis(AnalysisPlan(), [first, second]) == AnalysisPlan(0.02, 10, 0.05)


@pytest.mark.parametrize(
    "asked", [AnalysisPlan(min_effect=0.1), AnalysisPlan(max_seeds=20), AnalysisPlan(alpha=0.1)], ids=str
)
def test_plan_cannot_change_after_the_first_analysis(asked: AnalysisPlan) -> None:
    first = analysed((0, 1), 0.01, max_seeds=10)
    with pytest.raises(ConfigError, match="cannot change once results are known"):
        plan_analysis(asked, [first])


def test_max_seeds_may_be_set_late() -> None:
    assert plan_analysis(AnalysisPlan(max_seeds=20), [analysed((0, 1), 0.05)]).max_seeds == 20


def test_alpha_of_the_last_analysis_is_what_is_left() -> None:
    earlier = analysed((0, 1), 0.01)
    spending = AlphaSpending(AnalysisPlan(max_seeds=4), (0, 1, 2), ("a", "b"), (earlier,))
    assert spending.final_alpha == alpha_to_spend(0.05, 4, 4, [2, 3])
    assert AlphaSpending(AnalysisPlan(), (0, 1, 2), ("a", "b")).final_alpha == 0.05


def test_other_analyses_exclude_the_repeated_one() -> None:
    same, other = analysed((0, 1), 0.01), analysed((0, 1, 2), 0.02)
    spending = AlphaSpending(AnalysisPlan(max_seeds=4), (0, 1), ("a", "b"), (same, other))
    assert spending.repeated == same
    assert spending.others == [other]
