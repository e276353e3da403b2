"""How much each parameter matters: fANOVA (Hutter et al. 2014), as Optuna computes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpo.core.params import Params
from hpo.core.space import SearchSpace

# What fANOVA takes grows faster than both: with these it is done in seconds.
MAX_TRIALS, N_TREES = 1000, 16


def importances(space: SearchSpace, trials: Sequence[tuple[Params, float]], direction: str) -> dict[str, float]:
    """Share of the variance of the objective by parameter, the largest first, of those that every trial has.

    Args:
        trials: params and objective of the COMPLETE ones; see :func:`sampled` for which of many are used.
        direction: ``minimize`` or ``maximize``.

    Returns:
        Nothing where the trials say nothing: no parameter that all have, none that varies, or equal objectives.
    """
    import optuna  # slow to import

    from hpo.strategies.optuna import distribution

    if len({value for _, value in trials}) < 2:
        return {}
    study = optuna.create_study(direction=direction)
    for params, value in sampled(trials):
        domains = {name: distribution(space[name]) for name in params}
        study.add_trial(optuna.create_trial(params=dict(params), distributions=domains, value=value))
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=N_TREES, seed=0)
    try:
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    except (RuntimeError, ValueError):
        return {}


def sampled(trials: Sequence[tuple[Params, float]]) -> Sequence[tuple[Params, float]]:
    """At most :data:`MAX_TRIALS` of them, from the first to the last at equal distances."""
    if len(trials) <= MAX_TRIALS:
        return trials
    return [trials[round(place)] for place in np.linspace(0, len(trials) - 1, MAX_TRIALS)]
