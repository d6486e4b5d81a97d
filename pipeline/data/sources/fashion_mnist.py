"""Fashion-MNIST: 60,000 + 10,000 grey pictures of clothes, 28x28, in ten classes.

Source: H. Xiao et al., arXiv:1708.07747. Taken from the folder given, else from where Debian's package
``dataset-fashion-mnist`` puts it, else downloaded once into the user's cache.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import platformdirs
import torch

from pipeline.data.pools import MemoryPool
from pipeline.data.source import Source, SourceOptions, given_folder
from pipeline.errors import DataError
from pipeline.regular_file import opened, read_bytes

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
MOST_BYTES = 64 * 1024 * 1024
"""Of a file, also unpacked; the training images have 47 MB."""
USAGE = "fashion-mnist:DIR with train-images-idx3-ubyte(.gz), train-labels-idx1-ubyte(.gz) and the same of t10k"


def load(argument: str, options: SourceOptions) -> Source:  # noqa: ARG001 - every source takes both
    """Return the pictures; augmentation mirrors them and moves them by up to two pixels.

    Raises:
        DataError: the files are missing or broken, and cannot be downloaded.
    """
    folder = given_folder(argument, USAGE) if argument else _installed_or_downloaded()
    return Source(
        name="fashion-mnist",
        classes=CLASSES,
        shape=(1, 28, 28),
        mean=(0.2860,),
        std=(0.3530,),
        train=_pool(folder, "train"),
        test=_pool(folder, "t10k"),
    )


def _installed_or_downloaded() -> Path:
    return DEBIAN_FOLDER if DEBIAN_FOLDER.is_dir() else _downloaded(platformdirs.user_cache_path("pipeline"))


def _downloaded(cache: Path) -> Path:
    """Let torchvision fetch the files, once; it checks their MD5."""
    from pipeline.torchvision_compat import torchvision  # seconds to import, and seldom needed

    try:
        torchvision.datasets.FashionMNIST(cache, download=True)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"fashion-mnist is not on this machine and cannot be downloaded ({reason}); "
            f"run: sudo apt install dataset-fashion-mnist, or give {USAGE}"
        ) from error
    return cache / "FashionMNIST" / "raw"


def _pool(folder: Path, part: str) -> MemoryPool:
    images = _read_idx(folder, f"{part}-images-idx3-ubyte", dimensions=3)
    labels = _read_idx(folder, f"{part}-labels-idx1-ubyte", dimensions=1)
    if images.shape != (len(labels), 28, 28) or labels.max(initial=0) >= len(CLASSES):
        raise DataError(
            f"{folder}: {part} holds images {images.shape} and {len(labels)} labels; expected n x 28 x 28 and n labels "
            f"of 0 to 9: fetch the files again"
        )
    return MemoryPool(torch.from_numpy(images)[:, None], torch.from_numpy(labels.astype(np.int64)), shift=2, flip=True)


def _read_idx(folder: Path, name: str, *, dimensions: int) -> np.ndarray:
    """Read an IDX file, plain or gzipped: magic number 0x0800 + dimensions, then the sizes, then the bytes."""
    file = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if file is None:
        raise DataError(f"{folder} holds no {name}(.gz); give {USAGE}")
    try:
        content = _unpacked(file) if file.suffix == ".gz" else read_bytes(file, MOST_BYTES)
        magic, *sizes = (int(number) for number in np.frombuffer(content, ">u4", count=1 + dimensions))
        if magic != 0x0800 + dimensions:
            raise ValueError(f"magic number {magic:#x}")
        return np.frombuffer(bytearray(content), np.uint8, offset=4 * (1 + dimensions)).reshape(sizes)
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise DataError(f"{file} is no IDX file of bytes ({error}); fetch it again") from error


def _unpacked(file: Path) -> bytes:
    with opened(file, MOST_BYTES) as stream, gzip.GzipFile(fileobj=stream) as archive:
        content = archive.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"unpacked, it has more than {MOST_BYTES} bytes")
    return content
