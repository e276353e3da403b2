import keras
import pytest

from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError
from hpo.models.keras import mlp

IMAGES, TEXTS = DataSpec((8, 8, 1), 10), DataSpec((20,), 2, n_words=50)
CLASSES, VALUES = DataSpec((4,), 2), DataSpec((4,), 0)


def units(model: keras.Model) -> list[int]:
    return [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)]


@pytest.mark.parametrize(
    ("build", "data", "message"),
    [
        (mlp.classify_table, VALUES, "mlp_regressor"),
        (mlp.classify_table, IMAGES, "rows of a table"),
        (mlp.classify_table, TEXTS, "rows of a table"),
        (mlp.regress_table, CLASSES, "binary_mlp"),
        (mlp.regress_table, DataSpec((8, 1), 0), "rows of a table"),
        (mlp.classify_images, CLASSES, "images with classes"),
        (mlp.classify_images, DataSpec((8, 8, 1), 0), "images with classes"),
    ],
)
def test_unsuitable_data_is_refused(build: object, data: DataSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build(data)  # type: ignore[operator]
    assert caught.value.key == "dataset"


def test_layers_have_the_configured_sizes() -> None:
    assert units(mlp.classify_table(CLASSES, n_layers=2, units=8)) == [8, 8, 1]
    assert units(mlp.classify_table(DataSpec((4,), 3), n_layers=0)) == [3]
    assert units(mlp.regress_table(VALUES, n_layers=3, units=32)) == [32, 32, 32, 1]
    assert units(mlp.classify_images(IMAGES)) == [256, 128, 10]
    assert units(mlp.classify_images(IMAGES, n_layers=3, units=3, taper=0.1)) == [3, 1, 1, 10]
