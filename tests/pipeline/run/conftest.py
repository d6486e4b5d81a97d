"""A real store, and a real agent on this machine whose runtime is the null one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.devices.agent_client import Agent, open_agent
from pipeline.records import Device
from pipeline.store import Store
from pipeline.store.facts import CONFIG
from tests.pipeline.run.toy_run import BRIEF


@pytest.fixture(scope="module")
def null_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """Of one module: it holds the board, which tests of others wait for."""
    folder = str(tmp_path_factory.mktemp("null") / "agent")
    with open_agent(
        Device(name="here", kind="local", agent_dir=folder, runtime="null", channel_step=4, measure=BRIEF)
    ) as agent:
        yield agent


@pytest.fixture
def new_store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "runs", label="toy", facts={CONFIG: {"data": "patterns"}}) as made:
        yield made


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Sums round alike each time, and two threads do not wait for each other."""
