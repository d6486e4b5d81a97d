"""Precision of a run: INT8 where the board is measured to be faster by it and the answers stay, else float32.

One of the decisions for the whole network (``run.decision_kind``): the channel step, the savings of single cuts and
every candidate are then measured in that precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from pipeline.config import RunConfig
from pipeline.errors import CandidateError
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Stage
from pipeline.export.format import FLOAT32, INT8
from pipeline.export.quantization.int8_settings import Int8Settings
from pipeline.export.quantization.open_int8 import Int8File, Int8Format, has_int8, open_int8
from pipeline.export.quantization.qdq import OLDEST_OPSET
from pipeline.export.quantization.quantize import CALIBRATION_IMAGES
from pipeline.measurement.validity import why_invalid
from pipeline.pruning.complexity import measures_of
from pipeline.quantization.float_runs import with_float_runs
from pipeline.quantization.judgement import Judgement, Parent
from pipeline.records import Figures, Measurement, PrecisionDecision
from pipeline.report.table import ratio
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.run.decision_kind import AS_ASKED, Unfit
from pipeline.store.facts import PRECISION


class Precision:
    """The kind of decision that says in which precision a network computes."""

    fact = PRECISION
    unchanged = FLOAT32

    def wanted(self, config: RunConfig) -> str:
        """Return the setting."""
        return config.precision

    def values(self, context: Context) -> Sequence[str]:
        """Return the precisions beside float32."""
        del context
        return (INT8,)

    def require_possible(self, context: Context, value: str) -> None:
        """Raise Unfit where the board's runtime, or the run's target, has no such precision."""
        del value
        _require_int8(context)

    def tried(self, context: Context, base: Base, value: str, *, is_asked_for: bool) -> PrecisionDecision:
        """Return the decision by what the uncut network in INT8 answers, and how fast the device is with it."""
        del value
        return _int8_tried(context, base, is_asked_for=is_asked_for)

    def stays(self, why: str) -> PrecisionDecision:
        """Return the decision for float32."""
        said = "networks compute in float32"
        return PrecisionDecision(precision=FLOAT32, why=f"{said}, {why}" if why == AS_ASKED else f"{said}: {why}")

    def applied(self, context: Context, decision: PrecisionDecision) -> Context:
        """Return the context whose format writes INT8 files."""
        return replace(context, format=_int8(context, decision.float_layers))

    def in_recipe(self, decision: PrecisionDecision) -> Mapping[str, Any]:
        """Return the precision, and which layers keep float32."""
        return {"value": decision.precision, "float_layers": list(decision.float_layers)}


def _require_int8(context: Context) -> None:
    device = context.agent.device
    if context.config.sets_zeros:
        raise Unfit("single weights become zero, which no INT8 file shows")
    if device.runtime == "tensorrt":
        raise Unfit(
            f"INT8 is written for ONNX Runtime and TFLite, {device.name} runs TensorRT; FP16 is its runtime option fp16"
        )
    if not has_int8(context.format):
        raise Unfit(f"{device.name} runs {device.format} files, and INT8 is written as ONNX and TFLite alone")
    if device.format == "onnx" and context.agent.int8_operators == frozenset():
        raise Unfit(f"{device.name}'s {device.runtime} computes nothing in INT8; bring a newer one to the board")
    support = context.agent.onnx_support
    if device.format == "onnx" and support.opset < OLDEST_OPSET:
        raise Unfit(f"{device.name} loads ONNX up to opset {support.opset}, INT8 needs {OLDEST_OPSET}")


def _int8_tried(context: Context, base: Base, *, is_asked_for: bool) -> PrecisionDecision:
    context.listen(Stage("Try the base model in INT8"))
    try:
        made, judged = _judged(context, base)
    except CandidateError as error:
        raise Unfit(str(error)) from error
    answers = f"{judged.int8:.1%} right instead of {judged.float32:.1%}, {judged.agreement:.1%} alike"
    if not judged.is_good and not is_asked_for:
        raise Unfit(f"INT8 answers {answers}")
    measurement = _measured(context, base, made.float_layers)
    shown = "not measured" if measurement.ratio is None else ratio(measurement.ratio)
    is_faster = measurement.ratio is not None and measurement.ratio.high < 1
    if not is_faster and not is_asked_for:
        raise Unfit(f"INT8 is no faster on {context.agent.device.name} ({shown} of float32's latency)")
    figures = Figures(
        search_accuracy=judged.int8, test_accuracy=None, **asdict(measures_of(base.network, context.example)),
        size_bytes=len(made.data), measurement=measurement,
    )  # fmt: skip
    stays = f"; in float32 stay {', '.join(made.float_layers)}" if made.float_layers else ""
    doubt = "" if is_faster else ", which is no faster, but asked for"
    return PrecisionDecision(
        precision=INT8, base=figures, agreement=judged.agreement, float_layers=made.float_layers,
        why=f"networks compute in INT8: uncut it has {shown} of float32's latency{doubt}, {answers}{stays}",
    )  # fmt: skip


def _judged(context: Context, base: Base) -> tuple[Int8File, Judgement]:
    """Return the uncut network in INT8, and how it answers; with runs of float layers where it needs them."""
    whole = _int8(context, ())
    parent = Parent(whole.parent.file(base.network), context.data.search, context.config.evaluation.search_images)
    first = whole.quantized(base.network)
    judged = parent.judge(first.data)
    if judged.is_good:
        return first, judged

    def make(layers: Sequence[str]) -> Int8File:
        return _int8(context, layers).quantized(base.network)

    return with_float_runs(first, judged, first.layers, make, parent.judge)


def _measured(context: Context, base: Base, float_layers: Sequence[str]) -> Measurement:
    bench = Bench(context.agent, context.store, base.skeleton)
    try:
        found = bench.remeasure(_int8(context, float_layers).skeleton(base.network))
    except CandidateError as error:
        raise Unfit(str(error)) from error
    if why := why_invalid(found):
        raise Unfit(f"it could not be measured in INT8 ({', '.join(why)})")
    return found


def _int8(context: Context, float_layers: Sequence[str]) -> Int8Format:
    images = next(context.data.train.batches(CALIBRATION_IMAGES, limit=CALIBRATION_IMAGES))[0].numpy()
    settings = Int8Settings(float_layers=frozenset(float_layers), operators=context.agent.int8_operators)
    return open_int8(context.format, images, settings)
