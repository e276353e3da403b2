"""The help texts that span commands: ``python -m hpo --help``, and the options of a config group."""

from __future__ import annotations

import textwrap

from hpo import config as configs
from hpo.cli import commands
from hpo.cli.command import WIDTH

GROUPS = (*configs.GROUPS, "strategy/pruner")
"""Config groups of a study."""
TOPICS = (*commands.NAMES, *GROUPS, "comparison")
"""Everything that ``python -m hpo help`` explains."""
_EXAMPLES = (
    "python -m hpo dataset=digits limits.n_trials=10",
    "python -m hpo model=svm strategy=random resampling=stratified_kfold",
    "python -m hpo search_space.learning_rate.high=1e-2 '~search_space.momentum' seed=1",
)


def overview() -> str:
    """Return what ``python -m hpo --help`` prints: at most 40 lines of 100 columns."""
    named = [commands.load(name) for name in commands.NAMES]
    lines = [
        "usage: python -m hpo [run] [GROUP=OPTION ...] [KEY=VALUE ...]",
        "       python -m hpo COMMAND [ARGUMENT ...]",
        "",
        "Searches for good hyperparameters with the library you name, and records every trial in MLflow.",
        "",
        "commands:",
        *(f"  {command.name:<12}{command.summary}" for command in named),
        "",
        "groups (GROUP=OPTION chooses one option of each):",
        *(f"  {group:<17}{_count(group)}" for group in GROUPS),
        "",
        "keys (KEY=VALUE changes a value), such as:",
        "  seed, max_epochs, limits.n_trials, limits.timeout_seconds, objective.metric, enqueue, study",
        "",
        "examples:",
        *(f"  {example}" for example in _EXAMPLES),
        "",
        "more:",
        "  python -m hpo help GROUP      options of a group         python -m hpo help COMMAND   a command",
        "  python -m hpo --cfg job       every key and its value    python -m hpo --version      the version",
    ]
    return "\n".join(lines)


def _count(group: str) -> str:
    names = configs.options(group)
    head = f"{len(names):>2} options: "
    return head + textwrap.shorten(", ".join(names), WIDTH - 19 - len(head), placeholder=" …")


def option_lines(group: str) -> list[str]:
    """Return a line for each option of a config group, with its description."""
    options = configs.options(group)
    width = max(map(len, options)) + 4
    lines = []
    for name, description in options.items():
        text = f"  {name}".ljust(width) + description
        lines += textwrap.wrap(text, WIDTH, subsequent_indent=" " * width, break_on_hyphens=False)
    return lines


def group_help(group: str) -> str:
    """Return the options of a config group with their descriptions, and how to choose one."""
    if group == "comparison":
        how = "Run one with: python -m hpo compare comparison=NAME"
    else:
        how = f"Choose one with {group}=NAME. The keys of an option:\n  python -m hpo --cfg job {group}=NAME"
    return "\n".join([f"{group}: {len(configs.options(group))} options", "", *option_lines(group), "", how])
