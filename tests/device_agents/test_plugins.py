from pathlib import Path

import pytest

import device_agents
from device_agents import hello, plugins
from device_agents.arguments import Power
from device_agents.errors import AgentError


@pytest.mark.parametrize("kind", ["power", "runtimes"])
def test_the_folder_is_the_registry(kind):
    files = (Path(device_agents.__file__).parent / kind).glob("*.py")
    assert plugins.names(f"device_agents.{kind}") == sorted(file.stem for file in files if file.stem[0] != "_")


def test_the_sensors_are_told_the_preferred_first_and_null_last():
    names = list(hello._sensors(Power()))
    preferences = [plugins.load("device_agents.power", name).PREFERENCE for name in names]

    assert preferences == sorted(set(preferences))
    assert names[-1] == "null"


def test_a_file_that_begins_with_an_underscore_is_no_plugin():
    assert not [name for name in plugins.names("device_agents.runtimes") if name.startswith("_")]


def test_an_unknown_plugin_is_refused_with_those_that_there_are():
    with pytest.raises(AgentError, match=r"unknown runtimes plugin 'openvino'; this agent has: .*onnxruntime"):
        plugins.load("device_agents.runtimes", "openvino")


@pytest.mark.parametrize("name", ["../errors", "__init__", "", "null.x"])
def test_a_name_that_leaves_the_folder_is_no_plugin(name):
    with pytest.raises(AgentError):
        plugins.load("device_agents.runtimes", name)
