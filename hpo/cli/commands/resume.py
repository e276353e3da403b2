"""``python -m hpo resume``: continues a study with the command line that started it."""

from __future__ import annotations

import argparse

from hpo.cli import hydra_app
from hpo.cli.command import Command, add_overrides, given
from hpo.cli.command_lines import is_override, is_tracking, key_of
from hpo.cli.commands import run
from hpo.errors import ConfigError


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", nargs="?", metavar="STUDY", help="its name; python -m hpo list shows the names")
    add_overrides(parser, "changes of limits, executor or tracking")
    run.add_force(parser)


def _execute(parsed: argparse.Namespace) -> int:
    arguments = [parsed.study, *parsed.overrides] if parsed.study else []
    names = [argument for argument in arguments if not is_override(argument)]
    overrides = [argument for argument in arguments if is_override(argument)]
    if len(names) != 1:
        expected = "the name of one study, and overrides"
        raise ConfigError("resume", given(arguments), expected, "python -m hpo resume STUDY")
    from hpo.run.location import StoreLocation
    from hpo.run.study_file import saved_overrides

    tracking = hydra_app.compose([o for o in overrides if is_tracking(o)], parsed.config_dir)["tracking"]
    changed = {key_of(override) for override in overrides}
    saved = saved_overrides(StoreLocation.of(tracking), names[0])
    kept = [override for override in saved if key_of(override) not in changed]
    options = [override for override in kept if override.startswith("-")]
    if parsed.config_dir:
        options = [f"--config-dir={parsed.config_dir}"]
    before = [override for override in kept if not override.startswith("-")]
    return run.run(options, [*before, *overrides, f"study={names[0]}"], parsed.force_resume)


COMMAND = Command(
    "resume",
    "STUDY [OVERRIDE ...] [--force-resume]",
    "continue a study that was stopped, or one that has finished with a higher limit",
    "Continues a study that was stopped or, with a higher limit, one that has finished. Finished trials are not "
    "trained again; a trial that was running is. Overrides may change limits, executor and tracking. A change of "
    "anything that defines the study, such as the version of a library, is refused with a list of the differences; "
    "--force-resume continues all the same and records that list.",
    _add_arguments,
    _execute,
    (
        ("python -m hpo resume mnist_cnn-digits-optuna", "continue after an interruption"),
        ("python -m hpo resume mnist_cnn-digits-optuna limits.n_trials=100", "more trials"),
    ),
)
