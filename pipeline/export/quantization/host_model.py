"""A file on this machine's ONNX Runtime, several images at a time where the file lets it."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from pipeline.export.quantization.host_session import open_session

BATCH = 250


class HostModel:
    """Scores of a file whose batch is open or of one image."""

    def __init__(self, file: bytes) -> None:
        """Open the file, its batch opened where its answers stay the same."""
        self._single = open_session(file)
        self._open = _session_or_none(_with_open_batch(file))
        self._input = self._single.get_inputs()[0].name
        self._is_checked = False

    def scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return one row for each of ``images`` (N, C, H, W)."""
        if not self._is_checked:
            self._is_checked = True
            if self._open is not None and not self._answers_alike(images[:2]):
                self._open = None
        if self._open is None:
            return np.concatenate([self._run(self._single, image[None]) for image in images])
        parts = (images[at : at + BATCH] for at in range(0, len(images), BATCH))
        return np.concatenate([self._run(self._open, part) for part in parts])

    def _answers_alike(self, images: NDArray[np.float32]) -> bool:
        """Return whether a file that was written for one image answers several as it answers each."""
        one_by_one = np.concatenate([self._run(self._single, image[None]) for image in images])
        try:
            together = self._run(self._open, images)
        except Exception:  # onnxruntime's errors share no base
            return False
        limit = 1e-2 * max(1.0, float(np.abs(one_by_one).max()))  # kernels of other batches round in another order
        return together.shape == one_by_one.shape and bool(np.allclose(together, one_by_one, rtol=0, atol=limit))

    def _run(self, session: onnxruntime.InferenceSession | None, images: NDArray[np.float32]) -> NDArray[np.float32]:
        assert session is not None
        found: NDArray[np.float32] = session.run(None, {self._input: images})[0]
        return found


def _session_or_none(file: bytes) -> onnxruntime.InferenceSession | None:
    try:
        return open_session(file, silent=True)
    except Exception:  # onnxruntime's errors share no base
        return None


def _with_open_batch(file: bytes) -> bytes:
    model = onnx.load_from_string(file)
    for value in (*model.graph.input, *model.graph.output):
        shape = value.type.tensor_type.shape
        if shape.dim:
            shape.dim[0].Clear()
            shape.dim[0].dim_param = "images"
    del model.graph.value_info[:]
    data: bytes = model.SerializeToString()
    return data
