"""``python -m hpo``: runs a study unless the first word is another command.

Start-up imports Hydra and nothing heavier, so that help and config errors answer at once.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import hpo
from hpo import config as configs
from hpo.cli import commands
from hpo.cli.commands import BAD_INPUT, FAILED, INTERRUPTED, OK, console
from hpo.core.process import prepare_process
from hpo.errors import ConfigError, HpoError, InputError, StudyFailed, redact
from hpo.tracking.schema import Tag

FORCE = "--force-resume"
_WITH_VALUE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--cfg", "-c", "--package", "-p")
# How long a finished study waits for MLflow to take its last records.
CLOSE_SECONDS = 10.0
_RESUME_HELP = """usage: python -m hpo resume STUDY [OVERRIDE ...] [--force-resume]

Goes on with a study that was stopped or, with a higher limit, with one that has finished. Finished trials are not
trained again; one that was running is. Overrides may change limits, executor and tracking; --force-resume goes on even
where something else has changed, such as the version of a library, and records what."""

_EXAMPLES = (
    ("python -m hpo", "a Bayesian search for a CNN on MNIST"),
    ("python -m hpo dataset=digits limits.n_trials=10", "the same on a small dataset, ten trials"),
    ("python -m hpo max_epochs=5 strategy/pruner=hyperband seed=1", "shorter trials, another pruner, another seed"),
    ("python -m hpo search_space.learning_rate.high=1e-2 '~search_space.momentum'", "a narrower, smaller search space"),
    ("python -m hpo -m dataset=digits strategy=optuna seed=0,1,2", "several studies, one after another"),
)
_COMMANDS_HELP = (
    ("plan [OVERRIDE ...]", "what a study would do: space, trials, folds, fits, rungs; no training"),
    ("strategies", "the ways of searching: library, what each can do, when to use it"),
    ("resume STUDY [OVERRIDE ...]", "go on with a study that was stopped; limits may be raised"),
    ("compare WORD=… [OVERRIDE ...]", "run studies that differ in one thing, and say which is better"),
    ("trials STUDY", "its trials: early stopping, what it saved, over- and under-fitting"),
    ("sync", "deliver the records that MLflow could not take"),
    ("list", "the studies of a store"),
    ("best STUDY", "its best params, as a command that trains them again"),
    ("new FOLDER", "a folder with a model, data and a test of your own to begin from"),
    ("ui", "the MLflow UI on this machine, on the right store"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Set by us so that Hydra raises instead of printing; set by the user, it also shows tracebacks.
    wanted = os.environ.get("HYDRA_FULL_ERROR")
    wants_traceback = wanted == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    prepare_process()
    try:
        return _dispatch(arguments)
    except (InputError, StudyFailed) as error:
        if wants_traceback:
            traceback.print_exc()
        print(f"error: {redact(str(error))}", file=sys.stderr)
        return BAD_INPUT if isinstance(error, InputError) else FAILED
    except (HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            traceback.print_exc()
        print(f"error: {redact(str(configs.explain(error, arguments)))}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception:  # a fault of ours, which is reported without the secrets that a traceback may hold
        print(redact(traceback.format_exc()), file=sys.stderr, end="")
        return FAILED
    finally:
        if wanted is None:
            del os.environ["HYDRA_FULL_ERROR"]


def _dispatch(arguments: list[str]) -> int:
    known: dict[str, Callable[[list[str]], int]] = {
        "run": _run,
        "plan": lambda rest: _run(rest, _plan_study),
        "resume": _resume,
        "compare": _compare,
        "trials": commands.trials,
        "sync": commands.sync,
        "strategies": commands.strategies,
        "new": commands.new,
        "list": commands.list_studies,
        "best": commands.best,
        "ui": commands.ui,
    }
    first = arguments[0] if arguments else ""
    if first == "run" and {"-h", "--help"} & set(arguments):
        arguments = arguments[1:]
        first = "--help"
    if first in known:
        return known[first](arguments[1:])
    if {"-h", "--help", "help"} & set(arguments):
        print(help_text())
        return OK
    if first == "--version":
        print(f"hpo {hpo.__version__}")
        return OK
    if re.fullmatch(r"[A-Za-z][\w-]*", first):
        near = difflib.get_close_matches(first, known, 1)
        raise ConfigError(
            "command",
            first,
            f"one of {', '.join(known)}, or overrides such as strategy=optuna",
            f"python -m hpo {near[0] if near else '--help'}",
        )
    return _run(arguments)


def help_text() -> str:
    """What ``--help`` prints."""
    lines = [
        "hpo searches for good hyperparameters with the library you name, and records every trial in MLflow.",
        "",
        "usage: python -m hpo [run] [OVERRIDE ...]    run a study, built from the groups below",
        *(f"       python -m hpo {command:<28} {text}" for command, text in _COMMANDS_HELP),
        "",
        "groups, chosen with GROUP=OPTION:",
    ]
    for group in (*configs.GROUPS, "strategy/pruner"):
        for i, (name, description) in enumerate(configs.options(group).items()):
            lines.append(f"  {group if i == 0 else '':<16}{name:<28}{description}")
    lines += [
        "",
        "every other key is overridden with KEY=VALUE; --cfg job shows them all with their values:",
        "  seed, max_epochs, limits.n_trials, limits.timeout_seconds, objective.metric, early_stopping.patience, …",
        "",
        "examples:",
        *(f"  {command}\n      {text}" for command, text in _EXAMPLES),
        "",
        "more: --cfg job (show the config), --config-dir DIR (your own YAML), -m (several studies),",
        '      eval "$(hpo -sc install=bash)" (Tab completes keys of the command hpo), --hydra-help, --version',
    ]
    return "\n".join(lines)


# A study.


def _run(arguments: list[str], act: Callable[[DictConfig], int] | None = None) -> int:
    """Have Hydra compose one config or, with ``-m``, several, and act on each: run it unless told otherwise."""
    configs.register()
    codes: list[int] = []
    is_forced = FORCE in arguments
    arguments = _options_first([argument for argument in arguments if argument != FORCE])
    _check_launcher(arguments)

    has_composed = False

    def job(conf: DictConfig) -> None:
        nonlocal has_composed
        has_composed = True
        try:
            codes.append(act(conf) if act else _run_study(conf, is_forced))
        except HpoError as error:
            raise _Refused(error) from error
        except OmegaConfBaseException as error:
            raise _Refused(configs.explain(error, arguments)) from error
        if codes[-1] == INTERRUPTED:
            raise KeyboardInterrupt

    if not any(a.startswith("-") and a.partition("=")[0] not in ("--config-dir", "-cd") for a in arguments):
        arguments = ["--run", *arguments]  # else Hydra composes everything twice, to learn the mode from the config
    before = sys.argv
    sys.argv = [before[0], *arguments]
    sweep_dir = tempfile.TemporaryDirectory(prefix="hpo-")
    os.environ["HPO_SWEEP_DIR"] = sweep_dir.name
    try:
        with warnings.catch_warnings():
            # A user's file with the name of a shipped one, which check_shadowing refuses.
            warnings.filterwarnings("ignore", r"\s*'.*' is validated against ConfigStore schema")
            hydra.main(config_path=str(configs.resource_dir("conf")), config_name="config", version_base="1.3")(job)()
    except _Refused as refused:
        raise refused.error from refused.error.__cause__
    except Exception as error:
        if has_composed:
            raise
        raise configs.explain(error, arguments) from error  # Hydra raises more than its own errors
    finally:
        sys.argv = before
        sweep_dir.cleanup()
    return max(codes, default=OK)


def _check_launcher(arguments: list[str]) -> None:
    """Refuse launchers that run jobs elsewhere: exit codes are lost there, and workers cannot be started."""
    for argument in arguments:
        key, _, launcher = argument.partition("=")
        if key == "hydra/launcher" and launcher != "basic":
            expected = "basic, one study after another; several at once are several commands, which one store may serve"
            raise ConfigError(key, launcher, expected, "xargs -P, as docs/operations.md shows")


def _options_first(arguments: list[str]) -> list[str]:
    """Options before overrides, since Hydra's parser refuses overrides on both sides of an option."""
    options: list[str] = []
    overrides: list[str] = []
    for place, argument in enumerate(arguments):
        is_value = place > 0 and arguments[place - 1] in _WITH_VALUE
        (options if argument.startswith("-") or is_value else overrides).append(argument)
    return [*options, *overrides]


class _Refused(BaseException):
    """Carries an error out of Hydra, which would print a line of its own about any ``Exception``."""

    def __init__(self, error: HpoError) -> None:
        self.error = error


def _run_study(conf: DictConfig, is_forced: bool = False, is_brief: bool = False) -> int:
    configs.check_shadowing()
    config = configs.plain(conf)
    configs.Definition.of(config)  # else a mistake would be told of only after the imports, or the store's answer

    from hpo.run import session
    from hpo.run.location import StoreLocation
    from hpo.run.lock import lock_study

    where = StoreLocation.of(config["tracking"])
    name = config["study"]
    if name is None:
        study, overrides = _build(conf)
        study = replace(study, name=session.reserve_name(where, study.name))
        with lock_study(where.folder(study.name), study.name):
            return _run_built(study, where, overrides, is_named=False, is_brief=is_brief)
    with lock_study(where.folder(name), name):
        known = session.find_tags(where, name)
        study, overrides = _build(conf, known)
        return _run_built(study, where, overrides, is_named=True, is_forced=is_forced, is_brief=is_brief)


def _plan_study(conf: DictConfig) -> int:
    study, _ = _build(conf)
    from hpo.cli import terminal

    terminal.print_plan(console(), study)
    return OK


def _build(conf: DictConfig, known: Mapping[str, str] | None = None) -> tuple[Any, list[str]]:
    """The study of a composed config, and the overrides that define it.

    Args:
        known: the tags of a study that goes on: its threads a trial hold, whatever the number of workers is now.
    """
    configs.check_shadowing()
    threads = None if configs.is_given("executor.threads_per_trial") else (known or {}).get(Tag.THREADS_PER_TRIAL)

    from hpo.datasets.base import DatasetUnavailable
    from hpo.study import build as studies
    from hpo.study.study import ChosenOptions

    overrides = [*configs.config_dirs(), *HydraConfig.get().overrides.task]
    chosen = {group: configs.chosen(group) for group in ("model", "dataset", "strategy", "resampling")}
    names = ChosenOptions(**chosen, choices=configs.choices())

    def built(conf: DictConfig, names: Any, note: str | None = None) -> Any:
        if threads is not None:
            conf = configs.with_value(conf, "executor.threads_per_trial", int(threads))
        config = configs.plain(conf)
        definition = configs.Definition.of(config)
        return studies.build_study(config, definition, names, note, configs.for_the_record(conf), known)

    try:
        return built(conf, names), overrides
    except DatasetUnavailable as error:
        fallback = conf["dataset"].get("fallback")
        if fallback is None or configs.is_explicit("dataset"):
            raise
        note = f"{names.dataset} is {error.value}; training on {fallback} instead"
        names = replace(names, dataset=fallback, choices={**names.choices, "dataset": fallback})
        return built(configs.with_option("dataset", fallback), names, note), [*overrides, f"dataset={fallback}"]


def _run_built(
    study: Any, where: Any, overrides: list[str], is_named: bool, is_forced: bool = False, is_brief: bool = False
) -> int:
    from hpo.cli import live, terminal
    from hpo.run import session
    from hpo.run.result import StopCause
    from hpo.run.runner import Runner

    out = console()
    view = live.TerminalView(out, where.uri, is_brief)
    kept = [o for o in overrides if o.lstrip("+~").split("=")[0] != "study" and redact(o) == o]
    opened = session.open_session(study, where, kept, is_named, is_forced, view.note)
    is_whole = False
    try:
        defining = _reproducible(overrides)
        result = Runner(study, opened.tracker, view, defining, opened.recorded, opened.changes).run()
        is_whole = result.end is not StopCause.INTERRUPTED
    finally:
        view.close()
        is_delivered = opened.tracker.close(CLOSE_SECONDS if is_whole else 1.0)
        if opened.tracker.n_refused:
            out.print(terminal.refused_text(opened.tracker), highlight=False)
        if not is_delivered:
            out.print(terminal.undelivered_text(opened.tracker, _tracking_overrides(overrides)), highlight=False)
    if is_brief:
        terminal.print_brief(out, result)
    else:
        terminal.print_result(out, result, where.uri, _tracking_overrides(overrides))
    if result.end is StopCause.INTERRUPTED:
        return INTERRUPTED
    return OK if result.best is not None and result.end.status == "FINISHED" else FAILED


def _resume(arguments: list[str]) -> int:
    """Go on with a study by the command line that began it, which is remembered beside its outbox."""
    flags = [a for a in arguments if a.startswith("-") and a.partition("=")[0] not in ("--config-dir", FORCE)]
    if {"-h", "--help"} & set(flags):
        print(_RESUME_HELP)
        return OK
    words = [a for a in arguments if not a.startswith("-") and "=" not in a and not a.startswith("~")]
    if flags or len(words) != 1:
        given = " ".join(arguments) or "nothing"
        raise ConfigError("resume", given, "the name of one study, and overrides", "python -m hpo resume STUDY")
    (name,) = words
    overrides = [argument for argument in arguments if argument != name]
    from hpo.run.location import StoreLocation
    from hpo.run.study_file import saved_overrides

    of_tracking = [o for o in overrides if o.lstrip("+").startswith("tracking")]
    where = StoreLocation.of(commands.tracking_config(commands.parse("resume", "", of_tracking)))
    named = {_key(override) for override in overrides}
    before = [override for override in saved_overrides(where, name) if _key(override) not in named]
    return _run([*before, *overrides, f"study={name}"])


_COMPARE_HELP = """usage: python -m hpo compare strategies=[A,B,…] [seeds=5] [OVERRIDE ...]
       python -m hpo compare comparison=NAME [OVERRIDE ...]
       python -m hpo compare by=KEY levels=[A,B,…] [seeds=5] [OVERRIDE ...]
       python -m hpo compare strategies=[A,B,…] tasks=[X,Y,…] [over=dataset] [OVERRIDE ...]
       python -m hpo compare experiment=NAME [by=KEY]

Runs the studies that have not finished, a study a level and seed, and compares the test scores of their winners, paired
by seed; with experiment=… it runs nothing and compares what is there, also on somebody else's server (tracking.uri=…).

words:
  strategies   the strategies to compare; short for by=strategy levels=…
  by, levels   any config group or key, and its values: by=model.dropout levels=[0.0,0.5] '~search_space.dropout'
  comparison   a named comparison, listed below; what the command line says wins
  seeds        how many, or a list; each is a study of every level
  tasks, over  compare on every one of these datasets (or values of another key), and rank the levels over all of them
  min_effect   the smallest difference of the test metric that matters (0.01 for accuracies unless given)
  max_seeds    the most seeds that will be run, if you plan interim analyses of fewer seeds
  alpha        error probability of all interim analyses and pairs together (0.05)
  name         of the comparison and its studies

comparisons:
"""


def _compare(arguments: list[str]) -> int:
    """Run what is missing of a comparison, and report."""
    if {"-h", "--help"} & set(arguments):
        print(
            _COMPARE_HELP + "".join(f"  {n:<18} {text}\n" for n, text in configs.options("comparison").items()), end=""
        )
        return OK
    from hpo.compare import spec

    wanted = spec.parse(arguments)
    of_tracking = [o for o in wanted.overrides if o.lstrip("+").startswith("tracking") or o.startswith("--config-dir")]
    where = commands.tracking_config(commands.parse("compare", "", of_tracking))
    if wanted.experiment is not None:
        if rest := [o for o in wanted.overrides if o not in of_tracking]:
            raise ConfigError("compare", rest[0], "no overrides of studies, since it runs none", f"leave {rest[0]} out")
        where["experiment"] = str(wanted.experiment)
        from hpo.compare import command

        client, experiment_id = commands.open_existing(where)
        command.compare_studies(wanted, client, experiment_id, Path(where["output_path"]), console(), False, arguments)
        return OK
    planned = [plan_levels(part) for part in wanted.by_task]  # before any of them trains

    from hpo.compare import command
    from hpo.tracking.reader import list_studies
    from hpo.tracking.store import open_store

    store = (where["uri"], where["experiment"], Path(where["output_path"]))
    client, experiment_id = open_store(*store)
    records = list_studies(client, experiment_id)
    parts = list(zip(wanted.by_task, planned, strict=True))
    finished = [command.find_finished(part, client, records, plan) for part, plan in parts]
    made = []
    for part, done in zip(wanted.by_task, finished, strict=True):
        command.run_missing(part, done, lambda line: _run(line, _run_briefly), console())
        made.append(command.compare_studies(part, client, experiment_id, store[2], console(), True, arguments))
    if wanted.tasks:
        command.rank_over_tasks(wanted, made, store[2], console(), arguments)
    return FAILED if any(each.missing for each in made) else OK


def plan_levels(wanted: Any) -> dict[str, Any]:
    """Build a study of every level of a comparison, and check that they could be compared.

    Raises:
        ConfigError: when they could not.
    """
    from hpo.compare import eligibility

    planned: dict[str, Any] = {}
    for level in wanted.levels:

        def plan(conf: DictConfig, level: str = level) -> int:
            planned[level] = eligibility.PlannedStudy.of(_build(conf)[0])
            return OK

        _run(wanted.command(level, wanted.seeds[0]), plan)
    eligibility.check_levels(wanted.by, planned)
    return planned


def _run_briefly(conf: DictConfig) -> int:
    return _run_study(conf, is_brief=True)


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _reproducible(overrides: list[str]) -> list[str]:
    """The overrides that define a study: not its name and not its store, which may hold a password."""
    return [o for o in overrides if o.lstrip("+~").split("=")[0].split(".")[0] not in ("study", "tracking", "hydra")]


def _tracking_overrides(overrides: list[str]) -> str:
    """What the commands after a study need to find its store again."""
    kept = [o for o in overrides if o.startswith("--config-dir=")]
    kept += [o for o in overrides if o.lstrip("+").startswith("tracking") and redact(o) == o]
    return "".join(f" {shlex.quote(o)}" for o in kept)
