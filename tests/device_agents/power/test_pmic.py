import pytest

from device_agents.power import SensorError, pmic
from tests.device_agents.power import odd

ANSWER = """\
  3V7_WL_SW_A current(0)=0.01200000A
  3V3_SYS_A current(1)=0.20000000A
  VDD_CORE_A current(7)=1.50000000A
  3V7_WL_SW_V volt(8)=3.70000000V
  3V3_SYS_V volt(9)=3.30000000V
  VDD_CORE_V volt(15)=0.80000000V
  EXT5V_V volt(24)=5.12000000V
  BATT_V volt(25)=0.00000000V
"""
RAILS_W = 0.012 * 3.7 + 0.2 * 3.3 + 1.5 * 0.8


@pytest.fixture
def program(tmp_path):
    """Write a vcgencmd that answers so; return the sensor's options."""

    def program(answer, code=0):
        path = tmp_path / "vcgencmd"
        path.write_text(f'#!/bin/sh\n[ "$1" = pmic_read_adc ] || exit 9\ncat <<END\n{answer}\nEND\nexit {code}\n')
        path.chmod(0o755)
        return {"command": str(path), "interval_ms": 20}

    return program


def test_board_power_is_estimated_from_the_rails_and_says_so(program):
    sensor = pmic.open(program(ANSWER))

    assert sensor.read_w() == pytest.approx(1.1451 * RAILS_W + 0.5879)
    assert sensor.volts() == 5.12
    assert (sensor.source, sensor.scope, sensor.estimated) == ("pmic estimated", "board", True)


def test_a_board_without_such_a_chip_is_told_so(program):
    """A Raspberry Pi 4's firmware answers like this."""
    assert "shows no rails" in pmic.check(program('error=2 error_msg="Invalid arguments"'))


def test_a_user_outside_the_group_is_told_so(program):
    assert "usermod -aG video" in pmic.check(program("Can't open device file: /dev/vcio", 255))


def test_a_machine_without_the_program_is_told_so():
    assert "Raspberry Pi OS only" in pmic.check({"command": "no-such-vcgencmd"})


def test_an_answer_that_was_cut_off_keeps_whole_rails_only():
    watts, volts = pmic.parse(ANSWER[: ANSWER.index("VDD_CORE_V")])

    assert (watts, volts) == (pytest.approx(0.012 * 3.7 + 0.2 * 3.3), None)


def test_a_firmware_that_stops_answering_is_an_error(program):
    options = program(ANSWER)
    sensor = pmic.open(options)
    program("error=1")

    with pytest.raises(SensorError, match="shows no rails"):
        sensor.read_w()


ODD = {
    "nothing": "",
    "an error": "error=1",
    "cut off": ANSWER[: ANSWER.index("VDD_CORE_V")],
    "another number": ANSWER.replace("1.50000000A", "1.5.0A"),
    "not a number": ANSWER.replace("1.50000000A", "nanA"),
    "far too much": ANSWER.replace("1.50000000A", "1500000.0A"),
    "below zero": ANSWER.replace("1.50000000A", "-15.0A"),
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
def test_one_odd_answer_is_dropped_and_counted(program, tmp_path, answer):
    sensor = pmic.open({**program(ANSWER), "interval_ms": 50})
    whole = (tmp_path / "vcgencmd").read_text()
    program(answer)
    fallen = (tmp_path / "vcgencmd").read_text()
    odd.write(tmp_path / "answers", whole)

    (tmp_path / "vcgencmd").write_text(f"#!/bin/sh\nexec sh {tmp_path}/answers pmic_read_adc\n")
    with odd.for_a_moment(tmp_path / "answers", fallen):
        assert sensor.read_w() == pytest.approx(1.1451 * RAILS_W + 0.5879)
    assert sensor.dropped >= 1


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
def test_odd_answers_and_no_others_end_the_sensor(program, answer):
    sensor = pmic.open(program(ANSWER))
    program(answer)

    with pytest.raises(SensorError, match=r"\(11 readings in a row\)"):
        sensor.read_w()
