"""Every named comparison is one that can be made, which is known before anything trains."""

import pytest

from hpo import config as configs
from hpo.cli.main import plan_levels
from hpo.compare.settings import parse


@pytest.mark.parametrize("name", list(configs.options("comparison")))
def test_the_levels_of_a_named_comparison_differ_in_its_factor_alone(name: str, workdir: object) -> None:
    wanted = parse([f"comparison={name}"])
    assert list(plan_levels(wanted)) == list(wanted.levels)
    assert len(wanted.levels) > 1
