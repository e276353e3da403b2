"""Studies that run in parallel on one SQLite file, which none of them has created yet."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks import faults

N_STUDIES, N_TRIALS = 8, 3


def test_eight_parallel_studies_are_recorded_without_lock_errors(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hpo", "model=svm", "resampling=stratified_kfold", "resampling.n_splits=2"]
    command += ["strategy=random", f"limits.n_trials={N_TRIALS}", "executor.threads_per_trial=1"]
    processes = []
    for number in range(N_STUDIES):
        with (tmp_path / f"log-{number}").open("w") as log:
            # Started in the same second and without a name, so that their default names collide.
            processes.append(subprocess.Popen([*command], cwd=tmp_path, stdout=log, stderr=log, env={**os.environ}))
    codes = [process.wait(280) for process in processes]
    logs = [(tmp_path / f"log-{number}").read_text() for number in range(N_STUDIES)]
    assert codes == [0] * N_STUDIES, "\n".join(logs)
    assert not any("locked" in log or "does not answer" in log for log in logs), logs
    stored = faults.Stored.read(tmp_path)
    kinds = [tags.get("hpo.kind") for tags in stored.tags.values()]
    assert (kinds.count("study"), kinds.count("trial")) == (N_STUDIES, N_STUDIES * N_TRIALS)
    assert set(stored.status.values()) == {"FINISHED"}
    names = [tags["mlflow.runName"] for tags in stored.tags.values() if tags.get("hpo.kind") == "study"]
    assert len(set(names)) == N_STUDIES
    for run, tags in stored.tags.items():
        if tags.get("hpo.kind") == "trial":
            assert len(stored.points[run, "objective"]) == 1
            assert sorted(stored.points[run, "val_loss"]) == [0]
        else:
            assert sorted(stored.points[run, "n_complete"]) == list(range(N_TRIALS))
            assert tags["hpo.best_model_uri"].startswith("models:/")
