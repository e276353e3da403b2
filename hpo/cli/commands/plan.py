"""``python -m hpo plan``: shows what a study would do."""

from __future__ import annotations

import argparse

from omegaconf import DictConfig

from hpo.cli import builder, hydra_app
from hpo.cli.command import Command
from hpo.cli.commands.run import add_hydra_arguments
from hpo.cli.console import console
from hpo.cli.exit_codes import OK


def _execute(parsed: argparse.Namespace) -> int:
    return hydra_app.for_each_config(parsed.hydra_options, parsed.overrides, _plan)


def _plan(conf: DictConfig) -> int:
    study, _ = builder.build(conf)
    from hpo.cli import definition

    definition.print_plan(console(), study)
    return OK


COMMAND = Command(
    "plan",
    "[OVERRIDE ...]",
    "show what a study would do: space, trials, folds, fits, rungs; trains nothing",
    "Shows what a study would do, and trains nothing: the search space with its grid points, and how many trials, "
    "folds, fits, epochs and rungs it takes at most.",
    add_hydra_arguments,
    _execute,
    (
        (
            "python -m hpo plan strategy=halving_random resampling=stratified_kfold",
            "the rungs of successive halving with five folds",
        ),
        ("python -m hpo plan model=svm strategy=grid", "the size of a grid"),
    ),
)
