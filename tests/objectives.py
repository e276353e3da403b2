"""Optuna objectives: two from Optuna's own examples, without any use of hpo, and some that fail."""

import os
import signal
import time
from pathlib import Path

import optuna
import sklearn.datasets
import sklearn.ensemble
import sklearn.linear_model
import sklearn.model_selection
import sklearn.svm


def sklearn_simple(trial):
    """From optuna-examples/sklearn/sklearn_simple.py: a model and its conditional params."""
    iris = sklearn.datasets.load_iris()
    x, y = iris.data, iris.target

    classifier_name = trial.suggest_categorical("classifier", ["SVC", "RandomForest"])
    if classifier_name == "SVC":
        svc_c = trial.suggest_float("svc_c", 1e-10, 1e10, log=True)
        classifier_obj = sklearn.svm.SVC(C=svc_c, gamma="auto")
    else:
        rf_max_depth = trial.suggest_int("rf_max_depth", 2, 32, log=True)
        classifier_obj = sklearn.ensemble.RandomForestClassifier(
            max_depth=rf_max_depth, n_estimators=10, random_state=0
        )

    score = sklearn.model_selection.cross_val_score(classifier_obj, x, y, n_jobs=1, cv=3)
    return score.mean()


def simple_pruning(trial):
    """From optuna-examples/simple_pruning.py."""
    iris = sklearn.datasets.load_iris()
    classes = list(set(iris.target))
    train_x, valid_x, train_y, valid_y = sklearn.model_selection.train_test_split(
        iris.data, iris.target, test_size=0.25, random_state=0
    )

    alpha = trial.suggest_float("alpha", 1e-5, 1e-1, log=True)
    clf = sklearn.linear_model.SGDClassifier(alpha=alpha, random_state=0)

    for step in range(0, 60, 5):
        clf.partial_fit(train_x, train_y, classes=classes)

        # Report intermediate objective value.
        intermediate_value = 1.0 - clf.score(valid_x, valid_y)
        trial.report(intermediate_value, step)

        # Handle pruning based on the intermediate value.
        if trial.should_prune():
            raise optuna.TrialPruned()

    return 1.0 - clf.score(valid_x, valid_y)


def layered(trial):
    """Reports, and has a number of params that depends on one of them."""
    total = sum(trial.suggest_float(f"y{i}", -1, 1, step=0.25) for i in range(trial.suggest_int("n", 1, 3, step=2)))
    trial.set_user_attr("total", total)
    trial.set_user_attr("what is it?", {"long": "x" * 5000})
    for step in range(3):
        trial.report(total + 1 / (step + 1), step)
    return total


def layered_and_failing(trial):
    value = layered(trial)
    if trial.number == 1:
        raise ValueError("asked for")
    return value


def slow(trial):
    """Sleeps after the reports, so that it can be killed."""
    value = layered(trial)
    time.sleep(0.4)
    return value


def killed_once(trial):
    """Kills its process in the first trial, after the first of two params."""
    x = trial.suggest_float("x", 0, 1)
    flag = Path("killed")
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x + trial.suggest_float("y", 0, 1)


def wrong(trial):
    """Fails in a way that depends on the number of the trial."""
    match trial.number:
        case 0:
            raise ValueError("asked for")
        case 1:
            return trial.study.best_value
        case 2:
            return None
        case 3:
            return 1.0, 2.0
        case 4:
            return float("nan")
        case 5:
            raise optuna.TrialPruned
        case 6:
            return trial.suggest_categorical("kind", ["a", "b"]) == "a"
    return trial.suggest_float("kind", 0, 1)


def two_values(trial):
    x = trial.suggest_float("x", 0, 1)
    return x, 1 - x


class Callable:
    """An objective that is a callable object with an argument."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def __call__(self, trial):
        return self.scale * trial.suggest_float("x", 1, 2)


def takes_more(trial, data):
    return 0.0
