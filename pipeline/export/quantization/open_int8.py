"""INT8 beside a format: what every one of them has, and the one that belongs to a float32 format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import fx

from pipeline.export.format import Format
from pipeline.export.formats.onnx import Onnx
from pipeline.export.formats.tflite import TFLite
from pipeline.export.quantization.int8_format import Int8Onnx
from pipeline.export.quantization.int8_settings import AS_USUAL, Int8Settings
from pipeline.export.quantization.int8_tflite import Int8TFLite
from pipeline.export.quantization.qdq import Scheme


class Int8File(Protocol):
    """An INT8 file, and how it was made."""

    @property
    def data(self) -> bytes:
        """The file."""

    @property
    def scheme(self) -> Scheme:
        """How it is rounded."""

    @property
    def layers(self) -> Sequence[str]:
        """Layers with weights that may stay float32, by their weights' names, in order."""

    @property
    def float_layers(self) -> tuple[str, ...]:
        """Those that do."""


class Int8Format(Format, Protocol):
    """INT8 files of one network and of all that is cut from it."""

    @property
    def parent(self) -> Format:
        """Writes their float32 parents."""

    def quantized(self, network: fx.GraphModule) -> Int8File:
        """Return the network's INT8 file and how it was made; raises ExportError."""


INT8_FORMATS = (Int8Onnx, Int8TFLite)
_OF: tuple[tuple[type[Any], Callable[..., Int8Format]], ...] = ((Onnx, Int8Onnx), (TFLite, Int8TFLite))


def open_int8(parent: Format, images: NDArray[np.float32], settings: Int8Settings = AS_USUAL) -> Int8Format:
    """Return the INT8 format whose files are made of ``parent``'s.

    Args:
        parent: writes float32 files.
        images: real, normalised images, (N, C, H, W), by which ranges are read.
        settings: how they are quantized.

    Raises:
        ValueError: the format has no INT8, see ``has_int8``.
    """
    for kind, opened in _OF:
        if isinstance(parent, kind):
            return opened(parent=parent, images=images, settings=settings)
    raise ValueError(f"{type(parent).__name__} has no INT8")


def has_int8(parent: Format) -> bool:
    """Return whether files of a format can be quantized: those of a user's own cannot."""
    return isinstance(parent, Onnx | TFLite)
