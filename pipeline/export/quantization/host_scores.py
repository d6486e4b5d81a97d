"""What a model file answers on this machine, read once and asked often: by ONNX Runtime or by LiteRT."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.export.quantization.host_model import HostModel
from pipeline.export.tflite.flatbuffer import is_tflite
from pipeline.export.tflite.interpreter import OpenFile

Scores = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""One row for each of the images (N, C, H, W)."""


def open_on_host(file: bytes) -> Scores:
    """Return what gives a file's scores; its first bytes say of which format it is.

    ONNX Runtime takes several images at a time where the file lets it; LiteRT takes them one by one.
    """
    return OpenFile(file).scores if is_tflite(file) else HostModel(file).scores
