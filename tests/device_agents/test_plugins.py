import pytest

from device_agents import plugins
from device_agents.errors import AgentError


def test_the_folder_is_the_registry():
    assert plugins.names("device_agents.power") == ["hwmon", "ina219", "ina3221", "null", "pmic", "rapl", "tegrastats"]
    assert {"null", "null_engine", "onnxruntime", "tensorrt"} <= set(plugins.names("device_agents.runtimes"))


def test_a_file_that_begins_with_an_underscore_is_no_plugin():
    assert not [name for name in plugins.names("device_agents.runtimes") if name.startswith("_")]


def test_an_unknown_plugin_is_refused_with_those_that_there_are():
    with pytest.raises(AgentError, match=r"unknown runtimes plugin 'openvino'; this agent has: null, .*onnxruntime"):
        plugins.load("device_agents.runtimes", "openvino")


@pytest.mark.parametrize("name", ["../errors", "__init__", "", "null.x"])
def test_a_name_that_leaves_the_folder_is_no_plugin(name):
    with pytest.raises(AgentError):
        plugins.load("device_agents.runtimes", name)
