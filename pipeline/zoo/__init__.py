"""Models and data sets by name, file or import path."""

from pipeline.zoo.dataset import DataSet, InputStatistics, Split
from pipeline.zoo.loading import load_data
from pipeline.zoo.models import default_model, load_model

__all__ = ["DataSet", "InputStatistics", "Split", "default_model", "load_data", "load_model"]
