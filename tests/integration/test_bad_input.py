"""Bad input ends before training with one message, exit code 2, no traceback, and nothing recorded."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpo.tracking.reader import list_studies
from hpo.tracking.store import open_store

# What is given → the key that the message must name, and a part of what it must say.
TABLE: dict[str, tuple[list[str], str, str]] = {
    "unknown option": (["strategy=optna"], "strategy", "optuna"),
    "unknown model": (["model=mnist_cn"], "model", "mnist_cnn"),
    "unknown group": (["stratgy=optuna"], "stratgy", "strategy=optuna"),
    "unknown command": (["lst"], "command", "list"),
    "misspelt key": (["limits.n_trial=3"], "limits.n_trial", "limits.n_trials=3"),
    "misspelt section": (["limts.n_trials=3"], "limts.n_trials", "limits.n_trials=3"),
    "misspelt key of a parameter": (["search_space.dropout.hgh=1"], "search_space.dropout.hgh", "high"),
    "misspelt option of the sampler": (["+strategy.sampler.n_startup=1"], "strategy.sampler.n_startup", "Optuna"),
    "text for an option of the sampler": (["strategy.sampler.n_ei_candidates=many"], "strategy.sampler", "Optuna"),
    "text for an option of the pruner": (["strategy.pruner.n_min_trials=many"], "strategy.pruner", "MedianPruner"),
    "misspelt option of the pruner": (["+strategy.pruner.warmup=1"], "strategy.pruner.warmup", "MedianPruner"),
    "misspelt option of the model": (["+model.units=3"], "model.units", "dense_units"),
    "misspelt option of the dataset": (["dataset=digits", "+dataset.size=3"], "dataset.size", "digits"),
    "a removed key that is null": (["~dataset.fallback", "dataset=digits"], "dataset.fallback", "can be removed"),
    "a key added that is there": (["+seed=3"], "seed", "seed=3"),
    "a parameter in other letters": (["model=svm", "search_space.c.high=3"], "search_space.c", "capital letters"),
    "a dataset without its file": (
        ["model=svm", "dataset=csv", "dataset.target=y"],
        "dataset.path",
        "cannot do without",
    ),
    "a metric of the training rows": (["model=svm", "objective.metric=accuracy"], "objective.metric", "val_accuracy"),
    "text for a number": (["limits.n_trials=many"], "limits.n_trials", "whole number"),
    "a fraction of a trial": (["limits.n_trials=2.5"], "limits.n_trials", "whole number"),
    "a number for a switch": (["early_stopping.restore_best_weights=maybe"], "early_stopping.restore", "true or false"),
    "no trials": (["limits.n_trials=0"], "limits.n_trials", "at least 1"),
    "no time": (["limits.timeout_seconds=0"], "limits.timeout_seconds", "more than 0"),
    "no epochs": (["max_epochs=0"], "max_epochs", "at least 1"),
    "no end": (["limits.n_trials=null", "limits.timeout_seconds=null"], "limits", "n_trials"),
    "negative seed": (["seed=-1"], "seed", "at least 0"),
    "negative patience": (["early_stopping.patience=-1"], "early_stopping.patience", "0 or more"),
    "log from zero": (["search_space.learning_rate.low=0"], "search_space.learning_rate.low", "log is true"),
    "low above high": (["search_space.filters.low=99"], "search_space.filters.low", "at most high"),
    "a step that misses the end": (["search_space.filters.step=7"], "search_space.filters.high", "steps"),
    "a parameter of no type": (["search_space.dropout.type=real"], "search_space.dropout.type", "categorical"),
    "a condition on nothing": (
        ["search_space.momentum.when=null", "search_space.momentum.when={optimiser: [sgd]}"],
        "search_space.momentum.when",
        "another parameter",
    ),
    "a condition that cannot hold": (
        ["search_space.momentum.when.optimizer=[sdg]"],
        "search_space.momentum.when.optimizer",
        "can take",
    ),
    "a parameter that the model lacks": (
        ["search_space=wide", "--config-dir=mine"],
        "search_space.width",
        "dense_units",
    ),
    "a condition that would be merged": (
        ["search_space.momentum.when={optimiser: [sgd]}"],
        "search_space.momentum.when",
        "merges",
    ),
    "a model that does not work": (["model=broken", "--config-dir=mine"], "model", "shape is wrong"),
    "a name that is taken": (["search_space=mnist_cnn", "--config-dir=taken"], "search_space=mnist_cnn", "rename"),
    "a metric that the model lacks": (
        ["dataset=digits", "objective.metric=val_r2"],
        "objective.metric",
        "val_accuracy",
    ),
    "a monitor that the model lacks": (
        ["dataset=digits", "early_stopping.monitor=val_auc"],
        "early_stopping.monitor",
        "val_loss",
    ),
    "the wrong direction": (["objective.direction=minimize"], "objective.direction", "maximize"),
    "no direction": (
        ["objective.metric=latency", "objective.direction=null"],
        "objective.direction",
        "minimize or maximize",
    ),
    "a share of two": (["resampling.validation_fraction=2"], "resampling.validation_fraction", "between 0 and 1"),
    "a share that leaves a class out": (
        ["dataset=digits", "resampling.validation_fraction=0.001"],
        "resampling.validation_fraction",
        "every class",
    ),
    "no threads": (["executor.threads_per_trial=0"], "executor.threads_per_trial", "at least 1"),
    "a target that is not there": (["model._target_=nowhere.build"], "model._target_", "imported"),
    "a module that raises": (["model._target_=raises.build"], "model._target_", "raises.py, line 3, raised ValueError"),
    "a module that imports one that raises": (
        ["model=svm", "model.estimator=passes_on.Mine"],
        "model.estimator",
        "raises.py, line 3, raised ValueError: no licence",
    ),
    "a module that is no Python": (
        ["model=svm", "dataset._target_=cut_off.load"],
        "dataset._target_",
        "cut_off.py, line 1, raised SyntaxError",
    ),
    "a module that lacks a library": (
        ["model=keras_tuner", "model.hypermodel=lacks.build", "dataset=digits"],
        "model.hypermodel",
        "lacks.py, line 1, raised ModuleNotFoundError: No module named 'no_such_library'",
    ),
    "an objective that is not in its module": (
        ["model=optuna_objective", "model.objective=fails_when_called.lod"],
        "model.objective",
        "model.objective=fails_when_called.load",
    ),
    "a function that raises": (
        ["model=svm", "dataset._target_=fails_when_called.load"],
        "dataset",
        "fails_when_called.py, line 2, raised KeyError: 'rows'",
    ),
    "a name of an earlier version": (
        ["model=svm", "model._target_=hpo.models.sklearn_model.SklearnModel"],
        "model._target_",
        "model._target_=hpo.models.sklearn.model.SklearnModel",
    ),
    "a target of another kind": (
        ["dataset=digits", "strategy._target_=hpo.evaluation.resampling.Holdout"],
        "strategy",
        "option",
    ),
    "a bracket left open": (["limits.n_trials=[1"], "override", "key=value"),
    "a store that does not answer": (["dataset=digits", "tracking.uri=http://127.0.0.1:9"], "tracking.uri", "answers"),
    "a database without its driver": (
        ["dataset=digits", "tracking.uri=mysql+pymysql://u:secret@127.0.0.1:9/db"],
        "tracking.uri",
        "pip install pymysql",
    ),
    "a database that does not answer": (
        ["dataset=digits", "tracking.uri=postgresql+psycopg2://u:secret@127.0.0.1:9/db"],
        "tracking.uri",
        "Connection refused",
    ),
    "a server that nobody has named": (["tracking=server"], "tracking.uri", "export MLFLOW_TRACKING_URI"),
    "studies in processes of Hydra": (["-m", "hydra/launcher=joblib", "seed=0,1"], "hydra/launcher", "xargs"),
    "an address without an @": (
        ["dataset=digits", "tracking.uri=http://u:secret@127.0.0.1:x"],
        "tracking.uri",
        "answer",
    ),
    "an address left open": (["dataset=digits", "tracking.uri='http://[bad'"], "tracking.uri", "answers"),
    "an address with a slash too few": (["dataset=digits", "tracking.uri=sqlite://x.db"], "tracking.uri", "answers"),
    "a misspelt key with a password": (
        ["tracking.urii=postgresql://u:secret@h/db"],
        "tracking.urii",
        "tracking.uri=",
    ),
    "a key that the model's YAML lacks": (["model.droput=0.5"], "model.droput", "spelling"),
    "a package line that is not the first": (["--config-dir=mine", "model=late"], "dataset@model", "first line"),
    "no shape": (["dataset=digits", "model.image_shape=28"], "model.image_shape", "height, width"),
    "text in a shape": (["dataset=digits", "'model.image_shape=[a,b,1]'".strip("'")], "model.image_shape", "height"),
    "no batch": (["dataset=digits", "model.batch_size=0"], "model.batch_size", "at least 1"),
    "the last epoch of restored weights": (["dataset=digits", "objective.epoch=last"], "objective.epoch", "best"),
    "a fallback that is not there": (["dataset.fallback=digit"], "dataset", "digits"),
    "a store of no kind": (["dataset=digits", "tracking.uri=ftp://x"], "tracking.uri", "sqlite:///"),
    "a store that is no database": (["dataset=digits", "tracking.uri=sqlite:///broken.db"], "tracking.uri", "answers"),
    "a folder that cannot be": (
        ["dataset=digits", "tracking.output_path=file/in"],
        "tracking.output_path",
        "written to",
    ),
    "a grid over a range": (
        ["dataset=digits", "strategy=grid", "search_space.dropout.grid=null"],
        "search_space.dropout",
        "dropout.grid=[",
    ),
    "a grid over a range, by Keras Tuner": (
        ["dataset=digits", "strategy=keras_grid", "search_space.dropout.grid=null"],
        "search_space.dropout",
        "step=",
    ),
    "a grid that is too large": (
        ["dataset=digits", "strategy=grid", "resampling=kfold"],
        "limits.n_trials",
        "32 combinations (32 × 5 folds = 160 fits)",
    ),
    "an oversize of no kind": (["strategy=grid", "strategy.oversize=shrink"], "strategy.oversize", "coarsen"),
    "an order that Keras Tuner fixes": (
        ["strategy=keras_grid", "strategy.oversize=shuffle"],
        "strategy.oversize",
        "fixes the order",
    ),
    "more folds than a class has rows": (
        ["dataset=digits", "resampling=stratified_kfold", "resampling.n_splits=200"],
        "resampling.n_splits",
        "smallest class",
    ),
    "one fold": (["dataset=digits", "resampling=kfold", "resampling.n_splits=1"], "resampling.n_splits", "at least 2"),
    "groups that are not there": (["dataset=digits", "resampling=group_kfold"], "resampling", "no groups"),
    "a pruner over single rows": (
        ["model=svm", "resampling=leave_one_out"],
        "strategy = optuna",
        "resampling=leave_one_out",
    ),
    "conditions for a strategy without": (
        ["dataset=digits", "strategy=flat", "--config-dir=mine"],
        "search_space.momentum.when",
        "strategy=flat",
    ),
    "several objectives for one": (
        ["dataset=digits", "strategy=random", "+objective.others.n_weights=minimize"],
        "objective.others",
        "strategy=optuna_nsga2",
    ),
    "several objectives and a pruner": (
        ["dataset=digits", "strategy=optuna", "+objective.others.n_weights=minimize"],
        "objective.others",
        "strategy/pruner=none",
    ),
    "an objective that nobody measures": (
        ["dataset=digits", "strategy=optuna_nsga2", "+objective.others.beauty=maximize"],
        "objective.others",
        "predict_seconds",
    ),
    "an objective the wrong way": (
        ["strategy=optuna_nsga2", "+objective.others.val_loss=maximize"],
        "objective.others.val_loss",
        "minimize",
    ),
    "enqueued for a strategy that takes none": (
        ["model=svm", "strategy=random", "enqueue=[{C: 1.0, kernel: linear}]"],
        "enqueue",
        "strategy=optuna",
    ),
    "enqueued outside the space": (["model=svm", "enqueue=[{C: 1e9, kernel: linear}]"], "enqueue[0].C", "inside"),
    "enqueued and incomplete": (["model=svm", "enqueue=[{C: 1.0, kernel: rbf}]"], "enqueue[0]", "gamma"),
    "enqueued and inactive": (
        ["model=svm", "enqueue=[{C: 1.0, kernel: linear, gamma: 0.1}]"],
        "enqueue[0].gamma",
        "does not hold",
    ),
    "enqueued under another name": (["model=svm", "enqueue=[{c: 1.0, kernel: linear}]"], "enqueue[0].c", "C, kernel"),
    "too few trials for a bracket": (
        ["dataset=digits", "strategy=keras_hyperband", "limits.n_trials=3"],
        "limits.n_trials",
        "at least 12",
    ),
    "too few params for a bracket": (
        ["model=svm", "strategy=keras_hyperband", "~search_space.gamma", "~search_space.degree", "~search_space.C"],
        "search_space",
        "first bracket",
    ),
    "a first rung above the last": (
        ["dataset=digits", "strategy=halving_random", "strategy.min_epochs=99"],
        "strategy.min_epochs",
        "at most max_epochs",
    ),
    "a rung with more trials than there are": (
        ["dataset=digits", "strategy=halving_random", "strategy.n_candidates=99"],
        "strategy.n_candidates",
        "limits.n_trials",
    ),
    "halving by one": (["strategy=halving_grid", "strategy.factor=1"], "strategy.factor", "at least 2"),
    "a step that grows": (["strategy=hill_climbing", "strategy.last_step=0.9"], "strategy.last_step", "at most 0.25"),
    "an algorithm that Hyperopt lacks": (
        ["strategy=hyperopt", "strategy.algorithm=gp"],
        "strategy.algorithm",
        "anneal",
    ),
    "an option that TPE lacks": (["strategy=hyperopt", "+strategy.options.x=1"], "strategy.options", "tpe takes"),
    "a scheduler that Ray lacks": (["strategy=ray_tune", "strategy.scheduler=pbt"], "strategy.scheduler", "asha"),
    "an estimator that is not there": (
        ["model=svm", "model.estimator=sklearn.svm.SVX"],
        "model.estimator",
        "has no attribute 'SVX'",
    ),
    "an option that the estimator lacks": (["model=svm", "+model.depth=3"], "model.depth", "kernel"),
    "a scaler that is not there": (["model=svm", "model.scaler=log"], "model.scaler", "robust"),
    "something that does not grow": (["model=svm", "+model.grows=C"], "model.grows", "warm_start"),
    "a parameter that the study decides": (["model=svm", "+model.random_state=3"], "model.random_state", "seed"),
    "trees that grow by epochs": (
        ["model=random_forest", "+model.n_estimators=500"],
        "model.n_estimators",
        "model.grow_by and max_epochs",
    ),
    "nothing to watch": (
        ["early_stopping.start_from_epoch=50"],
        "early_stopping.start_from_epoch",
        "less than max_epochs",
    ),
    "images for rows": (["model=mnist_cnn", "dataset=breast_cancer"], "dataset", "images of shape"),
    "MNIST asked for and not to be had": (["dataset=mnist"], "dataset=mnist", "dataset=digits"),
    "MNIST refused a stand-in": (["dataset.fallback=null"], "dataset=mnist", "KERAS_HOME"),
}


FLAT = """
from hpo.strategies.base import Strategy, StrategyTags

class Flat(Strategy):
    tags = StrategyTags("optuna", conditional=False)

    def search(self, search, evaluate):
        raise AssertionError("never begun")
"""


IMPORTED = {
    "raises": "import json\n\nraise ValueError('no licence')\n",
    "cut_off": "def build(\n",
    "lacks": "import no_such_library\n",
    "passes_on": "import raises\n",
    "fails_when_called": "def load():\n    return {}['rows']\n",
}


@pytest.fixture
def in_the_way(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that the table speaks of."""
    monkeypatch.syspath_prepend(workdir)
    broken = "def build(data, *, width=1):\n    raise ValueError('shape is wrong')\n"
    (workdir / "broken_model.py").write_text(broken)
    (workdir / "flat_strategy.py").write_text(FLAT)
    for name, text in IMPORTED.items():
        (workdir / f"{name}.py").write_text(text)
    (workdir / "file").write_text("not a folder")
    (workdir / "broken.db").write_bytes(b"no database" * 100)
    defaults = "defaults: [override /dataset: digits, override /search_space: wide]"
    for name, text in (
        ("mine/search_space/wide", "width: {type: int, low: 1, high: 2}\n"),
        ("mine/model/broken", f"# @package _global_\n{defaults}\nmodel: {{_target_: broken_model.build}}\n"),
        ("mine/model/late", f"# mine\n# @package _global_\n{defaults}\nmodel: {{_target_: broken_model.build}}\n"),
        ("mine/strategy/flat", "_target_: flat_strategy.Flat\n"),
        ("taken/search_space/mnist_cnn", "filters: {type: int, low: 1, high: 2}\n"),
    ):
        path = workdir / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


# What TensorFlow prints about devices when this process imports it; test_error_of_a_user_s_module_is_printed_once is
# of a process of its own.
TENSORFLOW_NOTES = re.compile(r"(?m)^(WARNING: All log messages before absl::|[IWE]0000 ).*\n")


@pytest.mark.parametrize("case", list(TABLE))
@pytest.mark.usefixtures("in_the_way")
def test_bad_input_is_refused_before_training(
    case: str, hpo: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    arguments, key, said = TABLE[case]
    assert hpo(*arguments) == 2
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert TENSORFLOW_NOTES.sub("", err).startswith("error: ")
    assert err.count("error: ") == 1
    assert f"error: {key}" in err
    assert "  expected: " in err
    assert "  fix:      " in err
    assert said in err
    assert "secret" not in out + err
    client, experiment = open_store("sqlite:///hpo_runs/mlflow.db", "hpo", Path("hpo_runs"))
    assert list_studies(client, experiment) == []


def test_corrupt_file_is_refused_without_fallback(hpo: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    path = Path(os.environ["KERAS_HOME"]) / "datasets" / "mnist.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a download")
    assert hpo() == 2
    err = capfd.readouterr().err
    assert "error: dataset=mnist" in err
    assert f"delete {path}" in err
    assert path.read_bytes() == b"half a download"


def test_study_name_of_a_finished_study_is_refused(
    hpo: Callable[..., int], small: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    assert hpo(*small, "study=mine", "limits.n_trials=1", "max_epochs=1") == 0
    assert hpo(*small, "study=mine", "limits.n_trials=1", "max_epochs=1") == 2
    assert "error: study = mine" in capfd.readouterr().err


@pytest.mark.parametrize("full", [False, True])
def test_exit_code_is_2_and_traceback_only_on_request(workdir: Path, full: bool) -> None:
    environment = {**os.environ, **({"HYDRA_FULL_ERROR": "1"} if full else {})}
    command = [sys.executable, "-m", "hpo", "limits.n_trials=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 2
    assert ("Traceback" in done.stderr) is full
    assert "limits.n_trials" in done.stderr


@pytest.mark.parametrize(
    "override", ["model._target_=raises.build", "dataset._target_=raises.load", "model.estimator=raises.Mine"]
)
@pytest.mark.usefixtures("in_the_way")
def test_error_of_a_user_s_module_is_printed_once(override: str) -> None:
    command = [sys.executable, "-m", "hpo", "model=svm", override]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("no licence") == 1
    assert "raises.py, line 3" in done.stderr
    assert "folder that holds" not in done.stderr


WITHOUT = """
import sys

library = sys.argv.pop(1)

class Missing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == library:
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)

sys.meta_path.insert(0, Missing)
from hpo.cli.main import main

sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("override", "library", "command"),
    [
        ("strategy=hyperopt", "hyperopt", "pip install 'hyperopt"),
        ("strategy=ray_tune", "ray", "pip install 'ray[tune]>=2.50'"),
        ("executor=ray", "ray", "pip install 'ray[tune]>=2.50'"),
        ("strategy=optuna_cmaes", "cmaes", "pip install 'cmaes>=0.12'"),
        ("strategy=optuna_gp", "torch", "pip install 'torch>=2.9'"),
        ("model=xgboost", "xgboost", "pip install 'xgboost"),
        ("model=lightgbm_regressor", "lightgbm", "pip install 'lightgbm>=4.6'"),
        ("+model.balance=smote", "imblearn", "pip install 'imbalanced-learn>=0.14'"),
    ],
)
def test_missing_library_is_named_with_its_install_command(
    workdir: Path, override: str, library: str, command: str
) -> None:
    (workdir / "without.py").write_text(WITHOUT)
    arguments = [library, *([] if override.startswith("model=") else ["model=svm"]), override]
    done = subprocess.run([sys.executable, "without.py", *arguments], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert f"the library {library}, which is not installed" in done.stderr
    assert f"fix:      {command}" in done.stderr
