"""Data conditions: common corruptions of images, in severities 1 to 5; a data set under one, or as a mixture."""

from pipeline.data.conditions.condition import CLEAN, Condition, parse_condition, parse_conditions
from pipeline.data.conditions.corruption import corrupt
from pipeline.data.conditions.data_set import mixture, under
from pipeline.data.conditions.kinds import JUDGING, KINDS, TRAINING

__all__ = [
    "CLEAN",
    "JUDGING",
    "KINDS",
    "TRAINING",
    "Condition",
    "corrupt",
    "mixture",
    "parse_condition",
    "parse_conditions",
    "under",
]
