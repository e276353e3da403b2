"""Settings of the whole process are made where a process begins, never when a module is imported."""

import ast
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import hpo
from hpo.core.process import ENVIRONMENT, prepare_process

PACKAGE = Path(hpo.__file__).parent


def statements_at_import(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield every statement that runs when the module is imported."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        children = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
        pending += children
        if isinstance(node, ast.stmt) and not children:
            yield node


def changes_process(statement: ast.stmt) -> bool:
    """Return whether it changes environment variables, warning filters, logger levels or file descriptors."""
    text = ast.unparse(statement)
    changes = (
        "os.environ.",
        "warnings.filterwarnings",
        "warnings.simplefilter",
        ".setLevel(",
        "set_verbosity(",
        "os.dup2",
    )
    is_assignment = isinstance(statement, ast.Assign | ast.Delete) and "os.environ[" in text.partition("=")[0]
    reads = ("os.environ.get(",)
    return is_assignment or (any(each in text for each in changes) and not any(each in text for each in reads))


@pytest.mark.parametrize("path", [str(path.relative_to(PACKAGE)) for path in sorted(PACKAGE.rglob("*.py"))])
def test_importing_a_module_changes_nothing_of_the_process(path: str) -> None:
    tree = ast.parse((PACKAGE / path).read_text())
    assert [ast.unparse(each) for each in statements_at_import(tree) if changes_process(each)] == []


def test_changes_at_import_are_found() -> None:
    tree = ast.parse(
        "import os\nos.environ['A'] = '1'\nos.environ.setdefault('B', '2')\nfor n in ():\n    log(n).setLevel(3)\n"
        "def later():\n    os.environ['C'] = '3'\nhome = os.environ.get('HOME')\n"
    )
    assert sorted(each.lineno for each in statements_at_import(tree) if changes_process(each)) == [2, 3, 5]


def test_values_of_the_user_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with warnings.catch_warnings():
        prepare_process()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_repeated_calls_add_no_filters() -> None:
    with warnings.catch_warnings():
        prepare_process()
        once = list(warnings.filters)
        prepare_process()
        assert warnings.filters == once


QUIET = """
from hpo.core.process import prepare_process
prepare_process()
import logging
import mlflow.store.db.utils
print(*(logging.getLogger(name).getEffectiveLevel() for name in ("mlflow", "alembic", "mlflow.store.db.utils")))
"""


def test_loggers_stay_quiet_when_their_library_is_imported_later() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == [str(logging.ERROR), str(logging.ERROR), str(logging.CRITICAL)]


MODULE = """
import os, sys
print("cannot find the licence server", file=sys.stderr, flush=True)
os.write(2, b"native code gives up\\n")
{end}

def build(data_spec):
    return None
"""


@pytest.mark.parametrize(("end", "code"), [("os._exit(3)", 3), ("os.abort()", -6)])
def test_output_of_module_that_exits_is_shown(workdir: Path, end: str, code: int) -> None:
    (workdir / "mine.py").write_text(MODULE.format(end=end))
    command = [sys.executable, "-m", "hpo", "model._target_=mine.build", "dataset=digits"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code
    assert "cannot find the licence server" in done.stderr
    assert "native code gives up" in done.stderr
