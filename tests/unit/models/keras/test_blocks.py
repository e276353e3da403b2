import keras
import numpy as np
import pytest

from hpo.datasets.base import Column, DataSpec
from hpo.errors import ConfigError
from hpo.models.keras import blocks

NAN = float("nan")
TABLE = DataSpec((3,), 2, (Column("size"), Column("colour", ("red", "green", "blue")), Column("weight")))


def encoded(data: DataSpec, rows: list[list[float]], columns: list[int] | None = None) -> np.ndarray:
    inputs = keras.Input(data.input_shape)
    model = keras.Model(inputs, blocks.table(data, inputs, columns))
    normalization = [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)]
    for layer in normalization:
        layer.adapt(np.array([[0.0] * layer.input.shape[-1], [4.0] * layer.input.shape[-1]]))
    return np.asarray(model(np.array(rows, "float32")))


def test_table_standardises_numbers_and_one_hot_encodes_categories() -> None:
    rows = [[4.0, 0.0, 0.0], [0.0, 2.0, 2.0]]
    assert encoded(TABLE, rows).tolist() == [[1, -1, 1, 0, 0], [-1, 0, 0, 0, 1]]


def test_missing_number_is_the_mean_and_missing_category_is_all_zeros() -> None:
    assert encoded(TABLE, [[NAN, NAN, 4.0]]).tolist() == [[0, 1, 0, 0, 0]]


def test_table_takes_selected_columns_and_unnamed_columns_are_numbers() -> None:
    assert encoded(TABLE, [[4.0, 1.0, NAN]], [1]).tolist() == [[0, 1, 0]]
    assert encoded(TABLE, [[4.0, 1.0, NAN]], [1, 2]).tolist() == [[0, 0, 1, 0]]
    assert encoded(DataSpec((2,), 2), [[4.0, NAN]]).tolist() == [[1, 0]]


@pytest.mark.parametrize(("n_classes", "width"), [(2, 1), (3, 3)])
def test_output_of_classes_is_probabilities(n_classes: int, width: int) -> None:
    inputs = keras.Input((4,))
    found = np.asarray(keras.Model(inputs, blocks.output(inputs, DataSpec((4,), n_classes)))(np.ones((2, 4))))
    assert found.shape == (2, width)
    assert found.min() > 0
    assert width == 1 or np.allclose(found.sum(axis=1), 1)


def test_output_of_a_regression_is_in_the_unit_of_the_target() -> None:
    inputs = keras.Input((4,))
    data = DataSpec((4,), 0, target_mean=500.0, target_std=20.0)
    model = keras.Model(inputs, blocks.output(inputs, data))
    kernel = model.trainable_weights[0]
    assert np.asarray(model(np.zeros((1, 4)))).tolist() == [[500]]
    assert np.asarray(model(np.ones((1, 4)))).item() == pytest.approx(500 + 20 * float(np.sum(kernel.numpy())))


@pytest.mark.parametrize("name", blocks.OPTIMIZERS)
def test_optimizer_has_the_given_options(name: str) -> None:
    made = blocks.make_optimizer(name, 0.01, momentum=0.7, weight_decay=0.2, clip_norm=3.0)
    assert type(made).__name__.lower() == name
    assert float(keras.ops.convert_to_tensor(made.learning_rate)) == pytest.approx(0.01)
    assert made.global_clipnorm == 3.0
    assert getattr(made, "momentum", None) == {"sgd": 0.7, "rmsprop": 0.0}.get(name)
    assert made.weight_decay == (0.2 if name == "adamw" else None)
    assert blocks.make_optimizer(name, 0.01, clip_norm=0.0).global_clipnorm is None


def test_unknown_optimizer_or_loss_is_refused() -> None:
    with pytest.raises(ConfigError, match="adamw"):
        blocks.make_optimizer("adma", 0.01)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, blocks.output(inputs, DataSpec((4,), 0)))
    with pytest.raises(ConfigError, match="huber"):
        blocks.compiled(model, DataSpec((4,), 0), blocks.make_optimizer("sgd", 0.1), loss="hubre")


def test_gradients_are_clipped_by_their_global_norm() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile(blocks.make_optimizer("sgd", 1.0, momentum=0.0, clip_norm=0.5), "mse", jit_compile=False)
    before = np.concatenate([w.ravel() for w in model.get_weights()])
    model.train_on_batch(np.ones((8, 4)), np.full(8, 1e4))
    after = np.concatenate([w.ravel() for w in model.get_weights()])
    assert np.linalg.norm(after - before) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("loss", blocks.LOSSES)
def test_regression_loss_is_unit_free_but_metrics_are_not(loss: str) -> None:
    found = []
    for unit in (1.0, 1000.0):
        data = DataSpec((4,), 0, target_mean=3 * unit, target_std=2 * unit)
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4,))
        model = keras.Model(inputs, blocks.output(inputs, data))
        blocks.compiled(model, data, blocks.make_optimizer("sgd", 0.1), loss=loss)
        y = unit * np.array([1.0, 4.0, 12.0])
        found.append(model.evaluate(np.eye(3, 4), y, verbose=0, return_dict=True))
    assert found[1]["loss"] == pytest.approx(found[0]["loss"], rel=1e-4)
    assert found[1]["mae"] == pytest.approx(1000 * found[0]["mae"], rel=1e-4)
    assert found[1]["rmse"] == pytest.approx(1000 * found[0]["rmse"], rel=1e-4)


def test_losses_of_several_outputs_are_weighted() -> None:
    inputs = keras.Input((4,))
    data = DataSpec((4,), 2)
    model = keras.Model(inputs, [blocks.output(inputs, data, "main"), blocks.output(inputs, data, "aux")])
    blocks.compiled(model, data, blocks.make_optimizer("sgd", 0.1), output_weights=(0.75, 0.25))
    y = np.array([0, 1, 1])
    found = model.evaluate(np.eye(3, 4), [y, y], verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(0.75 * found["main_loss"] + 0.25 * found["aux_loss"], rel=1e-5)


@pytest.mark.parametrize("how", [{"shift": 0.3}, {"rotation": 0.2}, {"zoom": 0.4}, {"flip": True}])
def test_augmentation_acts_in_training_only(how: dict[str, float]) -> None:
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, blocks.augment(inputs, **how))
    images = np.random.default_rng(0).random((16, 8, 8, 1), "float32")
    assert np.array_equal(model(images, training=False), images)
    assert not np.allclose(model(images, training=True), images)
    assert blocks.augment(inputs) is inputs


def test_hidden_layers_have_the_sizes_and_options() -> None:
    inputs = keras.Input((4,))
    hidden = blocks.Hidden("tanh", "glorot_uniform", l1=0.0, l2=0.1, batch_norm=True, dropout=0.5)
    model = keras.Model(inputs, hidden(inputs, [3, 2]))
    kinds = [type(layer).__name__ for layer in model.layers[1:]]
    assert kinds == ["Dense", "BatchNormalization", "Activation", "Dropout"] * 2
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert [layer.units for layer in dense] == [3, 2]
    assert all(layer.kernel_regularizer is not None and layer.bias is None for layer in dense)
    assert blocks.Hidden("relu", "he_normal", 0.0, 0.0, False, 0.0)(inputs, []) is inputs


def test_images_are_scaled_to_0_to_1() -> None:
    inputs, x = blocks.images(DataSpec((2, 2, 1), 10))
    pixels = np.array([[[[0], [51]], [[102], [255]]]], "uint8")
    assert np.asarray(keras.Model(inputs, x)(pixels)).ravel() == pytest.approx([0, 0.2, 0.4, 1])
    with pytest.raises(ConfigError, match="images with classes"):
        blocks.images(DataSpec((4,), 10))
