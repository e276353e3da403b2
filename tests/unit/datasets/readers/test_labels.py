import numpy as np
import pytest

from hpo.datasets.readers.labels import find_class_names, number_classes, require_rows_of_every_class
from hpo.errors import DatasetError


def test_class_names_are_in_numerical_or_alphabetical_order() -> None:
    assert find_class_names(["10", "9", "10", "9"], "label") == ["9", "10"]
    assert find_class_names(["b", "a", "10", "b", "a", "10"], "label") == ["10", "a", "b"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "", ""], "2 of them empty"),
        (["a", "a"], "always a"),
        (["0.5", "0.5", "1", "1"], "0.5"),
        (["a", "b", "c"], "that repeat"),
    ],
)
def test_labels_that_are_not_classes_are_refused(labels: list[str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        find_class_names(labels, "label")


def test_class_numbers_are_indices_and_unknown_labels_are_refused() -> None:
    assert number_classes(["b", "a", "b"], ["a", "b"], "path", "a.csv").tolist() == [1, 0, 1]
    with pytest.raises(DatasetError, match="'c'") as caught:
        number_classes(["c"], ["a", "b"], "test_path", "a.csv")
    assert caught.value.key == "dataset.test_path"


def test_rare_class_is_refused() -> None:
    y = np.array([0, 0, 0, 1])
    require_rows_of_every_class(y, ["a", "b"], "label", 1)
    with pytest.raises(DatasetError, match="1 rows of the class 'b'"):
        require_rows_of_every_class(y, ["a", "b"], "label", 2)
