import pytest

from device_agents.power import SensorError, null


def test_measuring_no_power_is_always_possible():
    assert null.check({}) == "ok"


def test_no_number_stands_in_for_a_sensor():
    with pytest.raises(SensorError, match="measures nothing"):
        null.open({})
