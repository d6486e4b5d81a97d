"""A recorded agent on this machine, played back through the same wire."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from pipeline.devices.agent_client import Agent, open_agent
from pipeline.errors import AgentError, MeasureError
from pipeline.export.onnx.skeleton import skeleton
from pipeline.records import Measurement
from tests.recordings import QUICK, dense, recorded, rewritten, tape

BASE, CUT = dense(seed=0), dense(seed=0, width=16)
IMAGES = np.zeros((2, 64), np.float32)


def figures(measurement: Measurement) -> Measurement:
    """What was measured, without what it cost to get it."""
    return replace(measurement, seconds=0.0, bytes_sent=0, conditions={})


def test_a_measurement_is_what_the_board_answered_then(tmp_path: Path) -> None:
    kept: list[Measurement] = []

    def use(agent: Agent) -> None:
        kept.append(agent.measure(skeleton(CUT), "skeleton", reference=(skeleton(BASE), "skeleton")))

    with open_agent(tape(recorded(tmp_path, use))) as agent:
        found = agent.measure(skeleton(CUT), "skeleton", reference=(skeleton(BASE), "skeleton"))
    assert figures(found) == figures(kept[0])
    assert found.conditions["replayed"] is True
    assert "replayed" not in kept[0].conditions


def test_answers_to_one_question_come_in_their_order_and_the_last_stays(tmp_path: Path) -> None:
    kept: list[Measurement] = []

    def use(agent: Agent) -> None:
        kept.extend(agent.measure(BASE) for _ in range(2))

    with open_agent(tape(recorded(tmp_path, use))) as agent:
        found = [agent.measure(BASE) for _ in range(3)]
    assert [m.p50_ms for m in found] == [kept[0].p50_ms, kept[1].p50_ms, kept[1].p50_ms]


def test_files_of_other_weights_are_answered_for_by_their_structure(tmp_path: Path) -> None:
    path = recorded(tmp_path, lambda agent: agent.measure(CUT, reference=(skeleton(BASE), "skeleton")))
    with open_agent(tape(path)) as agent:
        alike = agent.measure(dense(seed=9, width=16), reference=(skeleton(dense(seed=8)), "skeleton"))
        same = agent.measure(CUT, reference=(skeleton(BASE), "skeleton"))
    assert figures(alike) == figures(same)


@pytest.mark.parametrize("other", ["structure", "settings", "reference"])
def test_what_was_not_recorded_is_an_error_that_says_what_was(tmp_path: Path, other: str) -> None:
    path = recorded(tmp_path, lambda agent: agent.measure(CUT))
    said = (
        r"holds no measurement of this network.*made with seed 3, target latency=0.5x, device here, runtime onnxruntime"
    )
    with open_agent(tape(path)) as agent, pytest.raises(MeasureError, match=said):
        agent.measure(
            dense(seed=0, width=24) if other == "structure" else CUT,
            settings=replace(QUICK, threads=2) if other == "settings" else QUICK,
            reference=(skeleton(BASE), "skeleton") if other == "reference" else None,
        )


def test_a_network_that_failed_on_the_board_fails_again_with_the_same_words(tmp_path: Path) -> None:
    model = onnx.load_from_string(CUT)
    model.graph.node[0].op_type = "NoSuchOperator"
    broken = skeleton(model.SerializeToString())
    said: list[str] = []

    def use(agent: Agent) -> None:
        with pytest.raises(MeasureError, match="NoSuchOperator") as refused:
            agent.measure(broken, "skeleton")
        said.append(str(refused.value))
        agent.measure(CUT)  # the board is fine

    path = recorded(tmp_path, use)
    with open_agent(tape(path)) as agent:
        for _ in range(2):
            with pytest.raises(MeasureError) as again:
                agent.measure(broken, "skeleton")
            assert str(again.value).removeprefix("tape") == said[0].removeprefix("here").replace(
                f"{tmp_path}/agent/files/", ""
            )
        assert agent.measure(CUT).inferences > 0
    assert str(tmp_path) not in gzip.decompress(path.read_bytes()).decode(), "the folder that the runtime named"


def test_outputs_are_only_those_of_the_very_file(tmp_path: Path) -> None:
    def use(agent: Agent) -> None:
        agent.verify(BASE, IMAGES)

    with open_agent(tape(recorded(tmp_path, use))) as agent:
        assert agent.verify(BASE, IMAGES).shape == (2, 32)
        with pytest.raises(MeasureError, match="holds no outputs of this very file"):
            agent.verify(dense(seed=1), IMAGES)


def test_there_is_no_board_to_hold_and_nothing_known_of_its_state(tmp_path: Path) -> None:
    with open_agent(tape(recorded(tmp_path, lambda _: None))) as agent:
        assert agent.hold() == {"applied": {}, "refused": {}}
        assert agent.telemetry().temperature_c is None
        assert agent.facts.board.endswith(", replayed")
        with pytest.raises(AgentError, match="holds no answer to meter"):
            agent.meter(1.0, 1)


def test_a_raw_answer_that_makes_no_sense_is_refused_as_from_a_board(tmp_path: Path) -> None:
    def emptied(number: int, raw: dict[str, object]) -> None:
        raw["candidate"] = {"blocks": []}

    path = rewritten(recorded(tmp_path, lambda agent: agent.measure(CUT)), emptied)
    with open_agent(tape(path)) as agent, pytest.raises(MeasureError, match="no latency samples"):
        agent.measure(CUT)
