"""Seeds that are derived from the study seed."""

import random

import numpy as np

from hpo.core.seeds import derive_seed, fit_seed


def test_fit_seed_depends_on_its_arguments_only() -> None:
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    seed = fit_seed(0, {"a": 1, "b": 0.5}, 0)
    assert seed == fit_seed(0, {"b": 0.5, "a": 1}, 0)
    others = [
        fit_seed(1, {"a": 1, "b": 0.5}, 0),
        fit_seed(0, {"a": 2, "b": 0.5}, 0),
        fit_seed(0, {"a": 1, "b": 0.5}, 1),
    ]
    assert len({seed, *others}) == 4
    assert 0 <= seed < 2**31
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_seeds_of_earlier_studies_stay_the_same() -> None:
    assert derive_seed("splits", 0) == 1_700_584_864
    assert fit_seed(0, {"a": 1}, 2) == 1_392_427_878
