"""Hyperopt: TPE by its original authors (Bergstra et al. 2011), simulated annealing, or random draws.

It is driven as ``hyperopt.fmin`` does it, with one seed per trial. https://hyperopt.github.io/hyperopt
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import hyperopt
from hyperopt import anneal, rand, tpe
from hyperopt.base import JOB_STATE_DONE, JOB_STATE_NEW, STATUS_FAIL, STATUS_OK, Domain, Trials, spec_from_misc
from hyperopt.fmin import generate_trial

from hpo.core.objective import Objective
from hpo.core.params import Params, ParamValue
from hpo.core.seeds import derive_seed
from hpo.core.space import Categorical, Float, Int, Numeric, Parameter, SearchSpace
from hpo.core.trial import Proposal, Trial
from hpo.strategies.base import AskTellStrategy, SearchProblem, StrategyTags, option_error, startup_trials

ALGORITHMS = {"tpe": tpe.suggest, "anneal": anneal.suggest, "rand": rand.suggest}
INDEX = "index"


def expression(space: SearchSpace) -> dict[str, Any]:
    """Return the Hyperopt space that is equivalent to ``space``; :func:`params_of` converts draws from it.

    A child of one categorical parent is nested in the parent's choices, as usual in Hyperopt. Any other child is always
    drawn, and left out of the params where it is inactive.
    """
    made = {name: _leaf(parameter) for name, parameter in space.items() if not isinstance(parameter, Categorical)}
    # Children first, since a choice contains them.
    for name, parameter in reversed(list(space.items())):
        if isinstance(parameter, Categorical):
            options = [
                {INDEX: index} | {child: made[child] for child in _nested(space, name, choice)}
                for index, choice in enumerate(parameter.choices)
            ]
            made[name] = hyperopt.hp.choice(name, options)
    return {name: made[name] for name, parameter in space.items() if _parent(space, parameter) is None}


def _leaf(parameter: Parameter) -> Any:
    name = parameter.name
    match parameter:
        case Numeric() if values := _indexed(parameter):
            # Not uniformint, which draws its bounds half as often as other values.
            return hyperopt.hp.quniform(name, -0.5, len(values) - 0.5, 1)
        case Int(low=low, high=high):
            return hyperopt.hp.qloguniform(name, math.log(low - 0.5), math.log(high + 0.5), 1)
        case Float(low=low, high=high, log=True):
            return hyperopt.hp.loguniform(name, math.log(low), math.log(high))
        case Float(low=low, high=high):
            return hyperopt.hp.uniform(name, low, high)
    raise TypeError(f"no Hyperopt expression for {parameter!r}")


def _indexed(parameter: Numeric) -> Sequence[ParamValue]:
    return () if parameter.log and parameter.low < parameter.high else parameter.steps()


def _parent(space: SearchSpace, parameter: Parameter) -> str | None:
    """Return the only parent of ``parameter`` if it is categorical, so that the parameter can be nested in it."""
    parents = list(parameter.when or {})
    return parents[0] if len(parents) == 1 and isinstance(space[parents[0]], Categorical) else None


def _nested(space: SearchSpace, parent: str, choice: ParamValue) -> list[str]:
    children = [name for name, parameter in space.items() if _parent(space, parameter) == parent]
    return [name for name in children if space.is_active(name, {parent: choice})]


def params_of(space: SearchSpace, drawn: dict[str, Any]) -> dict[str, ParamValue]:
    """Return params from what ``hyperopt.space_eval`` returns for :func:`expression`; inactive ones are absent."""
    flat: dict[str, Any] = {}

    def walk(node: dict[str, Any]) -> None:
        for name, value in node.items():
            if isinstance(value, dict):
                flat[name] = value[INDEX]
                walk({child: inner for child, inner in value.items() if child != INDEX})
            else:
                flat[name] = value

    walk(drawn)
    params: dict[str, ParamValue] = {}
    for name, parameter in space.items():
        if not space.is_active(name, params):
            continue
        match parameter:
            case Categorical(choices=choices):
                params[name] = choices[flat[name]]
            case Numeric() if values := _indexed(parameter):
                params[name] = values[min(len(values) - 1, max(0, round(flat[name])))]
            case Int(low=low, high=high):
                params[name] = int(min(high, max(low, round(flat[name]))))
            case Float(low=low, high=high):
                params[name] = float(min(high, max(low, flat[name])))
    return params


def values_of(space: SearchSpace, params: Params) -> dict[str, Any]:
    """Return the values of Hyperopt's variables for ``params``; the inverse of :func:`params_of`."""
    values: dict[str, Any] = {}
    for name, value in params.items():
        parameter = space[name]
        match parameter:
            case Categorical(choices=choices):
                values[name] = choices.index(value)
            case Numeric() if steps := _indexed(parameter):
                values[name] = float(
                    min(range(len(steps)), key=lambda i: abs(float(str(steps[i])) - float(str(value))))
                )
            case _:
                values[name] = value
    return values


class HyperoptStrategy(AskTellStrategy[dict[str, Any]]):
    """Searches with one of Hyperopt's algorithms.

    Args:
        algorithm: ``tpe``, ``anneal`` (simulated annealing) or ``rand``.
        n_startup_jobs: random trials before TPE models the space; None takes a quarter of all, 3 to 10.
        default_first: whether the first trial is the model's own configuration.
        options: further arguments of the algorithm's ``suggest``, such as ``gamma`` or ``n_EI_candidates``.
    """

    def __init__(
        self,
        algorithm: str = "tpe",
        n_startup_jobs: int | None = None,
        default_first: bool = True,
        options: dict[str, Any] | None = None,
    ) -> None:
        if algorithm not in ALGORITHMS:
            raise option_error("algorithm", algorithm, f"one of {', '.join(ALGORITHMS)}", "tpe")
        if n_startup_jobs is not None and (type(n_startup_jobs) is not int or n_startup_jobs < 1):
            raise option_error("n_startup_jobs", n_startup_jobs, "a whole number of at least 1, or null", "null")
        self.algorithm, self.n_startup_jobs, self.default_first = algorithm, n_startup_jobs, default_first
        self.options = dict(options or {})
        self._rehearse()

    def _rehearse(self) -> None:
        """Search a toy space for three trials, since Hyperopt checks its options only when it uses them."""
        space = SearchSpace([Float("x")])
        search = SearchProblem(space, Objective.of("loss"), 3, 1, 0)
        self.start(search)
        suggest = functools.partial(self._suggest, **({"n_startup_jobs": 1} if self.algorithm == "tpe" else {}))
        try:
            for tid in range(3):
                (document,) = suggest([tid], self._domain, self._trials, tid)
                self._insert(document)
                document["state"], document["result"] = JOB_STATE_DONE, {"loss": float(tid), "status": STATUS_OK}
        except (TypeError, ValueError, AttributeError) as error:
            raise option_error(
                "options", self.options, f"options that {self.algorithm} takes ({error})", "{}"
            ) from error

    @property
    def tags(self) -> StrategyTags:
        is_random = self.algorithm == "rand"
        return StrategyTags(
            f"hyperopt.{self.algorithm}", parallel=True, samples_prior=is_random, learns=not is_random, enqueues=True
        )

    def start(self, search: SearchProblem) -> None:
        self._search, self._n_asked = search, 0
        self._space = expression(search.space)
        self._domain, self._trials = Domain(None, self._space), Trials()
        options = dict(self.options)
        if self.algorithm == "tpe":
            options["n_startup_jobs"] = self.n_startup_jobs or startup_trials(search.planned_trials)
        self._suggest = functools.partial(ALGORITHMS[self.algorithm], **options)
        first = [search.default_params] if self.default_first and search.default_params is not None else []
        self._first = [*search.enqueued, *(params for params in first if params not in search.enqueued)]

    def _insert(self, document: dict[str, Any]) -> None:
        self._trials.insert_trial_docs([document])
        self._trials.refresh()

    def ask(self, known: Params | None = None) -> tuple[Proposal, dict[str, Any]] | None:
        (tid,), seed = self._trials.new_trial_ids(1), derive_seed(self._search.seed, self._n_asked)
        if known is None and self._n_asked < len(self._first):
            known = self._first[self._n_asked]
        if known is not None:
            params = dict(known)
            document = generate_trial(tid, values_of(self._search.space, params))
            for name in self._search.space.keys() - params.keys():  # inactive ones
                document["misc"]["idxs"][name] = document["misc"]["vals"][name] = []
        else:
            (document,) = self._suggest([tid], self._domain, self._trials, seed)
            drawn = hyperopt.space_eval(self._space, spec_from_misc(document["misc"]))
            params = params_of(self._search.space, drawn)
        self._n_asked += 1
        document["state"] = JOB_STATE_NEW
        self._insert(document)
        return Proposal(params), document

    def tell(self, handle: dict[str, Any], trial: Trial) -> None:
        sign = -1.0 if self._search.objective.direction == "maximize" else 1.0
        handle["state"] = JOB_STATE_DONE
        handle["result"] = {"status": STATUS_FAIL}
        if trial.value is not None:
            handle["result"] = {"loss": sign * trial.value, "status": STATUS_OK}
        self._trials.refresh()
