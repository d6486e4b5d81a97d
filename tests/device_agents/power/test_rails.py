import pytest

from device_agents.power import SensorError, _rails


def test_a_part_above_the_total_is_refused_unless_the_rail_was_named():
    rails = {"POM_5V_IN": 3227, "POM_5V_GPU": 8949, "POM_5V_CPU": 500}

    with pytest.raises(SensorError, match="POM_5V_GPU shows 8949 mW, more than the input POM_5V_IN"):
        _rails.total_w(rails)
    assert _rails.total_w(rails, "POM_5V_GPU") == 8.949


def test_a_board_with_unknown_rails_wants_the_rail_named():
    with pytest.raises(SensorError, match="name it with the option rail"):
        _rails.total_w({"VDD_NEW": 1})
    with pytest.raises(SensorError, match="shows no rail VDD_IN; it shows VDD_NEW"):
        _rails.total_w({"VDD_NEW": 1}, "VDD_IN")
