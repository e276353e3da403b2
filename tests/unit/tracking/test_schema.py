"""Names of the record: each stands once in the code, has a description, and never changes."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.utils import mlflow_tags

from hpo.tracking import schema
from hpo.tracking.schema import Artifact, Metric, Tag

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = ROOT / "hpo" / "tracking" / "schema.py"
SOURCES = [path for path in sorted((ROOT / "hpo").rglob("*.py")) if path != SCHEMA]

# Names that studies of earlier versions have recorded; they must stay readable, so this list only grows.
TAGS = """
    attempt backend base base_digest base_uri best_model_uri best_params best_trial best_trial_run_id by choices
    comparison_key data_digest dataset dataset_note domains driver driver_seen ended_by error executor fingerprint
    first_n_trials fit folds_digest forced_resume hardware kind levels look model n_folds n_resumed n_tests objective
    overrides params pareto problems resampling resumed_fingerprint run_key seed spent_epochs spent_seconds state
    stop_reason strategy studies study_uid superseded tested_trial threads_per_trial trial verdict workers
"""
METRICS = """
    n_complete n_pruned n_failed epochs_total search_seconds best_objective n_trials n_interrupted epochs_saved_total
    epochs_interrupted refit_seconds refit_epochs objective objective_std objective_se rung_objective train_score
    generalisation_gap epochs_run epochs_saved best_epoch stopped_epoch total_seconds ended_seconds n_weights
"""
ARTIFACTS = """
    config.yaml fingerprint.json search_space.yaml best.json trials.csv pareto_front.csv cv_results.csv model tables
    plots optimization_history.png learning_curves.png parallel_coordinates.png param_importances.png test
    predictions.parquet classification_report.txt confusion_matrix.csv confusion_matrix.png residuals.png filters.png
    feature_maps.png history.parquet report.md report.html
"""
COMPOSED = [
    (schema.limit_tag("n_trials"), "hpo.limits.n_trials"),
    (schema.group_tag("strategy"), "hpo.strategy"),
    (schema.objective_tag("val_accuracy"), "hpo.objective.val_accuracy"),
    (schema.fold_tag(3), "hpo.fold_3"),
    (schema.fold_tag(3, 9), "hpo.fold_3_at_9"),
    (schema.user_tag("note"), "user.note"),
    (schema.study_tag("mlp-s0"), "hpo.study.mlp-s0"),
    (schema.metric_on_test("accuracy"), "test_accuracy"),
    (schema.objective_metric("val_accuracy"), "objective_val_accuracy"),
    (schema.best_metric("val_loss"), "best_val_loss"),
    (schema.phase_metric("train"), "train_seconds"),
    (schema.fold_metric(2, "val_loss"), "fold_2/val_loss"),
    (schema.fold_score_metric(2), "fold_2/score"),
    (schema.level_metric("accuracy", "random"), "test_accuracy_random"),
    (schema.difference_metric("random", "grid"), "difference_random_grid"),
    (schema.table_file("trials"), "trials.parquet"),
    (schema.table_file("trials", "csv"), "trials.csv"),
    (schema.traceback_file(1), "traceback_fold_1.txt"),
    (schema.user_file("a note/ü"), "user/a_note_-0691dd05.txt"),
]

# The same words with another meaning, which are not names of the record.
OTHER_MEANINGS = {
    "hpo/core/objective.py": {"test_"},  # prefix of metrics whose direction is looked up
    "hpo/strategies/sklearn.py": {"cv_results.csv"},  # a strategy names its own tables
    "hpo/study/previous_format.py": {"hpo.resampling"},  # name of a module
}
# Words that are also config keys, columns and parts of sentences: looked for only where metrics are read or written.
COMMON_WORDS = {
    Metric.OBJECTIVE, Metric.N_TRIALS, Metric.TRAIN_SCORE, Metric.GENERALISATION_GAP, Metric.EPOCHS_RUN,
    Metric.EPOCHS_SAVED, Metric.BEST_EPOCH, Metric.STOPPED_EPOCH, Metric.ENDED_SECONDS, Metric.N_WEIGHTS,
    Artifact.MODEL, Artifact.TABLES, Artifact.PLOTS, Artifact.TEST,
}  # fmt: skip
NAMES = {
    value for group in (Tag, Metric, Artifact) for name, value in vars(group).items() if not name.startswith("_")
} - COMMON_WORDS
# What a composed name begins with: a whole literal, as in name.startswith("test_"), or the first part of an f-string.
BEGINNINGS = re.compile(r"(test|fold|traceback_fold|difference)_|user[./]|hpo\.((limits|objective|study)\.|fold_).*")


def names_in(group: type) -> dict[str, str]:
    return {name: value for name, value in vars(group).items() if not name.startswith("_")}


@pytest.mark.parametrize(
    ("group", "words", "prefix"), [(Tag, TAGS, "hpo."), (Metric, METRICS, ""), (Artifact, ARTIFACTS, "")]
)
def test_recorded_names_are_unchanged(group: type, words: str, prefix: str) -> None:
    names = [value for value in names_in(group).values() if not value.startswith("mlflow.")]
    assert len(set(names)) == len(names), "a name stands twice"
    assert {prefix + word for word in words.split()} == set(names)


@pytest.mark.parametrize(("name", "recorded"), COMPOSED)
def test_composed_names_are_unchanged(name: str, recorded: str) -> None:
    assert name == recorded


def test_tables_are_unchanged() -> None:
    assert schema.TABLES == ("trials", "folds", "epochs")


def test_tags_of_mlflow_have_its_names() -> None:
    assert Tag.RUN_NAME == mlflow_tags.MLFLOW_RUN_NAME
    assert Tag.NOTE == mlflow_tags.MLFLOW_RUN_NOTE
    assert Tag.PARENT == mlflow_tags.MLFLOW_PARENT_RUN_ID


def test_strategies_name_their_tables_as_the_schema_does() -> None:
    source = ROOT / "hpo" / "strategies" / "sklearn.py"
    assert f'"{Artifact.CV_RESULTS}"' in source.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("tag", "parsed"),
    [
        ("hpo.fold_0", (0, None)),
        ("hpo.fold_12_at_9", (12, 9)),
        ("hpo.folds_digest", None),
        ("hpo.fold_x", None),
        ("xhpo.fold_1", None),
        ("hpo.fold_1_at_", None),
    ],
)
def test_fold_tags_are_parsed(tag: str, parsed: tuple[int, int | None] | None) -> None:
    assert schema.parse_fold_tag(tag) == parsed


def test_composed_names_are_read_back() -> None:
    assert schema.read_objective_tags({"hpo.objective": "maximize a", "hpo.objective.b": "minimize"}) == {
        "b": "minimize"
    }
    assert schema.read_metrics_on_test({"test_loss": 1.0, "loss": 2.0, "best_test_loss": 3.0}) == {"loss": 1.0}


def test_similar_notes_have_different_files() -> None:
    assert schema.user_file("a b") != schema.user_file("a/b")
    assert len(schema.user_file("x" * 1000)) < 100


def test_each_name_is_described() -> None:
    """The descriptions are the reference of the record."""
    with SCHEMA.open("rb") as file:
        comments = {token.start[0] for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT}
    tree = ast.parse(SCHEMA.read_text(encoding="utf-8"))
    for group in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for line in (node.lineno for node in group.body if isinstance(node, ast.Assign)):
            assert comments & {line, line - 1}, f"line {line} of schema.py has no description"
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        assert function.name.startswith("_") or ast.get_docstring(function), f"{function.name} has no description"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_stand_only_in_the_schema(path: Path) -> None:
    allowed = OTHER_MEANINGS.get(str(path.relative_to(ROOT)), set())
    literals = literals_of_the_record(path.read_text(encoding="utf-8"))
    found = [f"line {line}: {text!r}" for line, text in literals if text not in allowed]
    assert not found, "use hpo.tracking.schema"


@pytest.mark.parametrize(
    "source",
    [
        'tags["hpo.state"]',
        "text = f\"tags.`hpo.kind` = 'study'\"",
        'f"hpo.limits.{name}"',
        'f"hpo.{group}"',
        'name.startswith("test_")',
        'f"fold_{fold}/{name}"',
        'run.metrics.get("objective")',
        'metrics["epochs_run"] = 1',
        'tracker.log_metrics(0, {"train_score": 1.0})',
        'tracker.log_file(0, path, "plots")',
        'download(client, run_id, "tables", folder)',
        'path = folder / "trials.csv"',
        'progress = {"n_complete": 1}',
    ],
)
def test_the_check_finds_literals(source: str) -> None:
    assert list(literals_of_the_record(source))


@pytest.mark.parametrize(
    "source",
    [
        '"""Reads ``hpo.state``."""',
        'files("hpo.datasets")',
        'target.startswith("hpo.")',
        'f"test_path={path}"',
        'config["objective"]["metric"]',
        '"the test split: hpo.state is finished"',
    ],
)
def test_the_check_accepts_other_text(source: str) -> None:
    assert not list(literals_of_the_record(source))


def literals_of_the_record(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every string literal that is, or begins as, a name of the record; docstrings do not count."""
    tree = ast.parse(source)
    docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    strict = {constant for node in ast.walk(tree) for inner in _name_positions(node) for constant in ast.walk(inner)}
    formatted = {value for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or node in docstrings:
            continue
        text = node.value
        is_name = text in NAMES or (node in strict and text in COMMON_WORDS)
        is_filter = "`hpo." in text
        is_composed = BEGINNINGS.fullmatch(text) is not None or (node in formatted and text == "hpo.")
        if is_name or is_filter or is_composed:
            yield node.lineno, text


def _name_positions(node: ast.AST) -> Iterator[ast.AST]:
    """Parts of the code in which a common word is the name of a metric or a folder."""
    if isinstance(node, ast.Subscript) and _name_of(node.value) == "metrics":
        yield node.slice
    if isinstance(node, ast.Call):
        function = _name_of(node.func)
        if function in ("log_metrics", "log_file", "download", "set_tags"):
            yield from node.args
        if function == "get" and isinstance(node.func, ast.Attribute) and _name_of(node.func.value) == "metrics":
            yield from node.args


def _name_of(node: ast.AST) -> str | None:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None
