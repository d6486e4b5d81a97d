"""What a TFLite file answers, by LiteRT on this machine."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray


def answers(data: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scores for ``images`` (N, C, H, W), one image at a time.

    Raises:
        ValueError, RuntimeError: the interpreter does not load or run the file.
    """
    return OpenFile(data).scores(images)


class OpenFile:
    """A file with an interpreter of its own."""

    def __init__(self, data: bytes, *, keep_values: bool = False) -> None:
        """Open the file.

        Args:
            data: the file.
            keep_values: what is between input and output can be read, too, which takes memory.

        Raises:
            ValueError, RuntimeError: the interpreter does not load it.
        """
        with _quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that keeping values takes memory
            self._interpreter = Interpreter(
                model_content=data, num_threads=torch.get_num_threads(), experimental_preserve_all_tensors=keep_values
            )
            self._interpreter.allocate_tensors()
        self._image = self._interpreter.get_input_details()[0]["index"]
        self._scores = self._interpreter.get_output_details()[0]["index"]

    def scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return one row for each of ``images`` (N, C, H, W)."""
        rows = []
        for image in images:
            self.run(image)
            rows.append(self.value(self._scores))
        return np.concatenate(rows)

    def run(self, image: NDArray[np.float32]) -> None:
        """Compute all values of one image (C, H, W)."""
        self._interpreter.set_tensor(self._image, np.ascontiguousarray(image[None], np.float32))
        self._interpreter.invoke()

    def value(self, tensor: int) -> NDArray[np.float32]:
        """Return what a tensor, by its number in the file, holds since the last image."""
        found: NDArray[np.float32] = self._interpreter.get_tensor(tensor)
        return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep LiteRT from writing to the terminal that it has made a delegate; it has no switch for that."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
