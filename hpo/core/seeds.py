"""Random seeds, derived from the study seed."""

from __future__ import annotations

import hashlib
import json

from hpo.core.params import Params, canonical


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**31) that depends on all of ``parts`` and on nothing else."""
    text = json.dumps([str(part) for part in parts])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % 2**31


def fit_seed(study_seed: int, params: Params, fold: int) -> int:
    """The training seed of one fit: equal params train equally under every strategy and in any order."""
    return derive_seed("fit", study_seed, canonical(params), fold, 0)  # with the 0, as earlier studies recorded it


def search_seed(study_seed: int, strategy: str) -> int:
    """Seed of the random stream of a search, which no other strategy shares.

    Args:
        strategy: its name in the config.
    """
    return derive_seed("strategy", study_seed, strategy)
