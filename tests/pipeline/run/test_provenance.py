"""What a run keeps of the device that it begins with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.devices.agent_client import Agent, open_agent
from pipeline.devices.stored_calibrations import store_calibration
from pipeline.events import Event, Note
from pipeline.measurement.calibration import Calibration, Conditions
from pipeline.records import Device
from pipeline.run.provenance import remember_calibration
from pipeline.store import Store
from pipeline.store.facts import CALIBRATION
from tests.examples import calibration


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    device = Device(name="here", kind="local", agent_dir=str(tmp_path / "agent"), runtime="null")
    with open_agent(device) as agent:
        yield agent


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "runs", label="provenance") as made:
        yield made


def calibrated(agent: Agent, **changes: object) -> Calibration:
    now = Conditions.of(agent.device, agent.facts, agent.device.measure)
    found = calibration(device="here", conditions=replace(now, **changes))  # type: ignore[arg-type]
    store_calibration(agent.device, found)
    return found


def test_a_run_keeps_the_calibration_that_holds_for_its_device(store: Store, agent: Agent) -> None:
    heard: list[Event] = []
    known = calibrated(agent)
    remember_calibration(store, agent, heard.append)

    assert store.get(CALIBRATION) == known
    assert heard == []


def test_one_that_does_not_hold_is_not_kept_and_the_user_is_told_why(store: Store, agent: Agent) -> None:
    heard: list[Event] = []
    calibrated(agent, runtime="null 0")
    remember_calibration(store, agent, heard.append)

    assert store.get(CALIBRATION) is None
    assert [type(event) for event in heard] == [Note]
    assert str(heard[0]).count("not used: the calibration of 2026-11-30 is of another runtime: null 0, now null") == 1


def test_without_one_there_is_nothing_to_keep_or_to_tell(store: Store, agent: Agent) -> None:
    heard: list[Event] = []
    remember_calibration(store, agent, heard.append)

    assert (store.get(CALIBRATION), heard) == (None, [])
