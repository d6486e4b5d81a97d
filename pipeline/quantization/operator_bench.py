"""Operator bench: INT8 over float32 by kind of layer, width and map, as one device runs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.devices.agent_client import Agent
from pipeline.evaluation.device_bench import require_int8
from pipeline.events import Listener, Stage, Step, unheard
from pipeline.export.quantization.placement import place
from pipeline.export.quantization.qdq import write_qdq
from pipeline.export.quantization.ranges import Range
from pipeline.export.quantization.value_graph import ValueGraph
from pipeline.measurement.retries import measure_with_retries
from pipeline.measurement.validity import why_invalid
from pipeline.records import Interval, OnnxLimits

Kind = Literal["3x3", "1x1", "depthwise"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WIDTHS = (8, 16, 32, 64, 128)
SIDES = (8, 16, 32)
_LAYERS = 4
"""In a row: one alone would be half conversions at its ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRatio:
    """Four equal layers in a row, with ReLU, in INT8 over float32."""

    kind: Kind
    width: int
    """Channels, in and out."""
    side: int
    """Of the square map, in pixels."""
    ratio: Interval | None
    """Of the latencies; None: it could not be measured validly."""
    float32_ms: float | None


def operator_ratios(
    agent: Agent,
    *,
    kinds: Sequence[Kind] = KINDS,
    widths: Sequence[int] = WIDTHS,
    sides: Sequence[int] = SIDES,
    listen: Listener = unheard,
) -> Iterator[OperatorRatio]:
    """Yield each figure as it is measured, INT8 beside float32.

    Raises:
        MeasureError: the device computes less in INT8 than was planned, or refuses a file.
        DeviceError: the device cannot be used.
    """
    cases = [(kind, side, width) for kind in kinds for side in sides for width in widths]
    listen(Stage(f"Measure layers on {agent.device.name}", len(cases)))
    for number, (kind, side, width) in enumerate(cases, 1):
        yield _measured(agent, kind, width, side)
        listen(Step(number, f"{kind}, {width} channels, {side}×{side}"))


def _measured(agent: Agent, kind: Kind, width: int, side: int) -> OperatorRatio:
    model = layers(kind, width, side, agent.limits)
    graph = ValueGraph(model)
    placement = place(graph)
    clipped = {node.output[0] for node in graph.nodes if node.op_type == "Relu"}
    ranges = {name: Range(0.0, 2.0) if name in clipped else Range(-1.0, 1.0) for name in placement.ranged}
    int8 = write_qdq(placement, ranges).SerializeToString(deterministic=True)
    settings = agent.settings_for(agent.device.measure)
    found = measure_with_retries(
        lambda _: agent.measure(int8, "onnx", reference=(model.SerializeToString(), "onnx"), settings=settings),
        tolerant=agent.shared, ci_rel=settings.ci_rel,
    )  # fmt: skip
    require_int8(found, len(placement.nodes), agent.device.name)
    ratio = None if why_invalid(found) else found.ratio
    return OperatorRatio(kind=kind, width=width, side=side, ratio=ratio, float32_ms=found.reference_p50_ms)


def layers(kind: Kind, width: int, side: int, limits: OnnxLimits) -> onnx.ModelProto:
    """Return a float32 file of equal layers, each with ReLU."""
    kernel, groups = (1, 1) if kind == "1x1" else (3, width if kind == "depthwise" else 1)
    random = np.random.RandomState(0)
    nodes, tensors = [], []
    for number in range(_LAYERS):
        shape = (width, width // groups, kernel, kernel)
        weight = random.standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]))
        tensors.append(numpy_helper.from_array(weight.astype(np.float32), f"weight{number}"))
        read = "image" if number == 0 else f"relu{number - 1}"
        conv = helper.make_node(
            "Conv", [read, f"weight{number}"], [f"conv{number}"],
            group=groups, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4,
        )  # fmt: skip
        nodes.append(conv)
        last = "scores" if number == _LAYERS - 1 else f"relu{number}"
        nodes.append(helper.make_node("Relu", [f"conv{number}"], [last]))
    shape4 = [1, width, side, side]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape4)] for name in ("image", "scores")]
    imports = [helper.make_opsetid("", min(17, limits.opset))]
    graph = helper.make_graph(nodes, "layers", ends[0], ends[1], tensors)
    return helper.make_model(graph, opset_imports=imports, ir_version=min(8, limits.ir))
