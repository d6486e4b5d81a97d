"""FP16 for TensorRT as a format: float32 ONNX files that ask, by a metadata property, for engines in half precision.

TensorRT rounds weights and values itself, while it builds the engine on the board; the file's own numbers stay float32,
so that any other runtime answers with it as with its parent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import fx

from pipeline.export.fingerprint import structure
from pipeline.export.format import FP16, Skeleton
from pipeline.export.formats.onnx import Onnx
from pipeline.export.skeleton_container import extended

PROPERTY = "pipeline.precision"
"""As the agent's TensorRT runtime reads it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fp16Onnx:
    """Files of one network, and of all that is cut from it, for engines in half precision."""

    parent: Onnx
    """Writes their float32 parents."""

    precision = FP16

    def file(self, network: fx.GraphModule) -> bytes:
        """Return the network's file; raises ExportError."""
        return asking_for_fp16(self.parent.file(network))

    def skeleton(self, network: fx.GraphModule) -> Skeleton:
        """Return what stands for the network's file where it is only measured; raises ExportError."""
        made = self.parent.skeleton(network)
        return Skeleton(
            extended(made.data, _REQUEST), made.size_bytes + len(_REQUEST), structure_in_fp16(network)
        )  # fmt: skip

    def answers(self, file: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return onnxruntime's scores, in float32."""
        return self.parent.answers(file, images)


def asking_for_fp16(file: bytes) -> bytes:
    """Return an ONNX file with the request for half precision at its end, where protobuf reads it as its own field.

    >>> asked = onnx.load_from_string(asking_for_fp16(onnx.ModelProto(ir_version=8).SerializeToString()))
    >>> asked.ir_version, asked.metadata_props[0].value
    (8, 'fp16')
    """
    return file + _REQUEST


def not_asking(file: bytes) -> bytes:
    """Return a file without its request for half precision: its float32 parent.

    >>> not_asking(asking_for_fp16(b"file"))
    b'file'
    """
    return file.removesuffix(_REQUEST)


def structure_in_fp16(network: fx.GraphModule) -> str:
    """Return the structure of a network's FP16 engine, which is not the one in float32."""
    return f"{structure(network)}-{FP16}"


def _request() -> bytes:
    model = onnx.ModelProto()
    model.metadata_props.add(key=PROPERTY, value=FP16)
    data: bytes = model.SerializeToString()
    return data


_REQUEST = _request()
