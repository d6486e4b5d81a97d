"""Model format: what writes networks, as ``open_format`` of a file in ``formats`` returns it.

What else such a file declares: :mod:`pipeline.export.format_plugin`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import fx

from pipeline import plugins
from pipeline.errors import ConfigError
from pipeline.export.format_plugin import FORMATS, model_format
from pipeline.export.signature import INPUT, OUTPUT
from pipeline.records import OnnxSupport
from pipeline.structures import Inputs

__all__ = [
    "FLOAT32", "INPUT", "INT8", "OUTPUT", "FastPathUnsupportedError", "Format", "OnNote", "Skeleton", "float_parent",
    "open_format",
]  # fmt: skip

FLOAT32, INT8, FP16 = "float32", "int8", "fp16"
"""Precisions that a format writes."""

OnNote = Callable[[str], None]
"""Hears what takes its time, a line at a time."""


class FastPathUnsupportedError(Exception):
    """The fast way to a file, composed of parts or rewritten, does not apply: a full export is made instead."""


def float_parent(ending: str) -> str:
    """Return what the file is called that an INT8 model was made of.

    >>> float_parent("tflite")
    'float32.tflite'
    """
    return f"{FLOAT32}.{ending}"


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The weightless stand-in of a file."""

    data: bytes
    size_bytes: int
    """Of the file that it stands for."""
    structure: str
    """Of the network, see :mod:`pipeline.export.fingerprint`, and of its precision."""
    int8_operators: int = 0
    """That the device has to compute in INT8."""


class Format(Protocol):
    """Files of one network and of all that is cut from it."""

    @property
    def precision(self) -> str:
        """In which its files compute: ``float32``, ``int8``, or ``fp16`` where a runtime builds engines of them."""

    def file(self, network: fx.GraphModule) -> bytes:
        """Return a network as one file for batches of one image, batch norm folded, its answers checked.

        Raises:
            ExportError: the network cannot be written, or the file's answers to real images are not the network's.
        """

    def skeleton(self, network: fx.GraphModule) -> Skeleton:
        """Return what stands for a network's file where it is only measured.

        Its shapes are checked; its answers, which the weights that it has not got would make, as far as the format
        finds it necessary.

        Raises:
            ExportError: the network cannot be written.
        """

    def answers(self, file: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the host's answers to ``images`` (N, C, H, W), one image at a time.

        Of a network with several inputs or outputs both are rows, see :mod:`pipeline.export.signature`.
        """


def open_format(
    name: str,
    base: fx.GraphModule,
    example: Inputs,
    *,
    support: OnnxSupport,
    on_note: OnNote = lambda _: None,
) -> Format:
    """Return the format ``name``, made ready for ``base`` and what will be cut from it.

    Args:
        base: its weights do not matter.
        example: a real, normalised batch, for which files are compared with their networks.
        support: the newest ONNX that the device loads; other formats have none.

    Raises:
        ConfigError: there is no such format, or its file lacks something.
        ExportError: the network cannot be written in this format; says why.
        ConverterError: the format's converter cannot be had.
    """
    model_format(name)
    opened: Format = plugins.load(FORMATS, name).open_format(base, example, support=support, on_note=on_note)
    if lacks := [needed for needed in ("precision", "file", "skeleton", "answers") if not hasattr(opened, needed)]:
        raise ConfigError(
            f"format {name}: what open_format returns has no {', '.join(lacks)}; see docs/extending/format.md"
        )
    return opened
