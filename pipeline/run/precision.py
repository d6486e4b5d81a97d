"""Precision of a run: INT8 or FP16 where the board is measured to be faster by it and the answers stay, else float32.

Decided once, for the whole network, before anything is cut: the channel step, the savings of single cuts and every
candidate are then measured in that precision. What is compared stays the float32 base, which every ratio is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from pipeline.config import RunConfig
from pipeline.devices.agent_client import Agent
from pipeline.errors import CandidateError, ConfigError
from pipeline.evaluation.candidate_builder import accuracy_as_deployed
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Note, Stage
from pipeline.export.format import FLOAT32, FP16, INT8, Format, Skeleton
from pipeline.export.formats.onnx import Onnx
from pipeline.export.fp16_format import Fp16Onnx
from pipeline.export.quantization.open_int8 import Int8File, Int8Format, has_int8, open_int8
from pipeline.export.quantization.qdq import OLDEST_OPSET, S8S8_SYMMETRIC, U8S8
from pipeline.export.quantization.quantize import CALIBRATION_IMAGES
from pipeline.measurement.validity import why_invalid
from pipeline.pruning.complexity import measures_of
from pipeline.quantization.float_runs import with_float_runs
from pipeline.quantization.gpu_precisions import lacks
from pipeline.quantization.judgement import Judgement, Parent
from pipeline.records import Figures, Interval, Measurement, PrecisionDecision
from pipeline.report.table import precision_in_words, ratio
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.run.fp16_answers import answers_in_fp16
from pipeline.store.facts import PRECISION

TENSORRT = "tensorrt"
"""The runtime."""


@dataclass(frozen=True)
class _Unfit(Exception):  # noqa: N818 - never leaves this module
    """Why a precision is not used, in a sentence."""

    why: str


def with_precision(context: Context, base: Base) -> Context:
    """Return the context with the format of the precision that the run computes in; decided once, and stored.

    Raises:
        ConfigError: a precision was asked for by name, and cannot be had; says why.
        DeviceError: the device cannot be used.
    """
    decision = context.store.get(PRECISION)
    if decision is None:
        decision = _decided(context, base)
        context.store.set(PRECISION, decision)
        context.listen(Note(decision.why))
    if decision.precision == FLOAT32:
        return context
    if decision.precision == FP16:
        return replace(context, format=_fp16(context))
    return replace(context, format=_int8(context, decision.float_layers))


def require_precision(config: RunConfig, agent: Agent, format: Format) -> None:
    """Raise ConfigError where a precision is asked for by name that this device's files cannot have."""
    if config.precision in (INT8, FP16) and (why := why_impossible(config, agent, format, config.precision)):
        raise _impossible(config.precision, why)


def why_impossible(config: RunConfig, agent: Agent, format: Format, precision: str) -> str:
    """Return why a precision is out of the question, whatever would be measured; nothing where it is not."""
    device, words = agent.device, precision_in_words(precision)
    on_gpu = device.runtime == TENSORRT
    if precision == FP16 and not on_gpu:
        return (
            f"{device.name} runs {device.runtime}, which computes no faster in FP16 on a processor; TensorRT does on a "
            "GPU (runtime: tensorrt)"
        )
    if precision == INT8 and config.sets_zeros:
        return "single weights become zero, which no INT8 file shows"
    if on_gpu and device.runtime_options.get(FP16):
        return (
            f"the inventory's runtime option fp16 builds every engine of {device.name} in half precision, the base's "
            "too; take it out there, and the run tries what it gains"
        )
    if not (isinstance(format, Onnx) if on_gpu else has_int8(format)):
        return f"{device.name} runs {device.format} files, and {words} is written as ONNX and TFLite alone"
    support = agent.onnx_support
    if precision == INT8 and device.format == "onnx" and support.opset < OLDEST_OPSET:
        return f"{device.name} loads ONNX up to opset {support.opset}, INT8 needs {OLDEST_OPSET}"
    return ""


def _impossible(precision: str, why: str) -> ConfigError:
    return ConfigError(f"precision {precision}: {why}; leave it out, or say float32")


def _decided(context: Context, base: Base) -> PrecisionDecision:
    """Return what was asked for by name, or the fastest of what the device is measured to gain by."""
    wanted = context.config.precision
    if wanted == FLOAT32:
        return PrecisionDecision(precision=FLOAT32, why="networks compute in float32, as asked for")
    if wanted != "auto":
        try:
            return _tried(context, base, wanted)
        except _Unfit as reason:
            raise _impossible(wanted, reason.why) from None
    found: list[PrecisionDecision] = []
    reasons: list[str] = []
    for precision in _candidates(context):
        try:
            found.append(_tried(context, base, precision))
        except _Unfit as reason:
            reasons.append(reason.why)
    if not found:
        return PrecisionDecision(precision=FLOAT32, why=f"networks compute in float32: {'; '.join(reasons)}")
    return _fastest(found, reasons)


def _candidates(context: Context) -> tuple[str, ...]:
    """Return what is tried unasked, the one that changes the answers least first."""
    return (FP16, INT8) if context.agent.device.runtime == TENSORRT else (INT8,)


def _fastest(found: Sequence[PrecisionDecision], reasons: Sequence[str]) -> PrecisionDecision:
    """Return the first but where a later one is faster by the whole intervals of both; it says why none of the others.

    Args:
        found: those that the device is faster by than in float32.
        reasons: why the rest is not used.
    """
    best = found[0]
    for one in found[1:]:
        if _ratio(one).high < _ratio(best).low:
            best = one
    others = [
        f"{precision_in_words(one.precision)} is "
        f"{'slower' if _ratio(one).value > _ratio(best).value else 'not surely faster'} ({_shown(one)})"
        for one in found
        if one is not best
    ]
    return replace(best, why="; ".join([best.why, *others, *reasons]))


def _tried(context: Context, base: Base, precision: str) -> PrecisionDecision:
    """Return the decision for a precision; raises _Unfit where it is out of the question, or gains nothing unasked."""
    _require_possible(context, base, precision)
    words = precision_in_words(precision)
    context.listen(Stage(f"Try the base model in {words}"))
    try:
        return _tried_in_fp16(context, base) if precision == FP16 else _tried_in_int8(context, base)
    except CandidateError as error:
        raise _Unfit(str(error)) from error


def _require_possible(context: Context, base: Base, precision: str) -> None:
    if why := why_impossible(context.config, context.agent, context.format, precision):
        raise _Unfit(why)
    if context.agent.device.runtime == TENSORRT:
        gpu = str(base.figures.measurement.conditions.get("gpu", ""))
        if why := lacks(gpu, precision):
            raise _Unfit(why)


# ---------------------------------------------------------------- INT8


def _tried_in_int8(context: Context, base: Base) -> PrecisionDecision:
    """Return the decision by what the uncut network in INT8 answers, and how fast the device is with it.

    What speaks against INT8 decides where nobody has asked for it by name; else it is said.
    """
    made, judged = _judged(context, base)
    answers = f"{judged.int8:.1%} right instead of {judged.float32:.1%}, {judged.agreement:.1%} alike"
    if not judged.is_good and context.config.precision != INT8:
        raise _Unfit(f"INT8 answers {answers}")
    measurement = _measured(context, base, INT8, _int8(context, made.float_layers).skeleton(base.network))
    stays = f"; in float32 stay {', '.join(made.float_layers)}" if made.float_layers else ""
    return _decision(
        context, base, INT8, measurement, f"{answers}{stays}",
        accuracy=judged.int8, agreement=judged.agreement, size_bytes=len(made.data), float_layers=made.float_layers,
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


def _int8(context: Context, float_layers: Sequence[str]) -> Int8Format:
    images = next(context.data.train.batches(CALIBRATION_IMAGES, limit=CALIBRATION_IMAGES))[0].numpy()
    scheme = S8S8_SYMMETRIC if context.agent.device.runtime == TENSORRT else U8S8
    return open_int8(context.format, images, float_layers=float_layers, scheme=scheme)


# ---------------------------------------------------------------- FP16


def _tried_in_fp16(context: Context, base: Base) -> PrecisionDecision:
    """Return the decision by what the uncut network in FP16 answers, and how fast the device is with it."""
    format = _fp16(context)
    file = format.file(base.network)
    found = answers_in_fp16(context, base.network, file)
    if not found.judged.is_good and context.config.precision != FP16:
        raise _Unfit(f"FP16 answers {found.in_words}")
    measurement = _measured(context, base, FP16, format.skeleton(base.network))
    limit = context.config.evaluation.search_images
    return _decision(
        context, base, FP16, measurement, found.in_words,
        accuracy=accuracy_as_deployed(base.network, format, context.data.search, limit),
        agreement=found.judged.agreement, size_bytes=len(file),
    )  # fmt: skip


def _fp16(context: Context) -> Fp16Onnx:
    assert isinstance(context.format, Onnx)  # what TensorRT loads; looked at before it was decided
    return Fp16Onnx(parent=context.format)


# ---------------------------------------------------------------- either


def _measured(context: Context, base: Base, precision: str, skeleton: Skeleton) -> Measurement:
    found = Bench(context.agent, context.store, base.skeleton).remeasure(skeleton)
    if why := why_invalid(found):
        raise _Unfit(f"it could not be measured in {precision_in_words(precision)} ({', '.join(why)})")
    return found


def _decision(
    context: Context,
    base: Base,
    precision: str,
    measurement: Measurement,
    answers: str,
    *,
    accuracy: float,
    agreement: float,
    size_bytes: int,
    float_layers: tuple[str, ...] = (),
) -> PrecisionDecision:
    """Return the decision for a precision; raises _Unfit where it is no faster, and nobody has asked for it by name."""
    words = precision_in_words(precision)
    shown = "not measured" if measurement.ratio is None else ratio(measurement.ratio)
    is_faster = measurement.ratio is not None and measurement.ratio.high < 1
    if not is_faster and context.config.precision != precision:
        raise _Unfit(f"{words} is no faster on {context.agent.device.name} ({shown} of float32's latency)")
    figures = Figures(
        search_accuracy=accuracy, test_accuracy=None, **asdict(measures_of(base.network, context.example)),
        size_bytes=size_bytes, measurement=measurement,
    )  # fmt: skip
    doubt = "" if is_faster else ", which is no faster, but asked for"
    return PrecisionDecision(
        precision=precision, base=figures, agreement=agreement, float_layers=float_layers,
        why=f"networks compute in {words}: uncut it has {shown} of float32's latency{doubt}, {answers}",
    )  # fmt: skip


def _ratio(decision: PrecisionDecision) -> Interval:
    assert decision.base is not None  # of one that was tried
    assert decision.base.measurement.ratio is not None  # else nobody took it for faster
    return decision.base.measurement.ratio


def _shown(decision: PrecisionDecision) -> str:
    return f"{ratio(_ratio(decision))} of float32's latency"
