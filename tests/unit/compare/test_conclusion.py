"""Conclusions of comparisons."""

from hpo.compare.comparison import Comparison
from hpo.compare.conclusion import conclude
from hpo.compare.report import pairs_table, signed
from hpo.compare.spending import AnalysisPlan
from unit.compare.toy_comparison import AS_BEST, BEST, NOISY, WORST, analysed, compared, grouped


def test_better_level_is_named() -> None:
    assert conclude(compared(optuna=BEST, random=WORST)) == "Optuna is better than random."
    assert conclude(compared(a=WORST, b=BEST)) == "B is better than a."


def test_every_beaten_level_is_named() -> None:
    said = conclude(compared(a=WORST, b=BEST, c=tuple(score - 0.01 for score in WORST)))
    assert said == "B is better than a and c."


def test_equivalent_levels_are_named_with_min_effect() -> None:
    said = conclude(compared(AnalysisPlan(min_effect=0.005), optuna=BEST, random=AS_BEST))
    assert said == "Optuna is equivalent to random within 0.005."
    three = conclude(compared(a=BEST, b=WORST, c=AS_BEST))
    assert three == "A is better than b and equivalent to c within 0.01."


def test_unresolved_conclusion_says_how_many_seeds_would_resolve_it() -> None:
    made = compared(optuna=NOISY, random=BEST)
    n = made.differences[0].n_more
    assert n is not None
    assert conclude(made) == (  # 0.916 against 0.910
        f"Random has the best mean, but whether it is better than optuna is unresolved. "
        f"A new comparison with about {n + 5} other seeds would probably resolve it."
    )


def test_equal_means_have_no_best_level() -> None:
    said = conclude(compared(a=(0.8, 0.9, 1.0), b=(1.0, 0.9, 0.8)))
    assert said.startswith("A has the same mean as b; whether they are equivalent is unresolved. A new comparison ")
    assert (signed(-1e-9, 4), signed(-0.1, 2), signed(0.0, 2)) == ("+0.0000", "-0.10", "+0.00")


def test_conclusion_says_how_many_seeds_max_seeds_allows() -> None:
    made = compared(AnalysisPlan(max_seeds=7), optuna=NOISY, random=BEST)
    assert conclude(made).endswith(" more seeds would probably resolve it, but max_seeds=7 allows only 2.")


def test_unresolved_level_comes_last() -> None:
    made = compared(a=BEST, b=WORST, c=NOISY)
    said = conclude(made)
    assert said.startswith(
        "A is better than b. Whether it is better than c is unresolved. A new comparison with about "
    )
    assert said.endswith(" other seeds would probably resolve it.")


def test_tied_levels_are_equivalent() -> None:
    assert conclude(compared(a=(0.9,) * 5, b=(0.9,) * 5)) == "A is equivalent to b within 0.01."


def test_exploratory_conclusion_promises_no_seeds() -> None:
    made = compared(None, [analysed((0, 1, 2), 0.05, ("optuna", "random"))], optuna=NOISY, random=BEST)
    assert "resolve it" not in conclude(made)
    assert pairs_table(made)[1][0][-1] == "unresolved"


def test_conclusion_counts_missing_studies() -> None:
    made = Comparison(grouped({"a": BEST, "b": WORST}), AnalysisPlan(), missing=["mine-a-s9"])
    assert conclude(made) == "Preliminary, with 1 study missing: a is better than b."
