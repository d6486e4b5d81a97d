"""What CIFAR-10 and CIFAR-100 have in common: records of label and pixels, and how the pictures are varied."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from pipeline.data.pools import MemoryPool
from pipeline.errors import DataError
from pipeline.regular_file import LIST_BYTES, read_bytes

Arrays: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Images, uint8, n x 32 x 32 x 3, and their labels."""


def read_records(file: Path, *, label_bytes: int) -> Arrays:
    """Read records of label bytes, of which the last is the class, and 3,072 bytes of red, green and blue planes.

    Raises:
        DataError: the file is missing, or of a size that no number of records has.
    """
    size = label_bytes + 3072
    try:
        content = np.frombuffer(read_bytes(file, LIST_BYTES), np.uint8)
    except FileNotFoundError:
        content = np.empty(0, np.uint8)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); fetch it again") from error
    if not content.size or content.size % size:
        raise DataError(f"{file} has {content.size} bytes; expected a multiple of {size}: fetch it again")
    records = content.reshape(-1, size)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, label_bytes - 1]


def pool(images: np.ndarray, labels: np.ndarray, classes: int) -> MemoryPool:
    """Return the pictures as a pool; augmentation is the usual one: pad by 4, crop, mirror.

    Raises:
        DataError: a label is no number of a class.
    """
    if not np.isin(labels, np.arange(classes)).all():
        raise DataError(f"CIFAR labels reach from {labels.min()} to {labels.max()}; expected 0 to {classes - 1}")
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return MemoryPool(torch.from_numpy(planes), torch.from_numpy(labels.astype(np.int64)), shift=4, flip=True)
