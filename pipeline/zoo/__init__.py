"""Models and data sets by name, file or import path."""

from pipeline.zoo.dataset import DataSet, InputStatistics, Split
from pipeline.zoo.heads import find_head
from pipeline.zoo.loading import load_data
from pipeline.zoo.models import default_model, load_model
from pipeline.zoo.splits import Splits, read_splits

__all__ = [
    "DataSet",
    "InputStatistics",
    "Split",
    "Splits",
    "default_model",
    "find_head",
    "load_data",
    "load_model",
    "read_splits",
]
