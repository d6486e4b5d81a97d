"""What a hostile board answers ends in an error of ours or in figures that can be true, and in nothing else."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings

from pipeline.answers import Measured
from pipeline.devices.agent_client import open_agent
from pipeline.errors import AgentError, DeviceError, MeasureError, PipelineError
from tests.hostile_answers import BOARD, VERBS, WIRES, Hostile, Scripted, answers, ask, plain, steers


@settings(
    max_examples=250, deadline=None, database=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(answers())
@example(plain("measure"))
@example(plain("hello"))
def test_whatever_is_answered_ends_in_an_error_of_ours_or_in_text_that_can_be_shown(said: Hostile) -> None:
    try:
        texts = ask(said)
    except PipelineError as error:
        texts = [str(error)]
    except ValueError as error:  # of a meter's samples; the doctor shows it
        assert said.verb in ("hold", "telemetry", "meter"), said
        texts = [str(error)]
    assert not any(map(steers, texts)), texts


@pytest.mark.parametrize("verb", VERBS)
def test_what_an_honest_board_says_is_an_answer(verb: str) -> None:
    assert ask(plain(verb))


@pytest.mark.parametrize("name", sorted(WIRES))
@pytest.mark.parametrize("verb", ["hello", "measure"])
def test_whatever_happens_on_the_way_is_an_answer_or_an_error_of_ours(verb: str, name: str) -> None:
    try:
        texts = ask(plain(verb, WIRES[name]))
    except PipelineError as error:
        texts = [str(error)]
    assert not any(map(steers, texts)), texts


# ---------------------------------------------------------------- figures that cannot be true


def changed(change: Callable[[dict[str, Any]], object]) -> Hostile:
    said = plain("measure")
    change(said.result)
    return said


def blocks(raw: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = raw["candidate"]["blocks"]
    return found


def set_first(name: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda raw: blocks(raw)[0].update({name: value})


def set_power(name: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda raw: raw["power"].update({name: value})


IMPOSSIBLE: dict[str, Callable[[dict[str, Any]], object]] = {
    "an inference of 1e308 ms": lambda raw: blocks(raw)[0]["ms"].__setitem__(0, 1e308),
    "an inference of no time": lambda raw: blocks(raw)[0]["ms"].__setitem__(0, 0.0),
    "an inference of less than no time": lambda raw: blocks(raw)[1]["ms"].__setitem__(3, -1.0),
    "an inference of 10**400 ms": lambda raw: blocks(raw)[0]["ms"].__setitem__(0, 10**400),
    "an inference in words": lambda raw: blocks(raw)[0]["ms"].__setitem__(0, "20"),
    "an inference of True": lambda raw: blocks(raw)[0]["ms"].__setitem__(0, True),
    "more inferences than fit their block": lambda raw: blocks(raw)[0]["ms"].extend([20.0] * 5),
    "a block that ends before it begins": set_first("end_s", 9.0),
    "a block of no length": set_first("end_s", 10.0),
    "a block longer than the request's limit": lambda raw: blocks(raw)[1].update(end_s=500.0),
    "blocks at the end of time": lambda raw: [block.update(start_s=1e300, end_s=1e301) for block in blocks(raw)],
    "blocks that overlap": lambda raw: blocks(raw)[1].update(start_s=10.5, end_s=13.0),
    "blocks in the wrong order": lambda raw: blocks(raw).reverse(),
    "blocks that overlap the reference's": lambda raw: raw["reference"]["blocks"][0].update(start_s=10.2),
    "more blocks than were asked for": lambda raw: raw["candidate"].update(
        blocks=[{"start_s": 10 + i, "end_s": 10.5 + i, "ms": [20.0]} for i in range(9)]
    ),
    "blocks that are none": lambda raw: raw["candidate"].update(blocks=[[1, 2, [3]]]),
    "no blocks": lambda raw: raw["candidate"].update(blocks=[]),
    "-5 W": set_power("w", [-5.0] * 160),
    "one negative watt": lambda raw: raw["power"]["w"].__setitem__(7, -0.1),
    "1e308 W": set_power("w", [1e308] * 160),
    "no power at all": set_power("w", [0.0] * 160),
    "watts that are no numbers": set_power("w", [None] * 160),
    "fewer watts than times": set_power("w", [2.0] * 159),
    "times that go backwards": lambda raw: raw["power"]["t_s"].reverse(),
    "times that stand still": set_power("t_s", [10.0] * 160),
    "an interval of a year": set_power("interval_s", 3e7),
    "an unknown scope": set_power("scope", "moon"),
    "idle windows that overlap": lambda raw: raw.update(idle=[[5.0, 9.0], [8.0, 18.0]]),
    "an idle window backwards": lambda raw: raw.update(idle=[[9.0, 5.0]]),
    "an idle window of three": lambda raw: raw.update(idle=[[5.0, 9.0, 10.0]]),
    "a temperature of 1e308 °C": lambda raw: raw["after"].update(temperature_c=1e308),
    "a temperature below all": lambda raw: raw["before"].update(temperature_c=-300.0),
    "a clock of -1 MHz": lambda raw: raw["after"].update(clock_mhz=-1.0),
    "throttling in words": lambda raw: raw["after"].update(throttled="yes"),
    "throttling of 400 digits": lambda raw: raw["after"].update(throttled="0x" + "f" * 400),
    "negative memory": lambda raw: raw.update(peak_rss_mb=-1.0),
    "a negative load time": lambda raw: raw["candidate"].update(load_ms=-0.1),
    "no cores": lambda raw: raw.update(cores=0),
    "a negative number of cores": lambda raw: raw.update(cores=-4),
    "a negative time": lambda raw: raw.update(wall_s=-1.0),
    "a processor time of 1e308 s": lambda raw: raw.update(own_cpu_s=1e308),
    "other threads than were asked for": lambda raw: raw.update(threads=64),
    "no reference": lambda raw: raw.update(reference=None),
    "no power": lambda raw: raw.update(power=None),
    "a runtime of 10 MB": lambda raw: raw.update(runtime="A" * 10_000_000),
    "conditions in nests": lambda raw: raw.update(conditions={"a": [[[[1]]]]}),
    "telemetry that is none": lambda raw: raw.update(before=[1, 2]),
    "early in words": lambda raw: raw.update(early="no"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_figure_that_cannot_be_true_fails_this_one_candidate_and_the_next_is_measured(name: str) -> None:
    said = changed(IMPOSSIBLE[name])
    sessions = [Scripted(said, times=1), Scripted(plain("measure"))]
    with open_agent(BOARD, opening=lambda *_: sessions.pop(0)) as agent:
        with pytest.raises(MeasureError, match=r"^board: .*(no sense|no power)") as caught:
            agent.measure(b"{}", reference=(b"[]", "onnx"))
        assert agent.measure(b"{}", reference=(b"[]", "onnx")).p50_ms.value == 20.0
    assert len(str(caught.value)) < 600


def test_a_candidate_that_was_not_to_be_stopped_early_was_not() -> None:
    said = changed(lambda raw: raw.update(early=True))
    with (
        open_agent(BOARD, opening=lambda *_: Scripted(said)) as agent,
        pytest.raises(MeasureError, match="stopped early, and that was not requested"),
    ):
        agent.measure(b"{}", reference=(b"[]", "onnx"))


@pytest.mark.parametrize(
    "change",
    [
        {"cores": 0}, {"cores": 10**9}, {"memory_mb": -1.0}, {"memory_mb": math.inf}, {"runtimes": ["null"]},
        {"runtimes": {"null": 3}}, {"sensors": None}, {"groups": "ann"}, {"user": 0}, {"board": "A" * 10_000_000},
        {"throttled": "0xzz"}, {"helper": "x"}, {"agent_sha256": "\x1b"}, {"kernel": None}, {"simd": []},
        {"clock_mhz": "1500"}, {"temperature_c": -1e308}, {"holder": {"words": 1}}, {"groups": ["x"] * 2000},
        {"vnni": "yes"}, {"vnni": 512}, {"vnni": ["avx512_vnni"] * 2000},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_facts_that_cannot_be_true_are_the_board_s_fault(change: dict[str, Any]) -> None:
    said = plain("hello")
    said.result.update(change)
    with pytest.raises(AgentError, match=r"^board: "):
        ask(said)


def test_modes_that_nobody_asked_for_are_refused() -> None:
    said = plain("hold")
    said.result["refused"] = {"[red]reboot": "why not"}
    with pytest.raises(DeviceError, match="modes that were not requested: \\[red\\]reboot"):
        ask(said)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"shape": [3, 4]}, "which are not 3 × 4"),
        ({"shape": [5, 3]}, "outputs of 5 images, 3 were sent"),
        ({"shape": [3]}, "shape"),
        ({"shape": [-3, -5]}, "shape"),
        ({"shape": [3, 10**30]}, "shape"),
        ({"outputs": "????"}, "no base64"),
        ({"outputs": "AAAA"}, "no base64 of float32"),
        ({"outputs": "AADAfw==" * 15}, "no base64|no numbers"),
        ({"outputs": None}, "expected base64"),
    ],
)
def test_outputs_that_cannot_be_are_refused(change: dict[str, Any], problem: str) -> None:
    said = plain("verify")
    said.result.update(change)
    with pytest.raises(MeasureError, match=problem):
        ask(said)


def test_samples_may_be_whole_numbers_and_keys_may_be_more() -> None:
    raw = plain("measure").result
    raw["candidate"]["blocks"][0].update(ms=[20] * 40, more={"x": 1})
    raw.update(news="of another version")

    assert Measured.of(json.loads(json.dumps(raw))).candidate.blocks[0].ms.sum() == 800.0


def test_what_was_not_asked_is_not_held_against_an_answer() -> None:
    raw = copy.deepcopy(plain("measure").result)
    assert Measured.of(raw | {"power": None, "reference": None, "threads": 3}).power is None


def test_what_fails_before_there_is_a_candidate_is_the_board_s_fault() -> None:
    error = {"kind": "crashed", "message": "\x1b[2Jgone"}
    said = Hostile("hello", None, lambda message: {**message, "ok": False, "error": error}, lambda line: line, "")
    with pytest.raises(AgentError, match=r"board: \\x1b\[2Jgone \(crashed\)"):
        ask(said)


def test_a_listener_s_own_error_is_not_taken_for_the_board_s() -> None:
    def broken(_: object) -> None:
        raise ValueError("mine")

    events = b'{"v":2,"id":1,"event":"progress","stage":"x","seconds":1.0,"temperature_c":null}\n'
    with pytest.raises(ValueError, match="mine"):
        open_agent(BOARD, on_event=broken, opening=lambda *_: Scripted(plain("hello", lambda line: events + line)))
