"""Names of everything that a study records in MLflow: tags, metrics, artifacts, and which run holds them.

A study is an MLflow run, its trials are child runs, and a comparison is a run beside the studies that it compares. Each
attempt at a trial is a child run of its own. The params of a study are its config (flattened keys), and the params of a
trial are its hyperparameters, under their own names.

Recorded names never change, so that earlier studies can still be listed, compared, shown and resumed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


class Tag:
    """Tags of an experiment and of study, trial and comparison runs."""

    # The experiment.
    EXPERIMENT_KIND = "mlflow.experimentKind"  # kind of the experiment, which the MLflow UI arranges its pages by
    STUDIES = "hpo.studies"  # "true": marks an experiment that holds studies; writing it also checks the permission

    # Every run.
    KIND = "hpo.kind"  # "study", "trial" or "comparison"
    RUN_NAME = "mlflow.runName"  # name of the study, "trial-0007" or name of the comparison
    NOTE = "mlflow.note.content"  # description that the MLflow UI shows, in Markdown (study and comparison runs)

    # Study and trial runs.
    STUDY_UID = "hpo.study_uid"  # random identifier of the study; never changes, also when the run is renamed
    RUN_KEY = "hpo.run_key"  # name of the run in the outbox: "study", "trial-0007", "trial-0007.1" (second attempt)
    STATE = "hpo.state"  # study: running, finished, failed or interrupted; trial: one of hpo.core.states.State

    # Study runs: the choices that define the study.
    STRATEGY = "hpo.strategy"  # option of the config group strategy
    MODEL = "hpo.model"  # option of the config group model
    DATASET = "hpo.dataset"  # name of the dataset
    RESAMPLING = "hpo.resampling"  # option of the config group resampling
    CHOICES = "hpo.choices"  # option of every config group, as JSON
    OVERRIDES = "hpo.overrides"  # command line that defined the study, as a JSON list
    SEED = "hpo.seed"  # seed of the study
    OBJECTIVE = "hpo.objective"  # direction and metric, as in "minimize val_loss"
    FIRST_N_TRIALS = "hpo.first_n_trials"  # limits.n_trials at the start; options derived from it keep their values
    FINGERPRINT = "hpo.fingerprint"  # digest of the identity (Artifact.IDENTITY); equal for studies that can be resumed
    BACKEND = "hpo.backend"  # library and class that search
    DATA_DIGEST = "hpo.data_digest"  # digest of the dataset
    DATASET_NOTE = "hpo.dataset_note"  # what the dataset's reader assumed about the user's file
    N_FOLDS = "hpo.n_folds"  # number of folds of every trial
    FOLDS_DIGEST = "hpo.folds_digest"  # digest of the rows in each fold
    BASE = "hpo.base"  # model.base as the user gave it, for models that start from another network
    BASE_URI = "hpo.base_uri"  # address of that network when the study started
    BASE_DIGEST = "hpo.base_digest"  # digest of that network's file
    THREADS_PER_TRIAL = "hpo.threads_per_trial"  # threads that a trial trains with; kept on resume
    HARDWARE = "hpo.hardware"  # processor and number of cores; seconds are compared only between equal hardware

    # Study runs: what may change when the study is resumed.
    EXECUTOR = "hpo.executor"  # config of the executor, as JSON
    WORKERS = "hpo.workers"  # number of parallel trials
    DRIVER = "hpo.driver"  # process that runs the study: host, pid and start time, as JSON
    DRIVER_SEEN = "hpo.driver_seen"  # last heartbeat of the driver, in seconds since 1970
    N_RESUMED = "hpo.n_resumed"  # how often the study was resumed
    FORCED_RESUME = "hpo.forced_resume"  # differences of identity at a resume that the user forced
    RESUMED_FINGERPRINT = "hpo.resumed_fingerprint"  # fingerprint at that resume

    # Study runs: progress and end.
    SPENT_SECONDS = "hpo.spent_seconds"  # seconds of searching over all sessions, including interrupted trials
    SPENT_EPOCHS = "hpo.spent_epochs"  # epochs trained over all sessions, including interrupted trials
    ENDED_BY = "hpo.ended_by"  # reason that the study ended: one of hpo.run.result.StopCause; empty while it runs
    PROBLEMS = "hpo.problems"  # errors after the search, such as a model that could not be logged
    BEST_TRIAL = "hpo.best_trial"  # number of the best trial
    BEST_TRIAL_RUN_ID = "hpo.best_trial_run_id"  # MLflow run id of the best trial
    BEST_PARAMS = "hpo.best_params"  # hyperparameters of the best trial, as JSON
    BEST_MODEL_URI = "hpo.best_model_uri"  # address of the best model, for mlflow.pyfunc.load_model
    TESTED_TRIAL = "hpo.tested_trial"  # number of the trial that the test metrics belong to
    N_TESTS = "hpo.n_tests"  # how often this study scored the test split

    # Trial runs.
    PARENT = "mlflow.parentRunId"  # MLflow run id of the study
    TRIAL = "hpo.trial"  # number of the trial, from 0
    ATTEMPT = "hpo.attempt"  # 0, and one more for each time the trial was started again
    SUPERSEDED = "hpo.superseded"  # "true" if a later attempt replaces this run
    PARAMS = "hpo.params"  # hyperparameters with their types, as JSON (MLflow's params are text)
    DOMAINS = "hpo.domains"  # search space of params that the trial asked for while it ran, as JSON
    STOP_REASON = "hpo.stop_reason"  # why training ended: one of hpo.core.states.StopReason
    ERROR = "hpo.error"  # error of a failed trial, in one line
    FIT = "hpo.fit"  # over-fitted, under-fitted, well-fitted or undetermined
    PARETO = "hpo.pareto"  # "true" if no other trial is better in all objectives (studies with several)

    # Comparison runs.
    COMPARISON_KEY = "hpo.comparison_key"  # digest of the question; equal for every interim analysis of it
    INTERIM_ANALYSIS = "hpo.look"  # seeds, levels and settings of this interim analysis, as JSON
    BY = "hpo.by"  # config key or group whose levels are compared
    LEVELS = "hpo.levels"  # the levels, as a JSON list
    VERDICT = "hpo.verdict"  # result in one sentence


# Tags whose names are composed.


def limit_tag(name: str) -> str:
    """Study runs: a key of ``limits``, such as ``hpo.limits.n_trials``; may change when the study is resumed."""
    return f"hpo.limits.{name}"


def group_tag(group: str) -> str:
    """Study runs: the option of a config group that has a tag of its own: strategy, model, dataset or resampling."""
    return f"hpo.{group}"


def objective_tag(metric: str) -> str:
    """Study runs with several objectives: the direction of a further metric."""
    return f"{_OBJECTIVE}{metric}"


def read_objective_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Metric → direction, of every further objective in the tags of a study."""
    return _without_prefix(tags, _OBJECTIVE)


def fold_tag(fold: int, budget: int | None = None) -> str:
    """Trial runs: score, early-stopping outcome and seconds of a fold, as JSON; with a budget, at that smaller one."""
    return f"hpo.fold_{fold}" if budget is None else f"hpo.fold_{fold}_at_{budget}"


def parse_fold_tag(name: str) -> tuple[int, int | None] | None:
    """Fold and budget of a tag that :func:`fold_tag` names; None for other tags."""
    match = re.fullmatch(r"hpo\.fold_(\d+)(?:_at_(\d+))?", name)
    return (int(match[1]), None if match[2] is None else int(match[2])) if match else None


def user_tag(name: str) -> str:
    """Trial runs: a note of the user's objective; long notes and other names become a :func:`user_file`."""
    return f"user.{name}"


def study_tag(study: str) -> str:
    """Comparison runs: the MLflow run id of a study that is compared."""
    return f"hpo.study.{study}"


class Metric:
    """Metrics of study and trial runs."""

    # Study runs, one point a trial; the step counts trials in the order in which they ended.
    N_COMPLETE = "n_complete"  # trials that are COMPLETE so far
    N_PRUNED = "n_pruned"  # trials that are PRUNED so far
    N_FAILED = "n_failed"  # trials that are FAIL so far
    EPOCHS_TOTAL = "epochs_total"  # epochs trained so far, including interrupted trials
    SEARCH_SECONDS = "search_seconds"  # seconds of searching so far
    BEST_OBJECTIVE = "best_objective"  # best objective so far

    # Study runs, one point a session; the step counts how often the study was resumed.
    N_TRIALS = "n_trials"  # trials that have ended
    N_INTERRUPTED = "n_interrupted"  # trials that were interrupted
    EPOCHS_SAVED_TOTAL = "epochs_saved_total"  # epochs that early stopping and pruning saved
    EPOCHS_INTERRUPTED = "epochs_interrupted"  # epochs of trials that were interrupted
    REFIT_SECONDS = "refit_seconds"  # seconds of training the best model on all training data (with folds)
    REFIT_EPOCHS = "refit_epochs"  # epochs of that training

    # Trial runs, one point at the end; over several folds the mean, of epochs the median, of seconds the sum.
    OBJECTIVE = "objective"  # the objective; only of COMPLETE trials
    OBJECTIVE_STD = "objective_std"  # standard deviation of the fold scores
    OBJECTIVE_SE = "objective_se"  # standard error of the fold scores
    RUNG_OBJECTIVE = "rung_objective"  # score at the budget at which the trial was pruned
    TRAIN_SCORE = "train_score"  # the objective's metric on training rows
    GENERALISATION_GAP = "generalisation_gap"  # how much better it is on training rows than on scored ones
    EPOCHS_RUN = "epochs_run"  # epochs trained, over all folds
    EPOCHS_SAVED = "epochs_saved"  # epochs that early stopping or pruning saved, over all folds
    BEST_EPOCH = "best_epoch"  # epoch of the kept weights, from 0
    STOPPED_EPOCH = "stopped_epoch"  # epoch at which early stopping ended training, from 0; if it did so in all folds
    TOTAL_SECONDS = "total_seconds"  # wall seconds of the trial
    ENDED_SECONDS = "ended_seconds"  # when the trial ended, in seconds of searching
    N_WEIGHTS = "n_weights"  # number of weights of the model


# Metrics whose names are composed. Each epoch's metrics of a trial have the model's own names, such as val_loss.


def metric_on_test(name: str) -> str:
    """Study runs: a metric of the best model on the test split."""
    return f"{_TEST}{name}"


def read_metrics_on_test(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metric → value on the test split, from the metrics of a study."""
    return _without_prefix(metrics, _TEST)


def objective_metric(name: str) -> str:
    """Trial runs of studies with several objectives: a further metric of the objective."""
    return f"objective_{name}"


def best_metric(monitor: str) -> str:
    """Trial runs: the best value of the metric that early stopping monitors."""
    return f"best_{monitor}"


def phase_metric(phase: str) -> str:
    """Trial runs: seconds spent in a phase: build, first_step, train, score or train_score."""
    return f"{phase}_seconds"


def fold_metric(fold: int, name: str) -> str:
    """Trial runs: a metric of one fold by epoch, in studies with several folds."""
    return f"fold_{fold}/{name}"


def fold_score_metric(fold: int) -> str:
    """Trial runs: the score of one fold by budget, in studies with several folds."""
    return fold_metric(fold, "score")


def level_metric(metric: str, level: str) -> str:
    """Comparison runs: mean of a test metric over the seeds of a level."""
    return metric_on_test(f"{metric}_{level}")


def difference_metric(first: str, second: str) -> str:
    """Comparison runs: mean difference between two levels."""
    return f"difference_{first}_{second}"


class Artifact:
    """Files of a run, and the folders among its artifacts that hold them."""

    # Study runs.
    CONFIG = "config.yaml"  # config of the study, with everything that Hydra composed
    IDENTITY = "fingerprint.json"  # everything that defines the study; Tag.FINGERPRINT is its digest
    SEARCH_SPACE = "search_space.yaml"  # parameters and their domains
    BEST = "best.json"  # number, objective and hyperparameters of the best trial
    TRIALS_CSV = "trials.csv"  # a row for each trial, for people and spreadsheets
    PARETO_FRONT = "pareto_front.csv"  # trials that no other trial dominates (studies with several objectives)
    CV_RESULTS = "cv_results.csv"  # cv_results_ of strategies that run scikit-learn's searches; the strategy names it
    MODEL = "model"  # name of a trial's logged model; it is also an output of the study run

    # Study runs, in the folder TABLES: one Parquet file for each name in TABLES.
    TABLES = "tables"

    # Study runs, in the folder PLOTS.
    PLOTS = "plots"
    OPTIMIZATION_HISTORY = "optimization_history.png"  # objective by trial, and the best so far
    LEARNING_CURVES = "learning_curves.png"  # monitored metrics of the best trials by epoch
    PARALLEL_COORDINATES = "parallel_coordinates.png"  # hyperparameters of each trial, coloured by objective
    PARAM_IMPORTANCES = "param_importances.png"  # importance of each hyperparameter

    # Study runs, in the folder TEST: the best model on the test split.
    TEST = "test"
    PREDICTIONS = "predictions.parquet"  # a row for each test sample: target and prediction
    CLASSIFICATION_REPORT = "classification_report.txt"  # precision and recall by class
    CONFUSION_MATRIX = "confusion_matrix.csv"  # counts of true and predicted classes
    CONFUSION_MATRIX_PLOT = "confusion_matrix.png"  # the same as a picture
    RESIDUALS = "residuals.png"  # residuals by prediction (regression)
    FILTERS = "filters.png"  # kernels of the first convolution (networks for images)
    FEATURE_MAPS = "feature_maps.png"  # output of the first convolution for some images

    # Trial runs.
    HISTORY = "history.parquet"  # every metric by fold and epoch, in studies with several folds

    # Comparison runs; beside the reports, each table in TABLES as Parquet and CSV, over all studies.
    REPORT = "report.md"  # the report, for reading as text
    REPORT_PAGE = "report.html"  # the report, for a browser


TABLES = ("trials", "folds", "epochs")  # a row for each trial, each fold of a trial, each epoch of a fold


# Artifacts whose names are composed.


def table_file(name: str, suffix: str = "parquet") -> str:
    """File of one of :data:`TABLES`."""
    return f"{name}.{suffix}"


def traceback_file(fold: int) -> str:
    """Trial runs: the traceback of a fold that failed."""
    return f"traceback_fold_{fold}.txt"


def user_file(name: str) -> str:
    """Trial runs: a note of the user's objective that is no :func:`user_tag`; a digest keeps similar names apart."""
    shown = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:80]
    digest = hashlib.blake2b(name.encode(errors="replace"), digest_size=4).hexdigest()
    return f"user/{shown}-{digest}.txt"


_OBJECTIVE = "hpo.objective."
_TEST = "test_"


def _without_prefix(values: Mapping[str, T], prefix: str) -> dict[str, T]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
