"""The config: schema, checks that need no backend, and messages for what Hydra refuses.

Imports no backend, so that ``--help`` and config errors answer at once.
"""

from hpo.config.compose import (
    ADDRESSES,
    choices,
    chosen,
    config_dirs,
    for_the_record,
    is_explicit,
    is_given,
    plain,
    with_option,
    with_value,
)
from hpo.config.definition import FROM_MODEL, Definition, is_from_model, with_space_of_model
from hpo.config.explain import explain
from hpo.config.groups import GROUPS, check_shadowing, options, register, resource_dir
from hpo.config.schema import Conf, EarlyStoppingConf, LimitsConf, ObjectiveConf, ParamConf, TrackingConf

__all__ = [
    "ADDRESSES",
    "FROM_MODEL",
    "GROUPS",
    "Conf",
    "Definition",
    "EarlyStoppingConf",
    "LimitsConf",
    "ObjectiveConf",
    "ParamConf",
    "TrackingConf",
    "check_shadowing",
    "choices",
    "chosen",
    "config_dirs",
    "explain",
    "for_the_record",
    "is_explicit",
    "is_from_model",
    "is_given",
    "options",
    "plain",
    "register",
    "resource_dir",
    "with_option",
    "with_space_of_model",
    "with_value",
]
