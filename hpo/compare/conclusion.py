"""The conclusion of a comparison, in one to three sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hpo.compare.comparison import Comparison
from hpo.compare.statistics import MAX_N
from hpo.compare.tasks import TaskRanking
from hpo.compare.verdicts import Difference, Verdict


def conclude(comparison: Comparison) -> str:
    """Conclude which level is best, and against which levels that is unresolved."""
    best, *others = comparison.levels
    by_pair = {frozenset((each.first, each.second)): each for each in comparison.differences}
    against = {other.name: by_pair[frozenset((best.name, other.name))] for other in others}
    beaten = [name for name, difference in against.items() if _is_better(best.name, difference)]
    equal = [name for name, difference in against.items() if difference.verdict is Verdict.EQUIVALENT]
    unresolved = [name for name in against if name not in beaten and name not in equal]
    parts = []
    if beaten:
        parts.append(f"better than {join_names(beaten)}")
    if equal:
        parts.append(f"equivalent to {join_names(equal)} within {comparison.min_effect:.3g}")
    sentences = [f"{best.name} is {' and '.join(parts)}."] if parts else []
    if unresolved:
        sentences.append(_describe_unresolved(best.name, {name: against[name] for name in unresolved}, not parts))
        if resolving := _describe_resolving(comparison, max(against[name].n_more or 1 for name in unresolved)):
            sentences.append(resolving)
    return _capitalize(_qualify(comparison) + " ".join(sentences))


def _is_better(best: str, difference: Difference) -> bool:
    return difference.verdict is (Verdict.BETTER if difference.first == best else Verdict.WORSE)


def _describe_unresolved(best: str, against: dict[str, Difference], is_first: bool) -> str:
    names = join_names(list(against))
    if all(math.isclose(each.mean, 0.0, abs_tol=1e-12) for each in against.values()):
        return f"{best} has the same mean as {names}; whether they are equivalent is unresolved."
    lead = f"{best} has the best mean, but whether it" if is_first else "Whether it"
    return f"{lead} is better than {names} is unresolved."


def _describe_resolving(comparison: Comparison, n_more: int) -> str:
    """How many seeds would probably resolve the comparison; empty if it is exploratory."""
    if comparison.spending.is_exploratory:
        return ""
    count = _count_seeds(comparison, n_more)
    if comparison.plan.max_seeds is None:
        return f"A new comparison with {count} would probably resolve it."
    n_left = comparison.spending.max_seeds - len(comparison.seeds)
    allowed = f", but max_seeds={comparison.spending.max_seeds} allows only {n_left}" if n_more > n_left else ""
    return f"{count[0].upper()}{count[1:]} would probably resolve it{allowed}."


def describe_seeds_needed(comparison: Comparison, n_more: int) -> str:
    """Seeds that would probably resolve a pair, for a table; empty if the comparison is exploratory."""
    return "" if comparison.spending.is_exploratory else _count_seeds(comparison, n_more)


def _count_seeds(comparison: Comparison, n_more: int) -> str:
    """With ``max_seeds``, the seeds to add; without it, the other seeds that a new comparison needs."""
    n_seeds = len(comparison.seeds)
    is_planned = comparison.plan.max_seeds is not None
    n = n_more if is_planned else n_more + n_seeds
    count = f"about {n:,}" if n_more + n_seeds < MAX_N else f"more than {MAX_N:,}"
    return f"{count} {'more' if is_planned else 'other'} seed{'s' * (n > 1)}"


def _qualify(comparison: Comparison) -> str:
    qualified = ""
    if n := len(comparison.missing):
        qualified += f"preliminary, with {n} stud{'ies' if n > 1 else 'y'} missing: "
    if comparison.spending.is_exploratory:
        qualified += "exploratory, because earlier analyses spent the whole alpha: "
    return qualified


def conclude_ranking(ranking: TaskRanking) -> str:
    """Conclude whether levels differ over several tasks, and which."""
    names = list(ranking.mean_ranks)
    ranks = ", ".join(f"{name} {rank:.2f}" for name, rank in ranking.mean_ranks.items())
    lead = f"Over {len(ranking.tasks)} tasks the mean ranks are {ranks}"
    if not ranking.differs:
        return f"{lead}. No significant difference was found (p = {ranking.p_value:.2g})."
    parts = []
    for place, name in enumerate(names):
        if below := [other for other in names[place + 1 :] if ranking.is_told_apart(name, other)]:
            parts.append(f"{name} ranks above {join_names(below)}")
    pairs = "; ".join(parts) if parts else "no single pair differs significantly"
    return f"{lead}. They differ (p = {ranking.p_value:.2g}): {pairs}."


def join_names(names: Sequence[str]) -> str:
    """Join names as in ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _capitalize(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"
