"""INT8 tried on a real agent: the form that the board is fastest in, blocks that leave it, and why, in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

import pipeline.run.int8_trial as int8_trial
from pipeline.devices.agent_client import Agent, open_agent
from pipeline.errors import MeasureError
from pipeline.evaluation.device_bench import Bench
from pipeline.export.format import Skeleton, open_format
from pipeline.export.quantization.int8_settings import Int8Settings
from pipeline.export.quantization.qdq import SCHEMES
from pipeline.pruning.trace import trace
from pipeline.quantization.float_blocks import FloatBlocks
from pipeline.recipes.int8 import quantized
from pipeline.recipes.recipe import Recipe, parse, to_text
from pipeline.records import Device, Interval, Measurement, PrecisionDecision, Processor, WeightBits
from pipeline.run.base_model import Base, make_base
from pipeline.run.context import Context
from pipeline.run.decision_kind import Unfit
from pipeline.run.int8_trial import int8_decision, int8_format, settings_of
from pipeline.run.precision import Precision
from pipeline.store import Store
from tests.pipeline.export.quantization.networks import largest_weight
from tests.pipeline.listening import Listener
from tests.pipeline.run.toy_run import BRIEF, net, took, toy_context


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    folder = str(tmp_path_factory.mktemp("int8") / "agent")
    with open_agent(Device(name="here", kind="local", agent_dir=folder, channel_step=4, measure=BRIEF)) as opened:
        yield opened


@pytest.fixture
def heard() -> Listener:
    return Listener()


@pytest.fixture
def context(new_store: Store, agent: Agent, heard: Listener) -> Context:
    found = toy_context(new_store, agent, heard, precision="int8")
    network = trace(net(), found.example, classes=4)
    return replace(found, format=open_format("onnx", network, found.example, support=agent.onnx_support))


@pytest.fixture
def base(context: Context) -> Base:
    return make_base(context, net())


def test_asked_for_by_name_it_is_taken_and_what_speaks_against_it_is_said(context: Context, base: Base) -> None:
    found = int8_decision(context, base, is_asked_for=True)
    assert (found.precision, found.scheme) == ("int8", "u8s8")
    assert found.base is not None
    assert found.base.measurement.conditions["int8_operators"] >= 3
    assert found.why.startswith("networks compute in INT8: uncut it has ")
    assert settings_of(context, found).operators == context.agent.int8_operators


def test_off_x86_the_board_tries_each_form_and_the_fastest_that_is_right_stays(
    context: Context, base: Base, heard: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context.agent, "facts", replace(context.agent.facts, machine="aarch64"))
    found = int8_decision(context, base, is_asked_for=True)
    (note,) = [note for note in heard.notes if note.startswith("forms of INT8 on here: ")]
    assert "u8s8 " in note
    assert "s8s8 " in note.partition("u8s8 ")[2]
    assert found.scheme in ("u8s8", "s8s8")  # alike fast here, where each value has one reader
    assert context.store.recall(f"1:structure {structure_of(context, base, found.scheme)} again process 1") is not None


def structure_of(context: Context, base: Base, scheme: str) -> str:
    return int8_format(context, Int8Settings(scheme=SCHEMES[scheme])).skeleton(base.network).structure


def test_a_form_that_the_board_computes_in_float32_is_refused(
    context: Context, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an x86 computes signed activations around a shortcut: the agent counts less than was planned."""
    monkeypatch.setattr(context.agent, "facts", replace(context.agent.facts, machine="aarch64"))
    measured = Bench.remeasure

    def remeasure(self: Bench, skeleton: Skeleton) -> Measurement:
        if "s8s8" not in skeleton.structure:
            return measured(self, skeleton)
        raise MeasureError("here computes 3 of 9 operators in INT8")

    monkeypatch.setattr(Bench, "remeasure", remeasure)
    assert int8_decision(context, base, is_asked_for=True).scheme == "u8s8"


@pytest.mark.parametrize(("signed", "taken"), [(0.4, "s8s8"), (0.595, "u8s8")])
def test_the_usual_form_stays_unless_another_is_surely_faster(
    context: Context, base: Base, monkeypatch: pytest.MonkeyPatch, signed: float, taken: str
) -> None:
    monkeypatch.setattr(context.agent, "facts", replace(context.agent.facts, machine="aarch64"))
    monkeypatch.setattr(
        Bench, "remeasure", lambda _, probe: took(signed if "s8s8" in probe.structure else 0.6, half=0.01)
    )
    monkeypatch.setattr(int8_trial, "float_blocks", lambda *_: None)
    assert int8_decision(context, base, is_asked_for=False).scheme == taken


def test_the_form_decided_for_is_that_of_every_file(context: Context, base: Base) -> None:
    decided = PrecisionDecision(precision="int8", why="", scheme="s8s8", float_layers=("conv1.weight",))
    settings = settings_of(context, decided)
    made = int8_format(context, settings)
    assert made.skeleton(base.network).structure == settings.structure(base.network)
    usual = int8_format(context, replace(settings, scheme=SCHEMES["u8s8"]))
    assert made.file(base.network) != usual.file(base.network)


def test_blocks_that_the_board_is_faster_without_leave_int8_and_the_reason_is_said(
    context: Context, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratio = Interval(0.9, 0.88, 0.92)
    layers = ("conv1.weight", "conv2.weight")
    monkeypatch.setattr(int8_trial, "float_blocks", lambda *_: FloatBlocks(layers=layers, ratio=ratio))
    found = int8_decision(context, base, is_asked_for=True)
    assert set(found.float_layers) == set(layers)
    assert "in float32 stay conv1.weight, conv2.weight, by which the device is faster: 0.90×" in found.why
    assert found.base is not None
    assert found.base.measurement.conditions["int8_operators"] < 5
    config = context.config.model_copy(update={"float_blocks": "accuracy"})
    brief = int8_decision(replace(context, config=config), base, is_asked_for=True)
    assert brief.float_layers == ()


def test_where_nobody_asked_for_it_no_gain_is_a_reason_against(
    context: Context, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_trial, "_is_faster", lambda _: False)
    with pytest.raises(Unfit, match="INT8 is no faster on here"):
        int8_decision(context, base, is_asked_for=False)


WITH, WITHOUT = Processor("x86_64", has_vnni=True), Processor("x86_64", has_vnni=False)


@pytest.mark.parametrize(
    ("board", "host", "bits", "said"),
    [
        (WITH, WITH, 8, ""),
        (WITH, WITHOUT, 7, "weights have seven bits: those of eight saturate on this machine, an x86 processor"),
        (WITHOUT, WITH, 7, "weights have seven bits: those of eight saturate on here, an x86 processor"),
    ],
    ids=["neither saturates", "the host", "the board"],
)
def test_how_many_bits_weights_have_is_decided_by_board_and_host_and_said(
    context: Context,
    base: Base,
    monkeypatch: pytest.MonkeyPatch,
    board: Processor,
    host: Processor,
    bits: int,
    said: str,
) -> None:
    facts = replace(context.agent.facts, machine=board.machine, vnni=board.has_vnni)
    monkeypatch.setattr(context.agent, "facts", facts)
    monkeypatch.setattr(int8_trial, "host_processor", lambda: host)
    found = int8_decision(context, base, is_asked_for=True)
    assert found.weight_bits == settings_of(context, found).scheme.weight_bits == bits
    assert said in found.why
    assert ("seven bits" in found.why) == (bits == 7)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(("bits", "largest"), [(7, 63), (8, 127)])
def test_a_recipe_gives_the_runs_own_bytes_on_any_processor(
    context: Context, base: Base, monkeypatch: pytest.MonkeyPatch, bits: WeightBits, largest: int, machine: str
) -> None:
    decided = PrecisionDecision(precision="int8", why="", weight_bits=bits)
    ours = int8_format(context, settings_of(context, decided)).file(base.network)
    recipe = Recipe(
        model="net.py:Net", classes=4, input_shape=context.data.shape, parameters=1, weights_sha256="0" * 64, cuts=(),
        seed=0, decisions={"precision": Precision().in_recipe(decided)},
    )  # fmt: skip
    monkeypatch.setattr("platform.machine", lambda: machine)
    parent = context.format.file(base.network)
    theirs = quantized(base.network, parent, parse(to_text(recipe)), context.data, context.format, 16)
    assert (theirs.data, theirs.weight_bits) == (ours, bits)
    assert largest_weight(ours) == largest
