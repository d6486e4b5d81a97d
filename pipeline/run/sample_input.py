"""Sample input: one real test image beside a run's report, for the bundle's example to answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline import structures
from pipeline.data import DataSet
from pipeline.run.sample_file import STEM

_MODES = {1: "L", 3: "RGB"}


def write_sample(data: DataSet, folder: Path) -> Path | None:
    """Write the first test image as the bundle's example reads it: PNG, or .npy of a signal.

    Of another task than classification .npz of the inputs as the network takes them, in their order.

    Returns:
        The file; None for images of neither one nor three channels, which no picture format holds.
    """
    if not data.task.puts_into_classes:
        inputs, _ = next(data.test.batches(1, limit=1))
        path = folder / f"{STEM}.npz"
        np.savez(path, *(part.numpy() for part in structures.arguments(inputs)))
        return path
    image = data.test.pool.read(data.test.indices[:1])[0].numpy()
    if data.has_signals:
        path = folder / f"{STEM}.npy"
        np.save(path, image)
        return path
    mode = _MODES.get(image.shape[0])
    if mode is None or image.dtype != np.uint8:
        return None
    path = folder / f"{STEM}.png"
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0).squeeze()), mode).save(path)
    return path
