import pytest

from device_agents import arguments
from device_agents.errors import AgentError
from device_agents.protocol import BAD_REQUEST


def test_what_is_left_out_has_a_default():
    asked = arguments.measure({"v": 1, "id": 3, "verb": "measure", "candidate": "a"})

    assert (asked.reference, asked.threads, asked.seed, asked.power.wanted) == (None, 1, 0, False)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"threads": 0}, "threads is 0, expected a whole number from 1"),
        ({"threads": True}, "threads is True"),
        ({"threads": 1.5}, "threads is 1.5"),
        ({"min_s": 3, "max_s": 2}, r"min_s is 3.0, expected a number above 0 and at most max_s \(2\)"),
        ({"min_s": 0}, "min_s is 0.0"),
        ({"block_s": 0}, "block_s is 0"),
        ({"timeout_s": float("inf")}, "timeout_s is inf"),
        ({"timeout_s": 10**400}, "timeout_s is 1000"),
        ({"idle_s": -1}, "idle_s is -1"),
        ({"ci_rel": "2%"}, "ci_rel is '2%', expected a number"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"candidate": 7}, "candidate is 7, expected a text"),
        ({"reference": 7}, "reference is 7, expected a text"),
        ({"power": "ina219"}, "power is 'ina219', expected"),
        ({"power": {"backend": "rapl", "option": {}}}, "power is "),
        ({"power": {"backend": "rapl", "options": [1]}}, r"options is \[1\]"),
        ({"max": 3}, "unknown argument 'max'; known: candidate, reference"),
    ],
)
def test_a_wrong_argument_is_named_with_what_would_be_right(change, complaint):
    with pytest.raises(AgentError, match=complaint) as caught:
        arguments.measure({"candidate": "a", **change})

    assert caught.value.kind == BAD_REQUEST


def test_a_missing_model_is_named():
    with pytest.raises(AgentError, match="argument 'inputs' is missing"):
        arguments.verify({"candidate": "a"})


def test_no_power_settings_mean_no_power():
    assert not arguments.measure({"candidate": "a", "power": None}).power.wanted
    assert arguments.hello({"power": {"backend": "rapl"}}).power.wanted


def test_telemetry_takes_nothing():
    with pytest.raises(AgentError, match="unknown argument 'x'; known: none"):
        arguments.telemetry({"x": 1})
