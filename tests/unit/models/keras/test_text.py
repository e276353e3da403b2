from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from hpo.core.early_stopping import EarlyStopping
from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError
from hpo.models.base import Fit, FitLog, FitPlan, FoldData, Undisturbed
from hpo.models.keras import blocks, text, vocabulary
from hpo.models.keras.model import KerasModel

# Keeps the weights of the last epoch.
KEEPS_LAST = EarlyStopping(patience=None, restore_best_weights=False)

N_WORDS, LENGTH = 30, 8
SPEC = DataSpec((LENGTH,), 2, n_words=N_WORDS)


def texts(n: int, seed: int) -> np.ndarray:
    """Rows with repeated, rare and no words, with leading padding."""
    made = np.random.default_rng(seed)
    x = (made.pareto(1.0, (n, LENGTH)) * 3).astype("int32").clip(1, N_WORDS - 1)
    x[np.arange(LENGTH) < made.integers(0, LENGTH + 1, n)[:, None]] = 0
    return x


def fit(build: Any, fold: FoldData, **params: Any) -> Any:
    return KerasModel(build, batch_size=16, **params).fit(
        Fit({}, SPEC, fold, FitPlan(2, 3, KEEPS_LAST), FitLog(2), Undisturbed())
    )


@pytest.mark.parametrize("max_words", [5, 100])
def test_bag_of_words_equals_a_dense_layer_over_multi_hot_rows(max_words: int) -> None:
    x = texts(50, 0)
    inputs = keras.Input((LENGTH,), dtype="int32")
    kernel = layers.Embedding(max_words + vocabulary.N_RESERVED, 4, embeddings_initializer="glorot_uniform")
    ranks, weights = text.mark_distinct(vocabulary.look_up_ranks(SPEC, inputs, max_words))
    model = keras.Model(inputs, text.sum_words(ranks, weights, kernel))
    model.get_layer("vocabulary").adapt(x)
    bias = np.array([[0.5, -1.0, 2.0, 0.0]])
    model.get_layer("bias").set_weights([bias])

    of_word = vocabulary.compute_ranks(x, N_WORDS, max_words).astype(int)
    multi_hot = np.zeros((len(x), max_words), "float32")
    for row, words in enumerate(x):
        for word in words:
            if of_word[word] >= vocabulary.N_RESERVED:
                multi_hot[row, of_word[word] - vocabulary.N_RESERVED] = 1
    assert multi_hot.any(axis=1).sum() < len(x)  # there is a text without a known word
    assert (multi_hot.sum(axis=1) < (x > 0).sum(axis=1)).any()
    dense = layers.Dense(4)
    dense.build((None, max_words))
    dense.set_weights([kernel.get_weights()[0][vocabulary.N_RESERVED :], bias[0]])
    expected = ops.convert_to_numpy(dense(multi_hot))
    assert np.allclose(model.predict(x, verbose=0), expected, atol=1e-5)


@pytest.mark.parametrize(("build", "options"), [(text.text_bow_mlp, {}), (text.text_rnn, {"units": 4})])
def test_vocabulary_depends_on_training_rows_only(build: Any, options: dict[str, Any]) -> None:
    x, y = texts(64, 1), np.arange(64) % 2
    probes = texts(40, 2)
    watched, others = texts(32, 3), np.full((32, LENGTH), N_WORDS - 1, "int32")
    first, second = (
        fit(build, FoldData(x, y, seen, np.arange(32) % 2), max_words=6, **options).predict(probes)
        for seen in (watched, others)
    )
    assert np.array_equal(first, second)
    changed = x.copy()
    changed[:32] = N_WORDS - 1
    third = fit(build, FoldData(changed, y, watched, np.arange(32) % 2), max_words=6, **options).predict(probes)
    assert not np.array_equal(first, third)


def test_bag_of_words_ignores_order_and_repetition() -> None:
    x, y = texts(64, 1), np.arange(64) % 2
    fitted = fit(text.text_bow_mlp, FoldData(x, y, None, None))
    same = np.array([[0, 0, 0, 1, 2, 3, 3, 3], [0, 3, 2, 2, 0, 1, 1, 3]], "int32")
    one, two = fitted.predict(same)
    assert one == pytest.approx(two, abs=1e-6)


@pytest.mark.parametrize("cell", list(blocks.RECURRENT_LAYERS))
@pytest.mark.parametrize("bidirectional", [False, True])
def test_masked_padding_does_not_change_predictions(cell: str, bidirectional: bool) -> None:
    keras.utils.set_random_seed(0)
    options = {"cell": cell, "bidirectional": bidirectional, "units": 3}
    model = text.text_rnn(SPEC, **options)
    model.get_layer("vocabulary").adapt(texts(50, 1))
    longer = text.text_rnn(DataSpec((LENGTH + 4,), 2, n_words=N_WORDS), **options)
    longer.set_weights(model.get_weights())
    x = texts(10, 0)
    wide = np.pad(x, ((0, 0), (4, 0)))
    assert np.allclose(model.predict(x, verbose=0), longer.predict(wide, verbose=0), atol=1e-6)
    without = text.text_rnn(SPEC, mask=False, **options)
    without.set_weights(model.get_weights())
    assert not np.allclose(model.predict(x, verbose=0), without.predict(x, verbose=0), atol=1e-6)


@pytest.mark.parametrize("build", [text.text_bow_mlp, text.text_rnn])
def test_several_classes_and_all_regularisation_options_train(build: Any) -> None:
    spec = DataSpec((LENGTH,), 3, n_words=N_WORDS)
    options: dict[str, Any] = {"l1": 1e-4, "l2": 1e-4, "dropout": 0.2, "optimizer": "adamw", "clip_norm": 1.0}
    if build is text.text_bow_mlp:
        options |= {"batch_norm": True, "word_dropout": 0.3, "n_layers": 3}
    model = build(spec, weight_decay=1e-3, **options)
    assert model.losses
    history = model.fit(texts(32, 0), np.arange(32) % 3, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert model.predict(texts(5, 1), verbose=0).shape == (5, 3)


@pytest.mark.parametrize("build", [text.text_bow_mlp, text.text_rnn])
def test_unsuitable_data_or_option_is_refused(build: Any) -> None:
    with pytest.raises(ConfigError, match="word numbers"):
        build(DataSpec((LENGTH,), 2))
    with pytest.raises(ConfigError, match="max_words"):
        build(SPEC, max_words=0)
    with pytest.raises(ConfigError, match=r"model\.cell"):
        text.text_rnn(SPEC, cell="transformer")
