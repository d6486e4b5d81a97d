"""The board is a folder whose thermal zone cools a little each time that somebody is told of the waiting."""

import pytest

from device_agents.cooling import settle
from device_agents.progress import Progress


@pytest.fixture
def zone(tmp_path):
    """The file of a board's one thermal zone, at 60 °C."""
    zone = tmp_path / "sys/class/thermal/thermal_zone0/temp"
    zone.parent.mkdir(parents=True)
    zone.write_text("60000\n")
    return zone


def test_it_waits_until_the_board_is_cool_and_tells_of_it(tmp_path, zone):
    told = []

    def cool_down(event):
        told.append(event["stage"])
        zone.write_text("55000\n")

    settled = settle(56.0, 0.05, Progress(cool_down), str(tmp_path))

    assert told == ["cool down"]
    assert (settled["temperature_c"], settled["reached"]) == (55.0, True)
    assert settled["waited_s"] >= 0.05


def test_it_does_not_wait_for_ever(tmp_path, zone):
    settled = settle(40.0, 0.05, Progress(lambda _: None), str(tmp_path))

    assert (settled["temperature_c"], settled["reached"]) == (60.0, False)


def test_a_board_that_is_cool_is_not_waited_for(tmp_path, zone):
    settled = settle(60.0, 5.0, Progress(pytest.fail), str(tmp_path))

    assert (settled["temperature_c"], settled["reached"], settled["waited_s"] < 5.0) == (60.0, True, True)


@pytest.mark.parametrize("below_c", [None, 40.0])
def test_where_no_limit_or_no_zone_is_known_nobody_can_tell(tmp_path, below_c):
    assert settle(below_c, 5.0, Progress(pytest.fail), str(tmp_path))["reached"] is None


def test_without_a_limit_a_hot_board_is_not_waited_for(tmp_path, zone):
    settled = settle(None, 5.0, Progress(pytest.fail), str(tmp_path))

    assert (settled["temperature_c"], settled["reached"]) == (60.0, None)
