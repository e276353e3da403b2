"""``python -m hpo [run]``: runs a study."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from hpo import config as configs
from hpo.cli import builder, hydra_app
from hpo.cli.command import Command
from hpo.cli.command_lines import defining_overrides, recorded_overrides, store_arguments
from hpo.cli.console import console
from hpo.cli.exit_codes import FAILED, INTERRUPTED, OK

# Time for MLflow to take the last records of a finished study.
CLOSE_SECONDS = 10.0
INTERRUPTED_CLOSE_SECONDS = 1.0

_HYDRA_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--multirun", "-m"), {"nargs": 0, "help": "several studies, one after another: -m seed=0,1,2"}),
    (("--cfg", "-c"), {"metavar": "job", "help": "print the composed config and run nothing"}),
    (("--resolve",), {"nargs": 0, "help": "with --cfg: resolve interpolations"}),
    (("--package", "-p"), {"metavar": "KEY", "help": "with --cfg: print only this part"}),
    (("--config-dir", "-cd"), {"metavar": "DIR", "help": "folder with your own YAML files"}),
    (("--config-name", "-cn"), {"help": argparse.SUPPRESS}),
    (("--config-path", "-cp"), {"help": argparse.SUPPRESS}),
    (("--info", "-i"), {"nargs": "?", "help": argparse.SUPPRESS}),
    (("--run", "-r"), {"nargs": 0, "help": argparse.SUPPRESS}),
    (("--experimental-rerun",), {"help": argparse.SUPPRESS}),
    (("--shell-completion", "-sc"), {"nargs": 0, "help": 'Tab completion: eval "$(hpo -sc install=bash)"'}),
    (("--hydra-help",), {"nargs": 0, "help": "help of Hydra, which composes the config"}),
)


class _PassToHydra(argparse.Action):
    """Collects options that Hydra handles, in the order given."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        value = [] if values is None or values == [] else [values]
        namespace.hydra_options = [*namespace.hydra_options, option, *value]


def add_hydra_arguments(parser: argparse.ArgumentParser) -> None:
    """Add overrides and the options that Hydra handles."""
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="GROUP=OPTION, KEY=VALUE or ~KEY")
    parser.set_defaults(hydra_options=[])
    for names, options in _HYDRA_OPTIONS:
        parser.add_argument(*names, action=_PassToHydra, dest=argparse.SUPPRESS, **options)


def add_force(parser: argparse.ArgumentParser) -> None:
    """Add ``--force-resume``."""
    text = "resume although something that defines the study has changed, and record what"
    parser.add_argument("--force-resume", action="store_true", help=text)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_hydra_arguments(parser)
    add_force(parser)


def _execute(parsed: argparse.Namespace) -> int:
    return run(parsed.hydra_options, parsed.overrides, parsed.force_resume)


COMMAND = Command(
    "run",
    "[OVERRIDE ...]",
    "run a study; also what runs if no command is named",
    "Runs a study: composes it from the config groups, searches until a limit is reached, scores the best model on the "
    "test split, and records everything in MLflow. With study=NAME of a study that was stopped it resumes that study.",
    _add_arguments,
    _execute,
    (
        ("python -m hpo", "a Bayesian search for a CNN on MNIST"),
        ("python -m hpo dataset=digits limits.n_trials=10", "the same on a small dataset, ten trials"),
        ("python -m hpo max_epochs=5 strategy/pruner=hyperband seed=1", "shorter trials, another pruner and seed"),
        (
            "python -m hpo search_space.learning_rate.high=1e-2 '~search_space.momentum'",
            "a narrower, smaller search space",
        ),
        ("python -m hpo -m dataset=digits strategy=optuna seed=0,1,2", "several studies, one after another"),
    ),
    lambda: (
        "python -m hpo --help lists the groups, python -m hpo help GROUP lists the options of one, and\n"
        "python -m hpo --cfg job shows every key with its value. KEY=VALUE changes a key, ~KEY removes it,\n"
        "and +KEY=VALUE adds it."
    ),
)


def run(options: Sequence[str], overrides: Sequence[str], is_forced: bool = False, is_brief: bool = False) -> int:
    """Run the studies of a command line and return the exit code.

    Args:
        options: options of Hydra.
        overrides: overrides of the config.
        is_forced: resume even if something that defines the study has changed.
        is_brief: print one line for each study.
    """
    return hydra_app.for_each_config(options, overrides, lambda conf: _run_study(conf, is_forced, is_brief))


def _run_study(conf: DictConfig, is_forced: bool, is_brief: bool) -> int:
    configs.check_shadowing()
    config = configs.plain(conf)
    configs.Definition.of(config)  # reports mistakes before the slow imports and before the store is asked

    from hpo.run import session
    from hpo.run.location import StoreLocation
    from hpo.run.lock import lock_study

    where = StoreLocation.of(config["tracking"])
    name = config["study"]
    if name is None:
        study, overrides = builder.build(conf)
        study = replace(study, name=session.reserve_name(where, study.name))
        with lock_study(where.folder(study.name), study.name):
            return _run_built(study, where, overrides, is_named=False, is_brief=is_brief)
    with lock_study(where.folder(name), name):
        tags = session.find_tags(where, name)
        study, overrides = builder.build(conf, tags)
        return _run_built(study, where, overrides, is_named=True, is_forced=is_forced, is_brief=is_brief)


def _run_built(
    study: Any, where: Any, overrides: list[str], is_named: bool, is_forced: bool = False, is_brief: bool = False
) -> int:
    from hpo.cli import live, results
    from hpo.run import session
    from hpo.run.result import StopCause
    from hpo.run.runner import Runner

    out = console()
    view = live.TerminalView(out, where.uri, is_brief)
    opened = session.open_session(study, where, recorded_overrides(overrides), is_named, is_forced, view.note)
    is_whole = False
    try:
        defining = defining_overrides(overrides)
        result = Runner(study, opened.tracker, view, defining, opened.recorded, opened.changes).run()
        is_whole = result.end is not StopCause.INTERRUPTED
    finally:
        view.close()
        is_delivered = opened.tracker.close(CLOSE_SECONDS if is_whole else INTERRUPTED_CLOSE_SECONDS)
        if opened.tracker.n_refused:
            out.print(results.refused_text(opened.tracker), highlight=False)
        if not is_delivered:
            out.print(results.undelivered_text(opened.tracker, store_arguments(overrides)), highlight=False)
    if is_brief:
        results.print_brief(out, result)
    else:
        results.print_result(out, result, where.uri, store_arguments(overrides))
    if result.end is StopCause.INTERRUPTED:
        return INTERRUPTED
    return OK if result.best is not None and result.end.status == "FINISHED" else FAILED
