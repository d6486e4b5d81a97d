"""One device and one base model: a real agent, a real runtime, a real store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from pipeline.agent import open_agent
from pipeline.bench import Bench, longer
from pipeline.export.skeleton import skeleton
from pipeline.records import Device, MeasureSettings
from pipeline.store import Store

QUICK = MeasureSettings(warmup_s=0.0, min_s=0.05, max_s=0.1, block_s=0.01, ci_rel=0.5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "runs", label="bench") as made:
        yield made


def relu() -> bytes:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g",
        [value("x", onnx.TensorProto.FLOAT, [1, 4096])], [value("y", onnx.TensorProto.FLOAT, [1, 4096])],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=7)
    return bytes(model.SerializeToString())


def base_of(store: Store, tmp_path: Path, settings: MeasureSettings) -> tuple[Any, Any, int]:
    """Measure the base model, and once more; return both answers and how often the device measured."""
    starts: list[object] = []
    device = Device(name="here", kind="local", agent_dir=str(tmp_path / "agent"), measure=settings)

    def on_event(event: Any) -> None:
        if event.get("stage") == "warm-up":
            starts.append(event)

    with open_agent(device, on_event=on_event) as agent:
        bench = Bench(agent, store, skeleton(relu()))
        return bench.base(), bench.base(), len(starts)


def test_what_is_known_is_not_measured_again(store: Store, tmp_path: Path) -> None:
    first, second, measured = base_of(store, tmp_path, replace(QUICK, min_s=0.2, max_s=2.0))
    assert first == second
    assert first.flags == ()
    assert measured == 1


def test_figures_in_doubt_are_taken_once_more_and_keep_their_doubts(store: Store, tmp_path: Path) -> None:
    first, second, measured = base_of(store, tmp_path, replace(QUICK, ci_rel=1e-9))
    assert first == second
    assert "noisy" in first.flags
    assert measured == 2


def test_a_longer_measurement_stays_within_limits_that_move_with_it() -> None:
    nine = longer(MeasureSettings(min_s=10, max_s=60, timeout_s=300), 9.0)
    assert (nine.min_s, nine.max_s, nine.timeout_s) == (90, 180, 420)
    assert nine.ci_rel == pytest.approx(0.02 / 9)
    assert longer(QUICK, 1.0) == QUICK
