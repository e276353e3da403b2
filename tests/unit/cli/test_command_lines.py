import shlex

from hydra.core.override_parser.overrides_parser import OverridesParser

from hpo.cli.command_lines import best_command, defining_overrides, recorded_overrides, store_arguments


def test_best_command_values_survive_hydra_parsing() -> None:
    params = {"a": 1, "b": 1e-05, "c": "relu", "d": True, "e": None, "f": "it's two", "g": "True", "h": 0.1 + 0.2}
    overrides = [
        "seed=3",
        "model.a=9",
        "dataset=digits",
        "strategy=grid",
        "strategy.oversize=shuffle",
        "limits.n_trials=9",
    ]
    command = best_command([*overrides, "strategy/pruner=median", "enqueue=[]"], params)
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "hpo"]
    assert words[3:6] == ["seed=3", "model.a=9", "dataset=digits"]
    parsed = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(words[3:])}
    assert (parsed["strategy"], parsed["strategy/pruner"], parsed["limits.n_trials"]) == ("optuna", "none", 1)
    (read,) = parsed["enqueue"]
    assert {name: str(value) if name in ("f", "g") else value for name, value in read.items()} == params


def test_options_of_best_command_replace_recorded_overrides() -> None:
    words = shlex.split(best_command(["seed=3", "max_epochs=5"], {"a": 1}, {"a": 2}, options=["max_epochs=50"]))
    assert words[3:5] == ["seed=3", "max_epochs=50"]
    assert "limits.n_trials=2" in words


OVERRIDES = ["--config-dir=conf", "model=svm", "study=mine", "tracking.uri=http://alice:secret@host", "+tracking.x=1"]


def test_recorded_overrides_have_no_name_and_no_password() -> None:
    assert recorded_overrides(OVERRIDES) == ["--config-dir=conf", "model=svm", "+tracking.x=1"]


def test_defining_overrides_have_no_store() -> None:
    assert defining_overrides(OVERRIDES) == ["--config-dir=conf", "model=svm"]


def test_store_arguments_are_quoted_and_have_no_password() -> None:
    assert store_arguments([*OVERRIDES, "tracking.experiment=my own"]) == (
        " --config-dir=conf +tracking.x=1 'tracking.experiment=my own'"
    )
