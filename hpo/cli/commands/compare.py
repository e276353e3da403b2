"""``python -m hpo compare``: runs the studies that are missing from a comparison, and reports."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from hpo.cli import builder, hydra_app, stores
from hpo.cli.command import Command, add_config_dir
from hpo.cli.command_lines import is_tracking
from hpo.cli.commands import run
from hpo.cli.console import console
from hpo.cli.exit_codes import FAILED, OK
from hpo.errors import ConfigError

_USAGE = """strategies=[A,B,…] [seeds=5] [OVERRIDE ...]
       python -m hpo compare comparison=NAME [OVERRIDE ...]
       python -m hpo compare by=KEY levels=[A,B,…] [seeds=5] [OVERRIDE ...]
       python -m hpo compare strategies=[A,B,…] tasks=[X,Y,…] [over=dataset] [OVERRIDE ...]
       python -m hpo compare experiment=NAME [by=KEY]"""
_SETTINGS = """settings (SETTING=VALUE):
  strategies   the strategies to compare; short for by=strategy levels=…
  by, levels   any config group or key, and its values: by=model.dropout levels=[0.0,0.5]
  comparison   a named comparison, listed below; settings on the command line override its own
  seeds        how many, or a list; each level gets one study per seed
  tasks, over  compare on each of these datasets (or values of KEY with over=KEY), then rank
  min_effect   smallest difference of the test metric that matters (default for accuracies: 0.01)
  max_seeds    the most seeds that will be run, if you plan interim analyses of fewer seeds
  alpha        error probability of all interim analyses and pairs together (default: 0.05)
  experiment   compare the finished studies of this MLflow experiment, and run nothing
  name         name of the comparison, and prefix of its studies

comparisons:
"""


def _details() -> str:
    from hpo.cli.overview import option_lines

    return _SETTINGS + "\n".join(option_lines("comparison"))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", nargs="*", metavar="SETTING=VALUE", help="settings below, and overrides of all studies"
    )
    add_config_dir(parser)


def _execute(parsed: argparse.Namespace) -> int:
    from hpo.compare.spec import parse

    config_dir = [f"--config-dir={parsed.config_dir}"] if parsed.config_dir else []
    arguments = [*config_dir, *parsed.words]
    spec = parse(arguments)
    of_store = [o for o in spec.overrides if is_tracking(o)]
    tracking = hydra_app.compose(of_store, parsed.config_dir)["tracking"]
    if spec.experiment is not None:
        if rest := [o for o in spec.overrides if o not in (*of_store, *config_dir)]:
            raise ConfigError("compare", rest[0], "no overrides of studies, since it runs none", f"leave {rest[0]} out")
        return _compare_recorded(spec, tracking, arguments)
    return _run_and_compare(spec, tracking, arguments)


def _compare_recorded(spec: Any, tracking: dict[str, Any], arguments: list[str]) -> int:
    """Compare the finished studies of an experiment, which may be on a server that only allows reading."""
    from hpo.compare import command

    tracking["experiment"] = str(spec.experiment)
    client, experiment_id = stores.open_existing(tracking)
    command.compare_studies(spec, client, experiment_id, Path(tracking["output_path"]), console(), False, arguments)
    return OK


def _run_and_compare(spec: Any, tracking: dict[str, Any], arguments: list[str]) -> int:
    planned = [plan_levels(part) for part in spec.by_task]  # before any study trains

    from hpo.compare import command
    from hpo.tracking.reader import list_studies
    from hpo.tracking.store import open_store

    output_path = Path(tracking["output_path"])
    client, experiment_id = open_store(tracking["uri"], tracking["experiment"], output_path)
    records = list_studies(client, experiment_id)
    parts = list(zip(spec.by_task, planned, strict=True))
    finished = [command.find_finished(part, client, records, plan) for part, plan in parts]
    made = []
    for part, done in zip(spec.by_task, finished, strict=True):
        command.run_missing(part, done, _run_briefly, console())
        made.append(command.compare_studies(part, client, experiment_id, output_path, console(), True, arguments))
    if spec.tasks:
        command.rank_over_tasks(spec, made, output_path, console(), arguments)
    return FAILED if any(each.missing for each in made) else OK


def plan_levels(spec: Any) -> dict[str, Any]:
    """Build a study of every level of a comparison, and check that they can be compared.

    Args:
        spec: a :class:`hpo.compare.spec.ComparisonSpec`.

    Returns:
        Level → :class:`hpo.compare.eligibility.PlannedStudy`.

    Raises:
        ConfigError: if the levels cannot be compared.
    """
    from hpo.compare import eligibility

    planned: dict[str, Any] = {}
    for level in spec.levels:

        def plan(conf: DictConfig, level: str = level) -> int:
            planned[level] = eligibility.PlannedStudy.of(builder.build(conf)[0])
            return OK

        hydra_app.for_each_config(*_split(spec.command(level, spec.seeds[0])), plan)
    eligibility.check_levels(spec.by, planned)
    return planned


def _run_briefly(command_line: list[str]) -> int:
    options, overrides = _split(command_line)
    return run.run(options, overrides, is_brief=True)


def _split(command_line: list[str]) -> tuple[list[str], list[str]]:
    """Split the command line of a study into options of Hydra and overrides."""
    options = [argument for argument in command_line if argument.startswith("-")]
    return options, [argument for argument in command_line if not argument.startswith("-")]


COMMAND = Command(
    "compare",
    _USAGE,
    "run studies that differ in one setting, and test which level is better",
    "Runs the studies that have not finished, one for each level and seed, and compares the test scores of their "
    "winners, paired by seed. To continue an interrupted comparison, run the same command again. With experiment=NAME "
    "it runs nothing and compares the finished studies of that experiment, also on another server (tracking.uri=…).",
    _add_arguments,
    _execute,
    (
        (
            "python -m hpo compare 'strategies=[grid,random,optuna]' seeds=5 model=svm dataset=digits",
            "which search is better here",
        ),
        (
            "python -m hpo compare by=model.dropout 'levels=[0.0,0.5]' dataset=digits '~search_space.dropout'",
            "whether dropout helps",
        ),
    ),
    _details,
)
