"""Models by name, file or import path."""

from pipeline.models.heads import find_head
from pipeline.models.load import default_model, load_model

__all__ = ["default_model", "find_head", "load_model"]
