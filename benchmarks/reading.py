"""Measures how long a comparison takes to read 10,000 finished trials from SQLite.

::

    python -m benchmarks.reading              runs 20 studies of 500 trials, then reads them
    python -m benchmarks.reading --store DIR  keeps the studies in DIR, and reads them if they are there

Each study is read in two ways: from its recorded tables and, as a study without tables, from the runs of its trials,
without learning curves.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from rich.console import Console

from hpo.cli.main import main as hpo
from hpo.compare.command import compare_studies
from hpo.compare.load import load
from hpo.compare.spec import ComparisonSpec
from hpo.core.process import prepare_process
from hpo.tracking.reader import list_studies, load_trials
from hpo.tracking.store import open_store

N_SEEDS, N_TRIALS = 10, 500
STRATEGIES = ("random", "optuna_random")
STUDY = (
    *("model=svm", "dataset=breast_cancer", "executor=inline", "executor.threads_per_trial=1"),
    *("search_space.kernel.choices=[rbf]", "search_space.gamma.when.kernel=[rbf]", "~search_space.degree"),
    "limits.timeout_seconds=null",
)


def record(n_trials: int) -> None:
    """Run the studies that are missing."""
    for strategy in STRATEGIES:
        for seed in range(N_SEEDS):
            own = (f"strategy={strategy}", f"seed={seed}", f"limits.n_trials={n_trials}", f"study={strategy}-{seed}")
            if not Path("hpo_runs", "studies", f"{strategy}-{seed}", "tables").exists() and hpo([*STUDY, *own]):
                raise SystemExit("a study failed")


def main() -> None:
    """Record the studies, read them in both ways, and print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="a folder for the studies")
    parser.add_argument("--trials", type=int, default=N_TRIALS, help="of each of the twenty studies")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as spare:
        folder = options.store or Path(spare)
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        record(options.trials)
        began = time.perf_counter()
        client, experiment = open_store("sqlite:///hpo_runs/mlflow.db", "hpo", Path("hpo_runs"))
        studies = list_studies(client, experiment)
        with tempfile.TemporaryDirectory() as cache:
            loaded, _ = load(client, studies, Path(cache))
            n_trials = sum(len(study.trials) for study in loaded)
        from_tables = time.perf_counter() - began
        began = time.perf_counter()
        n_runs = sum(len(load_trials(client, study)) for study in studies)
        from_runs = time.perf_counter() - began
        began = time.perf_counter()
        with Path(os.devnull).open("w") as nowhere:
            out = Console(file=nowhere)
            spec = ComparisonSpec(experiment="hpo")
            compare_studies(spec, client, experiment, Path("hpo_runs"), out, is_logged=False)
        whole = time.perf_counter() - began
    print(f"{len(studies)} studies, {n_trials:,} trials read from tables: {from_tables:.1f} s")
    print(f"{n_runs:,} trials read from their runs, without curves: {from_runs:.1f} s")
    print(f"the whole comparison with its report: {whole:.1f} s")


if __name__ == "__main__":
    prepare_process()
    main()
