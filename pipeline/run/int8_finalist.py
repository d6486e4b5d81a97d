"""A finalist in INT8: held against its float parent, with blocks of layers in float32 where it hurts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import fx

from pipeline.events import Note, Stage
from pipeline.export.quantization.open_int8 import INT8_FORMATS, Int8File
from pipeline.quantization.float_runs import with_float_runs
from pipeline.quantization.judgement import Judgement, Parent
from pipeline.records import WeightBits
from pipeline.run.context import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedFinalist:
    """The file to hand over, and what it was made of."""

    data: bytes
    parent: bytes
    """In float32."""
    accuracy: float
    """Share of right answers to the search split's images."""
    agreement: float
    """Of these, the share that the parent puts into the same class."""
    float_layers: tuple[str, ...]
    """Weights of layers that stay float32, by their names: those that the run decided for, and what hurts here."""
    weight_bits: WeightBits


def quantize_finalist(context: Context, network: fx.GraphModule, name: str) -> QuantizedFinalist:
    """Return a trained network in INT8 as its run has decided, judged on the search split beside its float parent.

    Where it loses more than one point, or puts fewer than 95 % of the images into the parent's class, that is said, and
    runs of layers are tried in float32.

    Args:
        context: of a run in INT8.
        network: trained.
        name: how the finalist is called.

    Raises:
        ExportError: it cannot be quantized.
    """
    format = context.format
    assert isinstance(format, INT8_FORMATS)
    context.listen(Stage(f"Compare {name} in INT8 with its float32 parent"))
    file = format.parent.file(network)
    parent = Parent(file, context.data.search, context.config.evaluation.search_images)
    made: Int8File = format.quantized(network)
    judged = parent.judge(made.data)
    if not judged.is_good:
        kept = format.settings.float_layers

        def make(layers: Sequence[str]) -> Int8File:
            settings = replace(format.settings, float_layers=kept | frozenset(layers))
            return replace(format, settings=settings).quantized(network)

        context.listen(Note(f"{name}: INT8 answers {_shown(judged)}: runs of layers are tried in float32"))
        made, judged = with_float_runs(
            made, judged, [one for one in made.layers if one not in kept], make, parent.judge
        )
        stays = f"; in float32 stay {', '.join(made.float_layers)}" if made.float_layers else ""
        context.listen(Note(f"{name}: INT8 answers {_shown(judged)}{stays}"))
    return QuantizedFinalist(
        data=made.data, parent=file, accuracy=judged.int8, agreement=judged.agreement, float_layers=made.float_layers,
        weight_bits=made.scheme.weight_bits,
    )  # fmt: skip


def _shown(judged: Judgement) -> str:
    return f"{judged.int8:.1%} right instead of {judged.float32:.1%}, {judged.agreement:.1%} alike"
