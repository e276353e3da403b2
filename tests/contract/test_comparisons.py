"""Named comparisons can be run."""

import pytest

from hpo import config as configs
from hpo.cli.commands.compare import plan_levels
from hpo.compare.spec import parse


@pytest.mark.parametrize("name", list(configs.options("comparison")))
def test_levels_of_named_comparison_differ_only_in_factor(name: str, workdir: object) -> None:
    spec = parse([f"comparison={name}"])
    assert list(plan_levels(spec)) == list(spec.levels)
    assert len(spec.levels) > 1
