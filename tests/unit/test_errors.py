import pickle

import pytest

from hpo.errors import ConfigError, HpoError, InputError, SearchStopped, StudyFailed, first_line, hide, one_line, redact


def test_message_has_key_value_expectation_and_fix() -> None:
    text = str(ConfigError("limits.n_trials", 0, "at least 1", "limits.n_trials=20"))
    for part in ("limits.n_trials", "0", "at least 1", "limits.n_trials=20"):
        assert part in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:pa/ss@word@h/db", "postgresql://u:***@h/db"),
        ("error at http://u:secret@h:5000 again", "error at http://u:***@h:5000 again"),
        ("postgresql://h/db?user=u&password=secret&x=1", "postgresql://h/db?user=u&password=***&x=1"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:///hpo_runs/mlflow.db", "sqlite:///hpo_runs/mlflow.db"),
    ],
)
def test_passwords_in_addresses_are_redacted(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_secret_variables_and_hidden_values_are_redacted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct-horse")
    monkeypatch.setenv("SOME_API_KEY", "battery")
    monkeypatch.setenv("SHORT_TOKEN", "on")
    monkeypatch.setenv("HARMLESS", "visible")
    hide("from-config")
    hide("no")
    text = "correct-horse battery on visible from-config no"
    assert redact(text) == "*** *** on visible *** no"


def test_errors_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(ConfigError("a.b", 3, "less", "a.b=2")))  # noqa: S301 our own bytes
    assert isinstance(error, ConfigError)
    assert (error.key, error.value, error.expected, error.fix) == ("a.b", 3, "less", "a.b=2")


def test_search_stopped_is_not_an_exception() -> None:
    assert not issubclass(SearchStopped, Exception)
    assert issubclass(InputError, HpoError)
    assert issubclass(StudyFailed, HpoError)


def test_errors_are_shortened_to_one_line_without_secrets() -> None:
    error = ValueError("\n  first at http://u:secret@h\nsecond")
    assert first_line(error) == "first at http://u:***@h"
    assert one_line(error) == "ValueError: first at http://u:***@h"
    assert (first_line(KeyError()), one_line(KeyError())) == ("KeyError", "KeyError: no message")
    assert len(first_line(ValueError("x" * 500), n_characters=20)) == 20
