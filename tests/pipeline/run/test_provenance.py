"""What a run keeps of what it is made of: device, input, seed, versions, git state."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.devices.agent_client import Agent, open_agent
from pipeline.devices.stored_calibrations import store_calibration
from pipeline.events import Event, Note
from pipeline.measurement.calibration import Calibration, Conditions
from pipeline.records import Device
from pipeline.run.provenance import remember_calibration, store_provenance
from pipeline.store import Store
from pipeline.store.facts import CALIBRATION, CLASSES, DEVICE, DEVICE_FACTS, GIT, INPUT, SEED, VERSIONS
from tests.examples import calibration
from tests.pipeline.run.toy_run import toy_context


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


def test_a_run_says_of_which_device_input_seed_and_versions_it_is(store: Store, agent: Agent) -> None:
    store_provenance(toy_context(store, agent, seed=5))
    told = {"name": "here", "kind": "local", "power": agent.power_backend, "runtime": "null"}
    assert store.get(DEVICE) == told
    assert store.get(DEVICE_FACTS) == agent.facts
    assert store.get(CLASSES) == ["flat", "across", "down", "chequered"]
    assert store.get(INPUT) == {"name": "image", "shape": [1, 6, 6], "mean": [0.4], "std": [0.3], "fitting": None}
    assert store.get(SEED) == 5
    versions = store.required(VERSIONS)
    assert versions["python"] == platform.python_version()
    assert {"torch", "onnxruntime", "numpy"} <= versions.keys()


def test_a_resumed_run_knows_the_device_as_it_is_now_and_goes_by_its_first_calibration(
    store: Store, agent: Agent
) -> None:
    store_provenance(toy_context(store, agent))
    before = store.required(DEVICE_FACTS)
    store.set(DEVICE_FACTS, replace(before, kernel="an older one"))
    calibrated(agent)
    store_provenance(toy_context(store, agent))
    assert store.get(DEVICE_FACTS) == before
    assert store.get(CALIBRATION) is None


def test_the_commit_of_the_folder_is_kept_with_whether_it_was_changed(
    store: Store, agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkout"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    store_provenance(toy_context(store, agent))
    assert store.get(GIT) is None  # no checkout

    (folder / "net.py").write_text("width = 8\n")
    git = ("git", "-c", "user.name=tester", "-c", "user.email=tester@example.org")
    for command in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "-m", "first")):
        subprocess.run([*git, *command], check=True, capture_output=True)
    store_provenance(toy_context(store, agent))
    commit = store.required(GIT)
    assert len(commit) == 12

    (folder / "net.py").write_text("width = 16\n")
    store_provenance(toy_context(store, agent))
    assert store.get(GIT) == f"{commit}-dirty"
