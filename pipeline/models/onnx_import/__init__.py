"""ONNX files as torch networks: layers are torch's own modules under the names that they had, constants folded.

The conversion is our own because onnx2torch, the library that does it (1.5.15, August 2024), writes reshapes and
slices as modules of its own that read their sizes out of tensors, so that no dependency graph follows them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, fx

from pipeline.errors import ModelError
from pipeline.events import Listener, Note, unheard
from pipeline.models.onnx_import.converter import Converter
from pipeline.models.onnx_import.model_file import ModelFile, read_file
from pipeline.models.onnx_import.verify import require_equal

__all__ = ["load_onnx"]

_IMAGES = 3
"""Random images that the network is tried with: another number than it was made with, so that an open batch shows."""


def load_onnx(path: Path, *, example: Tensor | None = None, listen: Listener = unheard) -> fx.GraphModule:
    """Return the network of an ONNX file in eval mode, for any number of images, with the file's weights.

    Its answers to random images, and to ``example``, are those that onnxruntime gives.

    Args:
        path: of the file.
        example: real images, (N, C, H, W) or (N, C, samples).
        listen: hears what was left out.

    Raises:
        ModelError: it cannot be read or converted, or takes other images.
    """
    file = read_file(path)
    if example is not None:
        _require_size(file, example)
    converter = Converter(file)
    network = converter.network()
    random = torch.randn(_IMAGES, *file.shape, generator=torch.Generator().manual_seed(0))
    for images in (random, example):
        if images is not None:
            require_equal(network, file, images, converter.values)
    for note in file.notes:
        listen(Note(f"{file.name}: {note}"))
    return network


def _require_size(file: ModelFile, example: Tensor) -> None:
    found = tuple(example.shape[1:])
    if found == file.shape:
        return
    wanted, given = (" x ".join(map(str, shape)) for shape in (file.shape, found))
    if len(found) == 3 and (*found[1:], found[0]) == file.shape:
        raise ModelError(
            f"{file.name} takes images of {wanted}, channels last; the data's are {given}: export it with channels "
            f"first (tf2onnx: --inputs-as-nchw {file.input})"
        )
    square = len(file.shape) == 3 and file.shape[1] == file.shape[2] and len(found) == 3 and found[0] == file.shape[0]
    fix = f"let images be scaled to it (image_size: {file.shape[1]} in run.yaml), or " if square else ""
    raise ModelError(
        f"{file.name} takes images of {wanted}, the data's are {given}; {fix}export the network for the data's size"
    )
