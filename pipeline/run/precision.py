"""Precision of a run: INT8 or FP16 where the board is measured to be faster by it and the answers stay, else float32.

One of the decisions for the whole network (``run.decision_kind``): the channel step, the savings of single cuts and
every candidate are then measured in that precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.config import RunConfig
from pipeline.export.format import FLOAT32, FP16, INT8
from pipeline.export.formats.onnx import Onnx
from pipeline.export.quantization.open_int8 import has_int8
from pipeline.export.quantization.qdq import OLDEST_OPSET
from pipeline.quantization.gpu_precisions import lacks
from pipeline.quantization.schemes import TENSORRT
from pipeline.records import PrecisionDecision
from pipeline.report.table import precision_in_words
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.run.decision_kind import AS_ASKED, Circumstances, Unfit
from pipeline.run.fp16_trial import fp16_decision, fp16_format
from pipeline.run.int8_trial import int8_decision, int8_format, settings_of
from pipeline.store.facts import PRECISION


class Precision:
    """The kind of decision that says in which precision a network computes."""

    fact = PRECISION
    unchanged = FLOAT32

    def wanted(self, config: RunConfig) -> str:
        """Return the setting."""
        return config.precision

    def values(self, context: Context) -> Sequence[str]:
        """Return the precisions beside float32, the one that changes the answers least first."""
        return (FP16, INT8) if context.agent.device.runtime == TENSORRT else (INT8,)

    def require_possible(self, known: Circumstances, value: str) -> None:
        """Raise Unfit where the board's runtime, the run's target or its task has no such precision."""
        if why := why_impossible(known, value):
            raise Unfit(why)

    def tried(self, context: Context, base: Base, value: str, *, is_asked_for: bool) -> PrecisionDecision:
        """Return the decision by what the uncut network answers in a precision, and how fast the device is with it."""
        if context.agent.device.runtime == TENSORRT:
            gpu = str(base.figures.measurement.conditions.get("gpu", ""))
            if why := lacks(gpu, value):
                raise Unfit(why)
        decide = fp16_decision if value == FP16 else int8_decision
        return decide(context, base, is_asked_for=is_asked_for)

    def stays(self, why: str) -> PrecisionDecision:
        """Return the decision for float32."""
        said = "networks compute in float32"
        return PrecisionDecision(precision=FLOAT32, why=f"{said}, {why}" if why == AS_ASKED else f"{said}: {why}")

    def applied(self, context: Context, decision: PrecisionDecision) -> Context:
        """Return the context whose format writes files in the precision."""
        if decision.precision == FP16:
            return replace(context, format=fp16_format(context))
        return replace(context, format=int8_format(context, settings_of(context, decision)))

    def in_words(self, decision: PrecisionDecision) -> str:
        """Return what the precision is called."""
        return precision_in_words(decision.precision)

    def in_recipe(self, decision: PrecisionDecision) -> Mapping[str, Any]:
        """Return the precision, and of INT8 which layers keep float32 and how the others are rounded."""
        if decision.precision != INT8:
            return {"value": decision.precision}
        return {
            "value": decision.precision,
            "float_layers": list(decision.float_layers),
            "scheme": decision.scheme,
            "weight_bits": decision.weight_bits,
        }


def as_decided(context: Context) -> Context:
    """Return the context of another network in the precision that a run has decided on; no layer of it stays float32.

    Args:
        context: with that network's float32 format.
    """
    decision = context.store.get(PRECISION)
    if decision is None or not decision.changes:
        return context
    return Precision().applied(context, replace(decision, float_layers=()))


def why_impossible(known: Circumstances, precision: str) -> str:
    """Return why a precision is out of the question, whatever would be measured; nothing where it is not."""
    agent, format, task = known.agent, known.format, known.task
    device, words = agent.device, precision_in_words(precision)
    on_gpu = device.runtime == TENSORRT
    if precision == FP16 and not on_gpu:
        return (
            f"{device.name} runs {device.runtime}, which computes no faster in FP16 on a processor; TensorRT does on a "
            "GPU (runtime: tensorrt)"
        )
    if not task.puts_into_classes:
        return f"{words} is judged by how many examples keep their class, and task {task.name} puts none into a class"
    if precision == INT8 and known.config.sets_zeros:
        return "single weights become zero, which no INT8 file shows"
    if on_gpu and device.runtime_options.get(FP16):
        return (
            f"the inventory's runtime option fp16 builds every engine of {device.name} in half precision, the base's "
            "too; take it out there, and the run tries what it gains"
        )
    if not (isinstance(format, Onnx) if on_gpu else has_int8(format)):
        return f"{device.name} runs {device.format} files, and {words} is written as ONNX and TFLite alone"
    if precision == INT8 and device.format == "onnx":
        if agent.int8_operators == frozenset():
            return f"{device.name}'s {device.runtime} computes nothing in INT8; bring a newer one to the board"
        if (support := agent.onnx_support).opset < OLDEST_OPSET:
            return f"{device.name} loads ONNX up to opset {support.opset}, INT8 needs {OLDEST_OPSET}"
    return ""
