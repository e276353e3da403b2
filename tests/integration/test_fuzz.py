"""Randomly mutated commands: each runs a study or prints exactly one error message."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpo import config as configs

MODELS = ("svm", "random_forest", "logistic_regression", "gradient_boosting")
# Overrides of a study, with valid values.
VALID = {
    "seed": "3",
    "max_epochs": "2",
    "limits.n_trials": "5",
    "limits.timeout_seconds": "100",
    "limits.max_epochs_total": "50",
    "limits.max_consecutive_failures": "null",
    "objective.metric": "val_accuracy",
    "objective.direction": "maximize",
    "objective.epoch": "best",
    "early_stopping.monitor": "val_loss",
    "early_stopping.patience": "1",
    "early_stopping.min_delta": "0.01",
    "early_stopping.restore_best_weights": "true",
    "early_stopping.start_from_epoch": "0",
    "resampling": "stratified_kfold",
    "resampling.n_splits": "3",
    "strategy": "random",
    "dataset": "breast_cancer",
    "study": "mine",
    "enqueue": "[]",
    "search_space": "svm",
    "search_space.C.low": "0.1",
    "search_space.C.high": "10",
    "search_space.C.log": "true",
    "search_space.C.grid": "[1, 2]",
    "search_space.gamma.when": "null",
    "search_space.kernel.choices": "[rbf, linear]",
    "model.C": "2.0",
    "model.scaler": "robust",
    "model.kernel": "linear",
    "executor": "local",
    "executor.threads_per_trial": "1",
    "executor.workers": "2",
    "executor.trial_timeout_seconds": "60",
    "executor.max_memory_bytes": "1000000000",
    "executor.retries": "0",
    "tracking.experiment": "hpo",
    "tracking.offline": "refuse",
}
JUNK = st.one_of(
    st.sampled_from(
        ["", "null", "true", "-1", "0", "1e400", "nan", "inf", "[]", "{}", "[1,a]", "{a:1}", "''", "???", "*"]
    ),
    st.sampled_from(
        ["${seed}", "${oc.env:NOT_THERE}", "${nothing}", "../x", "a/b", "ä", "0x10", "1_000", "[[1]]", "~"]
    ),
    st.integers(-10, 10**12).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=8),
)
KEYS = st.one_of(
    st.sampled_from(sorted(VALID)),
    st.sampled_from(sorted(VALID)).map(lambda key: key + "x"),
    st.sampled_from(sorted(VALID)).map(lambda key: key[:-1]),
    st.sampled_from(["model", "limits", "tracking", "search_space.C", "strategy.oversize", "hydra.run.dir", "a.b.c"]),
)
MUTATIONS = st.one_of(
    st.builds(lambda key, value: f"{key}={value}", KEYS, JUNK),
    st.builds(lambda key, value: f"{key}={value}", KEYS, st.sampled_from(sorted(set(VALID.values())))),
    *[st.sampled_from(sorted(VALID.items())).map("=".join)] * 4,
    KEYS.map(lambda key: f"~{key}"),
    st.builds(lambda key, value: f"+{key}={value}", KEYS, JUNK),
    st.sampled_from(list(configs.options("strategy"))).map(lambda name: f"strategy={name}"),
    st.sampled_from(list(configs.options("resampling"))).map(lambda name: f"resampling={name}"),
)


@st.composite
def commands(draw: st.DrawFn) -> list[str]:
    """A valid command with one to three mutations."""
    keys = draw(st.lists(st.sampled_from(["seed", "max_epochs", "limits.n_trials"]), unique=True, max_size=2))
    valid = [f"model={draw(st.sampled_from(MODELS))}", *(f"{key}={VALID[key]}" for key in keys)]
    return [*valid, *draw(st.lists(MUTATIONS, min_size=1, max_size=3))]


@pytest.mark.parametrize(("n_examples", "n_run"), [(40, 2), pytest.param(300, 10, marks=pytest.mark.slow)])
@pytest.mark.timeout(1800)
def test_mutated_command_runs_or_prints_one_message(
    n_examples: int, n_run: int, hpo: Callable[..., int], workdir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    valid: list[list[str]] = []

    # derandomize: every run checks the same commands, so that a failure is caused by a change of the code.
    @settings(
        max_examples=n_examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(commands())
    def check(command: list[str]) -> None:
        capfd.readouterr()
        before = set(workdir.iterdir())
        code = hpo("plan", *command)
        out, err = capfd.readouterr()
        assert code in (0, 2), f"{command}\n{err}"
        assert "Traceback" not in out + err, command
        if code == 2:
            assert err.startswith("error: "), f"{command}\n{err}"
            assert err.count("error: ") == 1, f"{command}\n{err}"
            assert "  expected: " in err, f"{command}\n{err}"
            assert "  fix:      " in err, f"{command}\n{err}"
        else:
            valid.append(command)
        # Hydra creates the folder of hydra.run.dir.
        if not any("hydra.run.dir=" in override for override in command):
            assert {path.name for path in {*workdir.iterdir()} - before} <= {"hpo_runs"}, command
        assert [path.name for path in (workdir / "hpo_runs").iterdir()] == ["mlflow.db"], command

    check()
    assert len(valid) >= n_run
    chosen = random.Random(0).sample(valid, n_run)  # noqa: S311 no secret
    ends = []
    for number, command in enumerate(chosen):
        own = [part for part in command if not part.startswith(("study=", "executor", "tracking."))]
        short = ("limits.n_trials=4", "limits.timeout_seconds=30", f"study=fuzz-{number}")
        capfd.readouterr()
        code = hpo(*own, *short)
        out, err = capfd.readouterr()
        assert code in (0, 1, 2), f"{command}\n{err}"
        assert "Traceback" not in out + err, f"{command}\n{out}{err}"
        assert (workdir / "hpo_runs" / "studies" / f"fuzz-{number}").exists() is (code != 2), command
        ends.append(code)
    assert ends.count(0) >= n_run // 2
