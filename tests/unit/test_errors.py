import pickle

from hpo.errors import ConfigError, HpoError, InputError, SearchStopped, StudyFailed


def test_a_message_names_key_value_expectation_and_fix() -> None:
    text = str(ConfigError("limits.n_trials", 0, "at least 1", "limits.n_trials=20"))
    for part in ("limits.n_trials", "0", "at least 1", "limits.n_trials=20"):
        assert part in text


def test_errors_survive_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ConfigError("a.b", 3, "less", "a.b=2")))  # noqa: S301 our own bytes
    assert isinstance(error, ConfigError)
    assert (error.key, error.value, error.expected, error.fix) == ("a.b", 3, "less", "a.b=2")


def test_the_end_of_a_search_is_no_exception_that_a_library_would_swallow() -> None:
    assert not issubclass(SearchStopped, Exception)
    assert issubclass(InputError, HpoError)
    assert issubclass(StudyFailed, HpoError)
