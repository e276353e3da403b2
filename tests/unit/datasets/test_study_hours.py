import numpy as np

from hpo.datasets import study_hours


def test_rows_are_included_with_a_fixed_test_split() -> None:
    data = study_hours.load()
    assert (data.x.shape, data.x_test.shape) == ((36, 2), (12, 2))
    assert [column.name for column in data.columns] == ["hours", "years"]
    assert set(data.y) == set(data.y_test) == {0, 1}
    # In both parts, people who passed studied more on average, but the classes overlap.
    for x, y in ((data.x, data.y), (data.x_test, data.y_test)):
        assert x[y == 1, 0].mean() > x[y == 0, 0].mean() + 3
    assert data.x[data.y == 1, 0].min() < data.x[data.y == 0, 0].max()
    whole = np.concatenate([data.x, data.x_test])
    assert len(np.unique(whole, axis=0)) == len(whole)
