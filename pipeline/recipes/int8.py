"""A recipe's precision on another checkpoint: its INT8 file, made of its own ranges, beside the float parent."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import fx

from pipeline.data import DataSet
from pipeline.export.format import FP16, INT8, Format
from pipeline.export.formats.onnx import Onnx
from pipeline.export.quantization.host_scores import open_on_host
from pipeline.export.quantization.int8_settings import Int8Settings
from pipeline.export.quantization.open_int8 import has_int8, open_int8
from pipeline.export.quantization.qdq import SCHEMES, U8S8
from pipeline.export.quantization.quantize import CALIBRATION_IMAGES
from pipeline.export.signature import packed
from pipeline.recipes.recipe import Recipe
from pipeline.records import WeightBits

_BATCH = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """A network's INT8 file and how it answers."""

    data: bytes
    weight_bits: WeightBits
    accuracy: float
    """Share of right answers to the images of the search split."""
    agreement: float
    """Of these, the share that the float parent puts into the same class."""


def why_float(recipe: Recipe, data: DataSet | None, format: Format) -> str | None:
    """Return why a recipe of an INT8 or FP16 network gives a float32 one; None where it does not."""
    if recipe.precision == FP16 and not isinstance(format, Onnx):
        return "the recipe's network asks TensorRT for FP16, which ONNX files can: write it with --format onnx"
    if recipe.precision != INT8:
        return None
    if data is None:
        return "the recipe's network is INT8, this one float32: give --data, whose images its ranges are read of"
    if not has_int8(format):
        return "the recipe's network is INT8, this one float32: INT8 is written as ONNX and TFLite alone"
    return None


def quantized(
    network: fx.GraphModule, parent: bytes, recipe: Recipe, data: DataSet, format: Format, images: int
) -> Quantized:
    """Return the INT8 file of a cut network, rounded as the recipe says; layers that it keeps float32 stay so here.

    Args:
        network: cut as the recipe says.
        parent: its float32 file.
        recipe: of an INT8 network.
        data: calibrates by training images, judges by the search split.
        format: writes float32 files.
        images: of the search split.

    Raises:
        ExportError: the network cannot be quantized.
    """
    calibrating = packed(next(data.train.batches(CALIBRATION_IMAGES, limit=CALIBRATION_IMAGES))[0])
    scheme = SCHEMES.get(str(recipe.decisions["precision"].get("scheme")), U8S8)
    settings = Int8Settings(
        float_layers=frozenset(recipe.float_layers), scheme=replace(scheme, weight_bits=recipe.weight_bits)
    )
    made = open_int8(format, calibrating, settings).quantized(network)
    before, after = open_on_host(parent), open_on_host(made.data)
    right = same = seen = 0
    for batch, labels in data.search.batches(_BATCH, limit=images):
        shown = packed(batch)
        found = after(shown).argmax(1)
        right += int((found == labels.numpy()).sum())
        same += int((found == before(shown).argmax(1)).sum())
        seen += len(labels)
    return Quantized(data=made.data, weight_bits=made.scheme.weight_bits, accuracy=right / seen, agreement=same / seen)
