"""Reading the studies of an experiment."""

from hpo.compare.load import count_test_scorings
from unit.compare.toy_comparison import record


def test_test_scorings_are_summed_by_data_digest() -> None:
    records = [
        record("a", data_digest="d2", n_tests="1"),
        record("b", "running", data_digest="d1", n_tests="2"),
        record("c", data_digest="d2", n_tests="3"),
        record("d", data_digest="d3"),
    ]
    assert count_test_scorings(records) == {"d1": 2, "d2": 4, "d3": 0}
