"""Splits: drawn once, stored with the run, refused where the data has changed since."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from pipeline.data.image_io import FilePool
from pipeline.data.pools import MemoryPool, TargetPool
from pipeline.data.presets import Preset
from pipeline.data.source import Source
from pipeline.errors import DataError


@dataclass(frozen=True, eq=False, kw_only=True)
class Splits:
    """Indices into a source's pools, int64, and what the pools held when they were drawn."""

    train: Tensor
    search: Tensor
    val: Tensor
    test: Tensor
    """Into the source's test pool, or into its training pool where it has no other."""
    images: int
    checksum: str
    content: str = ""
    """Of the images themselves, see ``content``; empty: a run that an older version has begun."""
    preset: Preset | None = None
    """How the images were read where the user did not say: the weights file, which tells, may be gone by now."""

    def to_bytes(self) -> bytes:
        """Return a safetensors file."""
        preset = json.dumps(self.preset and asdict(self.preset))
        about = {
            "images": str(self.images), "checksum": self.checksum, "content": self.content, "preset": preset
        }  # fmt: skip
        return safetensors.torch.save({name: getattr(self, name).contiguous() for name in PARTS}, about)

    def require_unchanged(self, source: Source) -> None:
        """Refuse a source that holds other images than the one for which these were drawn.

        Raises:
            DataError: the number of images, their labels, names or classes differ.
        """
        if (count := image_count(source)) != self.images:
            raise DataError(
                f"the data has changed: {source.name} holds {count} images, and held {self.images} when the run began; "
                "put it back as it was, or start a new run"
            )
        if checksum(source) != self.checksum:
            raise DataError(
                f"the data has changed: {source.name} has as many images as when the run began, but other labels, "
                "classes or file names; put it back as it was, or start a new run"
            )
        if self.content and content(source) != self.content:
            raise DataError(
                f"the data has changed: {source.name} has other pictures than when the run began, under the same names "
                "and labels; put them back as they were, or start a new run"
            )


PARTS = ("train", "search", "val", "test")


def read_splits(file: Path) -> Splits:
    """Read what ``Splits.to_bytes`` wrote.

    Raises:
        DataError: the file is damaged.
    """
    try:
        with safetensors.safe_open(file, framework="pt") as stored:
            about = stored.metadata() or {}
            parts = {name: stored.get_tensor(name) for name in PARTS}
        preset = json.loads(about.get("preset", "null"))
        return Splits(
            **parts,
            images=int(about["images"]),
            checksum=about["checksum"],
            content=about.get("content", ""),
            preset=preset and Preset(**{**preset, "mean": tuple(preset["mean"]), "std": tuple(preset["std"])}),
        )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"the run's stored splits cannot be read ({file}: {error}); start a new run") from error


def image_count(source: Source) -> int:
    """Return the number of images in both pools."""
    return len(source.train.labels) + (len(source.test.labels) if source.test else 0)


def checksum(source: Source) -> str:
    """Return a SHA-256 over classes, labels and the names of files, in their order; pictures are not read."""
    digest = hashlib.sha256("\0".join(source.classes).encode())
    for pool in (source.train, source.test):
        if pool is not None:
            digest.update(pool.labels.to(torch.int64).numpy().tobytes())
            if isinstance(pool, TargetPool):
                digest.update(pool.digest.encode())
            for name in pool.names:
                digest.update(b"\0" + name.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def content(source: Source) -> str:
    """Return a SHA-256 over the pictures that are in memory, and over the sizes of those that lie in files.

    Files are not read, which would take as long as a pass of training; what a data set of the user's own computes is
    known by its code.
    """
    digest = hashlib.sha256()
    for pool in (source.train, source.test):
        if isinstance(pool, MemoryPool):
            digest.update(pool.images.contiguous().numpy().data)
        elif isinstance(pool, FilePool):
            for file in pool.files:
                digest.update(f"{_size(file)}\0".encode())
    return digest.hexdigest()


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None
