"""Records to JSON and back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline import serialization
from pipeline.records import Artifact, DeviceFacts, Interval, Measurement, PruningPlan, SearchSpace, Trial
from tests.examples import artifact, device_facts, failed_trial, measurement, power, space, trial


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        (Trial, trial(measurement=measurement(power=power()))),
        (Trial, failed_trial()),
        (SearchSpace, space()),
        (Artifact, artifact({"model.onnx": "ab" * 32})),
        (DeviceFacts, device_facts()),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_record_comes_back_from_its_text_as_it_was(kind: type[Any], record: object) -> None:
    assert serialization.load(kind, json.loads(serialization.to_text(record))) == record


def test_a_plan_of_a_version_that_knew_no_zeros_is_read_as_one_without_any() -> None:
    plan = serialization.load(PruningPlan, {"levels": [0, 50], "criterion": "l1"})
    assert plan == PruningPlan(levels=(0, 50))
    assert space().network_key(plan) == space().key((0, 50))


def test_zeros_come_back_to_the_last_bit_and_tell_networks_of_one_shape_apart() -> None:
    plan = PruningPlan(levels=(0, 0), zeros=(1 / 3, 0.0))
    assert serialization.load(PruningPlan, json.loads(serialization.to_text(plan))) == plan
    other = space().network_key(replace(plan, zeros=(1 / 3, 1e-9)))
    assert space().network_key(plan) != other
    assert other.startswith(space().key((0, 0)))


def test_a_power_over_the_base_of_a_version_that_knew_no_interval_is_read_as_one_of_unknown_width() -> None:
    plain = serialization.dump(measurement(power=power())) | {"power_ratio": 0.8, "energy_ratio": 0.4}
    found = serialization.load(Measurement, plain)
    assert found.power_ratio == Interval(0.8, 0.0, 1.6)
    assert found.energy_ratio == Interval(0.4, 0.0, 0.8)
    assert serialization.load(Measurement, serialization.from_text(serialization.to_text(found))) == found


@pytest.mark.parametrize("stored", [0.0, -0.5, "0.5", True, {"value": -1.0, "low": -2.0, "high": 0.0}])
def test_a_power_over_the_base_that_cannot_be_is_refused(stored: object) -> None:
    with pytest.raises(ValueError, match="energy_ratio"):
        serialization.load(Measurement, serialization.dump(measurement()) | {"energy_ratio": stored})


def test_the_largest_figure_of_unknown_width_can_be_written() -> None:
    found = serialization.load(Measurement, serialization.dump(measurement()) | {"energy_ratio": 1.7e308})
    assert serialization.from_text(serialization.to_text(found))["energy_ratio"]["value"] == 1.7e308


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_a_figure_that_is_no_number_is_refused(figure: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        serialization.to_text(trial(terms={"power": figure}))
    with pytest.raises(ValueError, match="not JSON compliant"):
        serialization.to_text({"seconds": figure})


def test_a_figure_that_numpy_computed_is_stored_as_the_number_it_is() -> None:
    assert serialization.dump(trial(reward=np.float64(0.5)))["reward"] == 0.5


def test_a_field_of_another_type_is_refused_when_it_is_written() -> None:
    with pytest.raises(ValueError, match="Trial"):
        serialization.to_text(replace(trial(), reward="high"))


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON serializable"):
        serialization.to_text({"model": object()})


def test_reading_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="Interval"):
        serialization.load(Interval, {"value": "high"})
