"""Data sets by name or import path: read, split, kept in memory or on disk, handed to training."""

from pipeline.data.dataset import DataSet, InputStatistics, Split
from pipeline.data.load import load_data
from pipeline.data.splits import Splits, read_splits

__all__ = ["DataSet", "InputStatistics", "Split", "Splits", "load_data", "read_splits"]
