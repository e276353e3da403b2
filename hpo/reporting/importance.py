"""Parameter importance: fANOVA (Hutter et al. 2014), computed by Optuna."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpo.core.params import Params
from hpo.core.space import SearchSpace

# The time of fANOVA grows faster than linearly in both; with these values it takes seconds.
MAX_TRIALS, N_TREES = 1000, 16


def importances(space: SearchSpace, trials: Sequence[tuple[Params, float]], direction: str) -> dict[str, float]:
    """Share of the objective's variance that each parameter explains, largest first.

    Only parameters that every trial has are included.

    Args:
        space: domains of the parameters.
        trials: params and objective of COMPLETE trials; many are thinned out by :func:`sampled`.
        direction: ``minimize`` or ``maximize``.

    Returns:
        Shares by name, which add up to 1; empty if the trials have no parameter in common, if none varies, or if all
        objectives are equal.
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
    """At most :data:`MAX_TRIALS` trials at equal distances, the first and the last included."""
    if len(trials) <= MAX_TRIALS:
        return trials
    return [trials[round(place)] for place in np.linspace(0, len(trials) - 1, MAX_TRIALS)]
