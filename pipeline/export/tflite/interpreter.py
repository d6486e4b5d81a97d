"""What a TFLite file answers, by LiteRT on this machine."""

from __future__ import annotations

import os
import sys
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
    with _quiet():
        interpreter = Interpreter(model_content=data, num_threads=torch.get_num_threads())
        interpreter.allocate_tensors()
    image, scores = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for one in images:
        interpreter.set_tensor(image["index"], np.ascontiguousarray(one[None], np.float32))
        interpreter.invoke()
        rows.append(interpreter.get_tensor(scores["index"]))
    return np.concatenate(rows)


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
