"""The formats of model files that a bundle may hold, and what runs them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.errors import OutputError


@dataclass(frozen=True, slots=True)
class Format:
    """What a bundle says of its model file."""

    name: str
    runtime: str
    """In the words of its makers."""
    packages: tuple[str, ...]
    """What example.py needs."""


FORMATS: Mapping[str, Format] = {
    "model.onnx": Format("onnx", "ONNX Runtime", ("numpy", "onnxruntime", "pillow")),
    "model.tflite": Format("tflite", "LiteRT", ("ai-edge-litert", "numpy", "pillow")),
}
"""Name of the file → its format."""


def model_file(names: Iterable[str]) -> str:
    """Return which of a bundle's files is the model.

    Raises:
        OutputError: none is, or several are.

    >>> model_file(["weights.safetensors", "model.tflite"])
    'model.tflite'
    """
    found = [name for name in names if name in FORMATS]
    if len(found) != 1:
        raise OutputError(f"a bundle needs one of {', '.join(FORMATS)}; found: {', '.join(sorted(names)) or 'no file'}")
    return found[0]
