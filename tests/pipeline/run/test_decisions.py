"""Decisions for the whole network: each kind taken once by what the device measures, applied, stored, named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pipeline.config import RunConfig
from pipeline.devices.agent_client import Agent
from pipeline.errors import ConfigError
from pipeline.records import Figures, Interval, PrecisionDecision
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.run.decision_kind import Circumstances, Unfit
from pipeline.run.decisions import KINDS, _fastest, with_decisions
from pipeline.run.precision import Precision
from pipeline.store import Store
from pipeline.store.decisions import uncut, uncut_latency, uncut_size
from pipeline.store.facts import DECISIONS, PRECISION
from tests.examples import measurement
from tests.pipeline.listening import Listener
from tests.pipeline.run.toy_run import NullFiles, Toy, took, toy_context


class Shrunk:
    """A toy kind: values are shares of the base model's latency."""

    fact = PRECISION
    unchanged = "whole"

    def __init__(self, wanted: str = "auto", *values: str, refused: str = "") -> None:
        self._wanted, self._values, self._refused = wanted, values, refused
        self.measured: list[str] = []

    def wanted(self, config: RunConfig) -> str:
        del config
        return self._wanted

    def values(self, context: Context) -> Sequence[str]:
        del context
        return self._values

    def require_possible(self, known: Circumstances, value: str) -> None:
        if value == self._refused:
            raise Unfit(f"{known.agent.device.name} has no {value}")

    def tried(self, context: Context, base: Base, value: str, *, is_asked_for: bool) -> PrecisionDecision:
        del context
        self.measured.append(value)
        if float(value) >= 1 and not is_asked_for:
            raise Unfit(f"{value} is no faster")
        figures = replace(base.figures, measurement=took(float(value)), size_bytes=base.figures.size_bytes // 2)
        return PrecisionDecision(precision=value, why=f"networks are {value}", base=figures)

    def stays(self, why: str) -> PrecisionDecision:
        return PrecisionDecision(precision="float32", why=why)

    def applied(self, context: Context, decision: PrecisionDecision) -> Context:
        return replace(context, format=NullFiles(context.example, precision=decision.precision))

    def in_words(self, decision: PrecisionDecision) -> str:
        return decision.precision.upper()

    def in_recipe(self, decision: PrecisionDecision) -> Mapping[str, Any]:
        return {"value": decision.precision}


@pytest.fixture
def heard() -> Listener:
    return Listener()


@pytest.fixture
def toy(new_store: Store, null_agent: Agent, heard: Listener) -> Toy:
    return Toy(context=toy_context(new_store, null_agent, heard))


def test_the_fastest_value_that_is_fit_is_applied_told_and_stored(toy: Toy, heard: Listener) -> None:
    kind = Shrunk("auto", "0.7", "0.4", "1.2")
    context = with_decisions(toy.context, toy.base, (kind,))
    assert context.format.precision == "0.4"
    assert heard.notes[-1] == (
        "networks are 0.4; 0.7 is slower (0.70× [0.70, 0.70] of the base model's latency); 1.2 is no faster"
    )
    store = toy.context.store
    assert store.required(PRECISION).precision == "0.4"
    assert uncut_latency(store) == 0.4
    assert uncut_size(store, toy.base.figures) == pytest.approx(0.5, rel=0.01)


def test_a_decision_is_taken_once_in_a_run(toy: Toy) -> None:
    kind = Shrunk("auto", "0.7")
    with_decisions(toy.context, toy.base, (kind,))
    again = with_decisions(toy.context, toy.base, (kind,))
    assert kind.measured == ["0.7"]
    assert again.format.precision == "0.7"


def test_where_nothing_is_fit_networks_stay_as_they_are_and_every_reason_is_told(toy: Toy) -> None:
    context = with_decisions(toy.context, toy.base, (Shrunk("auto", "0.5", "1.2", refused="0.5"),))
    assert context.format is toy.context.format
    assert toy.context.store.required(PRECISION).why == "here has no 0.5; 1.2 is no faster"
    assert uncut(toy.context.store) is None
    assert uncut_latency(toy.context.store) == uncut_size(toy.context.store, toy.base.figures) == 1.0


def test_a_value_asked_for_by_name_is_taken_or_refused_with_the_reason(toy: Toy) -> None:
    with pytest.raises(ConfigError, match=r"precision 0\.5: here has no 0\.5; leave it out, or say whole"):
        with_decisions(toy.context, toy.base, (Shrunk("0.5", refused="0.5"),))
    assert with_decisions(toy.context, toy.base, (Shrunk("1.2"),)).format.precision == "1.2"


def test_the_value_that_changes_nothing_is_not_even_tried(toy: Toy) -> None:
    kind = Shrunk("whole", "0.5")
    assert with_decisions(toy.context, toy.base, (kind,)).format is toy.context.format
    assert kind.measured == []


def test_kinds_and_their_facts_stand_in_one_order() -> None:
    assert tuple(kind.fact for kind in KINDS) == DECISIONS
    assert isinstance(KINDS[0], Precision)


def tried(precision: str, value: float, low: float, high: float) -> PrecisionDecision:
    figures = Figures(
        search_accuracy=0.9, test_accuracy=None, parameters=1, macs=1, size_bytes=1,
        measurement=measurement(1.0, ratio=Interval(value, low, high)),
    )  # fmt: skip
    return PrecisionDecision(precision=precision, why=f"networks compute in {precision}", base=figures)


@pytest.mark.parametrize(
    ("int8", "taken", "said"),
    [
        ((0.40, 0.38, 0.42), "int8", "FP16 is slower (0.60× [0.50, 0.70] of the base model's latency)"),
        ((0.55, 0.45, 0.65), "fp16", "INT8 is not surely faster (0.55× [0.45, 0.65] of the base model's latency)"),
        ((0.80, 0.75, 0.85), "fp16", "INT8 is slower (0.80× [0.75, 0.85] of the base model's latency)"),
    ],
)
def test_int8_is_taken_before_fp16_where_it_is_faster_by_both_intervals(
    int8: tuple[float, float, float], taken: str, said: str
) -> None:
    found = _fastest(Precision(), [tried("fp16", 0.60, 0.50, 0.70), tried("int8", *int8)], ["and a reason"])
    assert found.precision == taken
    assert found.why == f"networks compute in {taken}; {said}; and a reason"
