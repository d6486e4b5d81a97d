"""Precision of a run: INT8 where the board is measured to be faster by it and the answers stay, else float32.

Decided once, for the whole network, before anything is cut: the channel step, the savings of single cuts and every
candidate are then measured in that precision. What is compared stays the float32 base, which every ratio is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from pipeline.errors import CandidateError, ConfigError
from pipeline.evaluation.device_bench import Bench
from pipeline.evaluation.file_accuracy import file_score
from pipeline.events import Note, Stage
from pipeline.export.format import FLOAT32, INT8
from pipeline.export.quantization.open_int8 import Int8File, Int8Format, has_int8, open_int8
from pipeline.export.quantization.qdq import OLDEST_OPSET
from pipeline.export.quantization.quantize import CALIBRATION_IMAGES
from pipeline.export.signature import packed
from pipeline.measurement.validity import why_invalid
from pipeline.pruning.complexity import measures_of
from pipeline.quantization.float_runs import with_float_runs
from pipeline.quantization.judgement import Judgement, Parent
from pipeline.records import Figures, Measurement, PrecisionDecision
from pipeline.report.table import ratio
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.store.facts import PRECISION


@dataclass(frozen=True)
class _Unfit(Exception):  # noqa: N818 - never leaves this module
    """Why INT8 is not used, in a sentence."""

    why: str


def with_precision(context: Context, base: Base) -> Context:
    """Return the context with the format of the precision that the run computes in; decided once, and stored.

    Raises:
        ConfigError: INT8 was asked for by name, and cannot be had; says why.
        DeviceError: the device cannot be used.
    """
    decision = context.store.get(PRECISION)
    if decision is None:
        decision = _decided(context, base)
        context.store.set(PRECISION, decision)
        context.listen(Note(decision.why))
    return context if decision.precision == FLOAT32 else replace(context, format=_int8(context, decision.float_layers))


def as_decided(context: Context) -> Context:
    """Return the context of another network in the precision that a run has decided on; no layer of it stays float32.

    Args:
        context: with that network's float32 format.
    """
    decision = context.store.get(PRECISION)
    is_float = decision is None or decision.precision == FLOAT32
    return context if is_float else replace(context, format=_int8(context, ()))


def base_accuracy_as_decided(context: Context, base: Base) -> float:
    """Return the uncut network's score on the test split in the run's precision."""
    return file_score(context.format.file(base.network), context.data.test, context.data.task)


def _decided(context: Context, base: Base) -> PrecisionDecision:
    wanted = context.config.precision
    if wanted == FLOAT32:
        return PrecisionDecision(precision=FLOAT32, why="networks compute in float32, as asked for")
    try:
        _require_possible(context)
        return _tried(context, base)
    except _Unfit as reason:
        if wanted == INT8:
            raise ConfigError(f"precision int8: {reason.why}; leave it out, or say float32") from None
        return PrecisionDecision(precision=FLOAT32, why=f"networks compute in float32: {reason.why}")


def _require_possible(context: Context) -> None:
    device, task = context.agent.device, context.data.task
    if not task.puts_into_classes:
        raise _Unfit(
            f"INT8 is judged by how many examples keep their class, and task {task.name} puts none into a class"
        )
    if context.config.sets_zeros:
        raise _Unfit("single weights become zero, which no INT8 file shows")
    if device.runtime == "tensorrt":
        raise _Unfit(
            f"INT8 is written for ONNX Runtime and TFLite, {device.name} runs TensorRT; FP16 is its runtime option fp16"
        )
    if not has_int8(context.format):
        raise _Unfit(f"{device.name} runs {device.format} files, and INT8 is written as ONNX and TFLite alone")
    support = context.agent.onnx_support
    if device.format == "onnx" and support.opset < OLDEST_OPSET:
        raise _Unfit(f"{device.name} loads ONNX up to opset {support.opset}, INT8 needs {OLDEST_OPSET}")


def _tried(context: Context, base: Base) -> PrecisionDecision:
    """Return the decision by what the uncut network in INT8 answers, and how fast the device is with it.

    What speaks against INT8 decides where nobody has asked for it by name; else it is said.
    """
    context.listen(Stage("Try the base model in INT8"))
    try:
        made, judged = _judged(context, base)
    except CandidateError as error:
        raise _Unfit(str(error)) from error
    is_asked_for = context.config.precision == INT8
    answers = f"{judged.int8:.1%} right instead of {judged.float32:.1%}, {judged.agreement:.1%} alike"
    if not judged.is_good and not is_asked_for:
        raise _Unfit(f"INT8 answers {answers}")
    measurement = _measured(context, base, made.float_layers)
    shown = "not measured" if measurement.ratio is None else ratio(measurement.ratio)
    is_faster = measurement.ratio is not None and measurement.ratio.high < 1
    if not is_faster and not is_asked_for:
        raise _Unfit(f"INT8 is no faster on {context.agent.device.name} ({shown} of float32's latency)")
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
        raise _Unfit(str(error)) from error
    if why := why_invalid(found):
        raise _Unfit(f"it could not be measured in INT8 ({', '.join(why)})")
    return found


def _int8(context: Context, float_layers: Sequence[str]) -> Int8Format:
    images = packed(next(context.data.train.batches(CALIBRATION_IMAGES, limit=CALIBRATION_IMAGES))[0])
    return open_int8(context.format, images, float_layers=float_layers)
