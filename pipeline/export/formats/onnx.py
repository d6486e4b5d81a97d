"""ONNX, for onnxruntime and TensorRT: each network exported by itself, in less than a second."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx

from pipeline.export.format import OnNote
from pipeline.export.onnx import answers, export, read
from pipeline.export.skeleton import skeleton
from pipeline.records import OnnxLimits


def open_format(base: fx.GraphModule, example: Tensor, *, limits: OnnxLimits, on_note: OnNote) -> Onnx:
    """Return the format; nothing has to be made ready."""
    del base, on_note
    return Onnx(example, limits)


def require_usable(data: bytes, limits: OnnxLimits | None, *, shown: str) -> None:
    """Raise ModelError where the file is damaged, not in one piece, or beyond the device's limits."""
    read(data, limits, name=shown)


@dataclass(frozen=True)
class Onnx:
    """ONNX files within a device's limits."""

    example: Tensor = field(repr=False)
    limits: OnnxLimits
    name: str = "onnx"

    def file(self, network: fx.GraphModule) -> bytes:
        """Return the network's file; raises ExportError."""
        return export(network, self.example, self.limits)

    def probe(self, file: bytes) -> bytes:
        """Return the file without its weights."""
        return skeleton(file)

    def answers(self, file: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return onnxruntime's scores."""
        return answers(file, images)
