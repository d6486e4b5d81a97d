"""Precision of a run: INT8 where the board is measured to be faster by it and the answers stay, else float32.

One of the decisions for the whole network (``run.decision_kind``): the channel step, the savings of single cuts and
every candidate are then measured in that precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.config import RunConfig
from pipeline.export.format import FLOAT32, INT8
from pipeline.export.quantization.open_int8 import has_int8
from pipeline.export.quantization.qdq import OLDEST_OPSET
from pipeline.records import PrecisionDecision
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.run.decision_kind import AS_ASKED, Unfit
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
        return int8_decision(context, base, is_asked_for=is_asked_for)

    def stays(self, why: str) -> PrecisionDecision:
        """Return the decision for float32."""
        said = "networks compute in float32"
        return PrecisionDecision(precision=FLOAT32, why=f"{said}, {why}" if why == AS_ASKED else f"{said}: {why}")

    def applied(self, context: Context, decision: PrecisionDecision) -> Context:
        """Return the context whose format writes INT8 files."""
        return replace(context, format=int8_format(context, settings_of(context, decision)))

    def in_recipe(self, decision: PrecisionDecision) -> Mapping[str, Any]:
        """Return the precision, and which layers keep float32."""
        layers = list(decision.float_layers)
        return {"value": decision.precision, "float_layers": layers, "scheme": decision.scheme}


def as_decided(context: Context) -> Context:
    """Return the context of another network in the precision that a run has decided on; no layer of it stays float32.

    Args:
        context: with that network's float32 format.
    """
    decision = context.store.get(PRECISION)
    if decision is None or not decision.changes:
        return context
    return Precision().applied(context, replace(decision, float_layers=()))


def _require_int8(context: Context) -> None:
    device, task = context.agent.device, context.data.task
    if not task.puts_into_classes:
        raise Unfit(
            f"INT8 is judged by how many examples keep their class, and task {task.name} puts none into a class"
        )
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
