import keras
import numpy as np
import pytest

from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError
from hpo.models.keras.vocabulary import compute_ranks, look_up_ranks, make_vocabulary

TEXTS = DataSpec((4,), 2, n_words=8)


def test_ranks_follow_frequency_then_number() -> None:
    rows = np.array([[0, 5, 5, 5], [0, 3, 2, 2], [0, 0, 3, 7]])
    assert compute_ranks(rows, 8, max_words=3).tolist() == [0, 1, 3, 4, 1, 2, 1, 1]
    assert compute_ranks(rows, 8, max_words=100).tolist() == [0, 1, 3, 4, 1, 2, 1, 5]


def test_words_are_replaced_by_the_ranks_of_the_adapted_layer() -> None:
    inputs = keras.Input((4,), dtype="int32")
    model = keras.Model(inputs, look_up_ranks(TEXTS, inputs, 2))
    rows = np.array([[0, 5, 5, 3], [0, 0, 3, 5]], "int32")
    model.get_layer("vocabulary").adapt(rows)
    assert model.predict(np.array([[0, 5, 3, 6]], "int32"), verbose=0).tolist() == [[0, 2, 3, 1]]


@pytest.mark.parametrize(
    ("data", "max_words", "key"), [(DataSpec((4,), 2), 5, "dataset"), (TEXTS, 0, "model.max_words")]
)
def test_data_without_words_and_empty_vocabulary_are_refused(data: DataSpec, max_words: int, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_vocabulary(data, max_words)
    assert caught.value.key == key
