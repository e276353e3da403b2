"""What an objective is given answers as Optuna's own trial does."""

import datetime
import functools
from collections.abc import Callable, Mapping
from typing import Any

import objectives
import optuna
import pytest

from hpo.core.objective import Objective
from hpo.core.params import ParamValue
from hpo.core.space import Categorical, Float, Int, Parameter
from hpo.core.states import Decision, State, StopReason
from hpo.errors import ConfigError, SuggestionRefused
from hpo.models.base import FitLog
from hpo.models.objectives.optuna import LiveTrial, OptunaObjective
from hpo.strategies.optuna import suggest

VALUE = Objective("value", "minimize")


class Driver:
    """Answers from a trial of Optuna's."""

    def __init__(self, after: Decision = Decision.CONTINUE, between: Decision = Decision.CONTINUE) -> None:
        self.real = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
        self.asked: list[Parameter] = []
        self.reports: list[Mapping[str, float]] = []
        self.notes: dict[str, str] = {}
        self._after, self._between = after, between

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        assert epoch == len(self.reports)
        self.reports.append(dict(logs))
        return self._after

    def poll(self) -> Decision:
        return self._between

    def suggest(self, parameter: Parameter) -> ParamValue:
        self.asked.append(parameter)
        try:
            return suggest(self.real, parameter)
        except ValueError as error:
            raise SuggestionRefused(str(error)) from error

    def note(self, name: str, text: str) -> None:
        self.notes[name] = text


def live(driver: Driver, objective: Objective = VALUE) -> LiveTrial:
    return LiveTrial(7, objective, FitLog(), driver)


def call(function: Any, driver: Driver | None = None, objective: Objective = VALUE) -> tuple[Any, FitLog]:
    log = FitLog()
    return OptunaObjective(function).call(7, objective, log, driver or Driver()), log


def test_suggestions_have_the_domains_of_optuna() -> None:
    driver = Driver()
    trial = live(driver)
    values = {
        "f": trial.suggest_float("f", 1e-4, 1, log=True),
        "s": trial.suggest_float("s", 0, 1, step=0.25),
        "i": trial.suggest_int("i", 16, 48, step=16),
        "l": trial.suggest_int("l", 1, 100, log=True),
        "c": trial.suggest_categorical("c", ["a", 1, None, True]),
    }
    assert driver.real.params == trial.params == values
    assert driver.real.distributions == trial.distributions
    assert driver.asked == [
        Float("f", low=1e-4, high=1.0, log=True),
        Float("s", low=0.0, high=1.0, step=0.25),
        Int("i", low=16, high=48, step=16),
        Int("l", low=1, high=100, log=True),
        Categorical("c", choices=("a", 1, None, True)),
    ]
    assert isinstance(values["i"], int)


def test_repeated_suggestion_returns_the_first_value() -> None:
    driver = Driver()
    trial = live(driver)
    first = trial.suggest_float("x", 0, 1)
    assert trial.suggest_float("x", 0, 1) == first
    with pytest.warns(RuntimeWarning, match="its first answer holds"):
        assert trial.suggest_float("x", 5, 6) == first
    with pytest.raises(ValueError, match="distribution kind"):
        trial.suggest_int("x", 0, 1)
    assert len(driver.asked) == 1


@pytest.mark.parametrize(
    ("ask", "error", "said"),
    [
        (lambda t: t.suggest_float("x", 2, 1), ValueError, "low <= high"),
        (lambda t: t.suggest_float("x", 0, 1, log=True), ValueError, "low > 0"),
        (lambda t: t.suggest_categorical("x", [(1, 2)]), TypeError, "suggest its name, and look it up"),
        (lambda t: t.report("much", 0), TypeError, "a number, not str"),
        (lambda t: t.report(1.0, None), TypeError, "a whole number, not NoneType"),
        (lambda t: t.report(1.0, -1), ValueError, "0 or more"),
        (lambda t: t.set_constraint("c", 1.0), NotImplementedError, "no constraints"),
        (lambda t: t.study.best_trial, AttributeError, r"trial\.study is not there: the study is in another process"),
    ],
)
def test_unsupported_calls_raise_with_a_reason(ask: Any, error: type[Exception], said: str) -> None:
    driver = Driver()
    with pytest.raises(error, match=said):
        ask(live(driver))
    assert not driver.asked
    assert not driver.reports


def test_trial_has_number_start_params_and_attributes() -> None:
    driver = Driver()
    trial = live(driver)
    assert trial.number == 7
    assert isinstance(trial.datetime_start, datetime.datetime)
    trial.set_user_attr("text", "as it is")
    trial.set_user_attr("list", [1, 2])
    assert trial.user_attrs == {"text": "as it is", "list": [1, 2]}
    assert driver.notes == {"text": "as it is", "list": "[1, 2]"}


def test_reports_become_history_and_should_prune_decides() -> None:
    driver = Driver(after=Decision.PRUNE)
    log = FitLog()
    trial = LiveTrial(0, VALUE, log, driver)
    assert not trial.should_prune()
    trial.report(3, 10)
    assert trial.should_prune()
    trial.report(2, 20)
    with pytest.warns(UserWarning, match="step 20 was reported before"):
        trial.report(1, 20)
    assert driver.reports == [{"value": 3.0, "at_step": 10.0}, {"value": 2.0, "at_step": 20.0}]
    assert log.history == {"value": [3.0, 2.0], "at_step": [10.0, 20.0]}
    assert log.epochs_run == 2


def test_pruning_and_interrupts_are_not_failures() -> None:
    assert call(lambda trial: 1)[0] == (1.0,)

    def prunes(trial: Any) -> float:
        raise optuna.TrialPruned

    returned, log = call(prunes)
    assert (returned, log.stop_reason) == (None, StopReason.PRUNED)

    def catches(trial: Any) -> float:
        try:
            trial.report(1.0, 0)
        except Exception:
            return 0.0
        return 0.0

    for driver in (Driver(after=Decision.INTERRUPT), Driver(between=Decision.INTERRUPT)):
        function = catches if driver.poll() is Decision.CONTINUE else (lambda trial: trial.suggest_float("x", 0, 1))
        returned, log = call(function, driver)
        assert (returned, log.stop_reason) == (None, StopReason.INTERRUPTED)


def returns_whatever_happens(trial: Any) -> float:
    try:
        trial.report(1.0, 0)
    finally:
        return 99.0  # noqa: B012 what is to be coped with


def prunes_whatever_happens(trial: Any) -> float:
    try:
        trial.report(1.0, 0)
    except BaseException:
        raise optuna.TrialPruned from None
    return 99.0


def fails_whatever_happens(trial: Any) -> float:
    try:
        trial.report(1.0, 0)
    except BaseException:
        raise RuntimeError from None
    return 99.0


@pytest.mark.parametrize("function", [returns_whatever_happens, prunes_whatever_happens, fails_whatever_happens])
def test_interrupt_is_not_swallowed_by_objective(
    function: Callable[[Any], float],
) -> None:
    returned, log = call(function, Driver(after=Decision.INTERRUPT))
    assert (returned, log.stop_reason) == (None, StopReason.INTERRUPTED)


def test_names_that_are_not_text_are_refused() -> None:
    with pytest.raises(TypeError, match="must be text, not 1"):
        live(Driver()).set_user_attr(1, "one")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be text, not 1"):
        live(Driver()).suggest_float(1, 0.0, 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_value_that_is_not_finite_fails_the_trial(value: float) -> None:
    returned, log = call(lambda trial: value)
    assert (returned, log.stop_reason.state, log.problem) == (None, State.FAIL, "value is not finite")


def test_number_of_values_must_match_the_objectives() -> None:
    two = Objective("value", "minimize", others={"n_weights": "minimize"})
    assert call(lambda trial: (1, 2), objective=two)[0] == (1.0, 2.0)
    with pytest.raises(ValueError, match="returned 1 values where the study has 2"):
        call(lambda trial: 1, objective=two)
    with pytest.raises(ValueError, match="declares all but the first"):
        call(lambda trial: (1, 2))
    with pytest.raises(TypeError, match="must return a number, not None"):
        call(lambda trial: None)
    with pytest.raises(NotImplementedError, match="multi-objective"):
        live(Driver(), two).report(1.0, 0)


def test_objective_may_be_a_function_an_object_or_a_class() -> None:
    for given in ("objectives.Callable", objectives.Callable, objectives.Callable(1.0)):
        assert 1 <= call(given)[0][0] <= 2
    assert call(functools.partial(objectives.takes_more, data=None))[0] == (0.0,)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nowhere.objective", "a name that can be imported"),
        ("objectives.optuna", r"a function objective\(trial\)"),
        ("objectives.takes_more", "a trial and nothing else"),
        ("hpo.models.objectives.optuna.LiveTrial", "a class without arguments"),
    ],
)
def test_invalid_objective_is_refused(given: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        OptunaObjective(given)
    assert caught.value.key == "model.objective"
