import os
from pathlib import Path

import pytest

from device_agents.power import SensorError, _rails, tegrastats
from tests.device_agents.harness import eventually

FIXTURES = Path(__file__).parent.parent / "fixtures" / "tegrastats"
NANO = (FIXTURES / "nano_jp4_user.txt").read_text()

# file → total in watts, hottest zone and its °C, cores that are on of all, GPU load
EXPECTED = {
    "nano_jp4_root": (3.352, ("AO", 41.5), (3, 4), 87),
    "nano_jp4_user": (1.266, ("AO", 32.5), (4, 4), 0),
    "nano_truncated": (3.352, ("CPU", 36.5), (3, 4), 87),
    "xavier_nx_jp4": (4.310, ("CPU", 40.5), (2, 6), 14),
    "agx_xavier_jp4": (4.222, ("Tdiode", 37.75), (4, 8), 0),
    "tx2_jp4": (4.610, ("MCPU", 39.0), (4, 6), 31),
    "orin_nano_jp5": (4.420, ("CPU", 46.5), (6, 6), 12),
    "agx_orin_jp5": (7.033, ("CPU", 48.3), (4, 12), 3),
    "orin_nx_jp6_user": (5.108, ("cpu", 47.468), (4, 8), 41),
    "tx1_jp4": (5.218, ("AO", 43.0), (4, 4), 52),
    "xavier_nx_jp5": (4.689, ("CPU", 42.5), (2, 6), 22),
    "orin_nano_jp6": (8.870, ("gpu", 50.312), (4, 6), 63),
    "thor_jp7": (22.950, ("tj", 46.8), (3, 4), None),
    "jp7": (9.812, ("tj", 51.5), (2, 2), None),
}


def test_every_fixture_has_its_expectation():
    assert {path.stem for path in FIXTURES.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_line_of_each_generation_is_read(name):
    total, hottest, cores, gpu = EXPECTED[name]
    reading = tegrastats.parse((FIXTURES / f"{name}.txt").read_text())

    assert _rails.total_w(reading.rails_mw) == total
    assert max(reading.temperatures_c.items(), key=lambda zone: zone[1]) == hottest
    assert (sum(core is not None for core in reading.cores), len(reading.cores)) == cores
    assert reading.gpu_percent == gpu


def test_a_nano_is_read_whole():
    reading = tegrastats.parse((FIXTURES / "nano_jp4_root.txt").read_text())

    assert reading.rails_mw == {"POM_5V_IN": 3352, "POM_5V_GPU": 1011, "POM_5V_CPU": 687}
    assert reading.temperatures_c == {"PLL": 33.5, "CPU": 36.5, "GPU": 34.0, "AO": 41.5, "thermal": 35.25}
    assert reading.cores == [(23, 1428), (11, 1428), None, (7, 1428)]


@pytest.mark.parametrize(
    "line", ["", "\n", "RAM 1/2MB", "POM_5V_IN", "POM_5V_IN 12", "POM_5V_IN /", "\0\xff", "GR3D_FREQ"]
)
def test_a_line_that_says_nothing_gives_nothing(line):
    assert tegrastats.parse(line) == ({}, {}, [], None)


def test_a_rail_that_its_offset_puts_below_zero_is_read_as_such():
    """Thor's GPU rail at rest; a pattern for whole positive numbers would not see it."""
    assert tegrastats.parse((FIXTURES / "thor_jp7.txt").read_text()).rails_mw["VDD_GPU"] == -31


@pytest.fixture
def program(tmp_path):
    """Write a tegrastats that does what a script says; return the sensor's options."""

    def program(script):
        path = tmp_path / "tegrastats"
        path.write_text(f'#!/bin/sh\n[ "$1" = --interval ] || exit 9\nLINE="{NANO.strip()}"\n{script}\n')
        path.chmod(0o755)
        return {"command": str(path), "interval_ms": 5}

    return program


def line(milliwatts):
    return f'echo "$LINE" | sed "s/POM_5V_IN [0-9]*/POM_5V_IN {milliwatts}/"'


def test_its_own_tegrastats_is_started_read_and_ended(program):
    sensor = tegrastats.open(program(f"{line(1500)}; while sleep 0.02; do {line(1700)}; done"))
    pid = sensor._process.pid

    assert sensor.read_w() == 1.7
    sensor.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_of_lines_that_have_gathered_the_newest_counts(program, tmp_path):
    begun, there = tmp_path / "begun", tmp_path / "there"
    wait = f"while [ ! -e {begun} ]; do sleep 0.01; done"
    sensor = tegrastats.open(
        program(f"{line(1000)}; {wait}; {line(2000)}; {line(3000)}; printf half; touch {there}; exec sleep 60")
    )
    begun.touch()
    assert eventually(there.exists)

    assert sensor.read_w() == 3.0
    sensor.close()


def test_a_tegrastats_that_dies_is_started_once_more(program, tmp_path):
    """The first life prints 1500, the second 1700 and dies too."""
    life = f'if [ -e {tmp_path}/once ]; then {line(1700)}; printf "no device"; exit 3; fi; touch {tmp_path}/once'
    sensor = tegrastats.open(program(f"{life}; {line(1500)}; exit 0"))

    assert sensor.read_w() == 1.7
    with pytest.raises(SensorError, match="ended by itself, again: no device"):
        sensor.read_w()
    sensor.close()


def test_a_tegrastats_that_dies_at_once_is_not_started_again(program, tmp_path):
    with pytest.raises(SensorError, match="ended by itself: no device"):
        tegrastats.open(program(f"echo x >> {tmp_path}/lives; printf 'no device'; exit 3"))
    assert (tmp_path / "lives").read_text() == "x\n"


def test_a_line_that_was_cut_off_is_dropped(program):
    sensor = tegrastats.open(
        program(f"{line(1500)}; while sleep 0.02; do echo RAM 905/3956MB POM_5V_IN 13; sleep 0.02; {line(1600)}; done")
    )

    assert sensor.read_w() == 1.6
    sensor.close()


def test_a_rail_that_goes_away_for_good_is_an_error(program):
    sensor = tegrastats.open(program(f"{line(1500)}; while sleep 0.02; do echo RAM 905/3956MB; done"))

    with pytest.raises(SensorError, match="shows POM_5V_IN no more"):
        sensor.read_w()
    sensor.close()


def test_rails_that_contradict_each_other_are_refused(program):
    with pytest.raises(SensorError, match="labels its rails wrongly"):
        tegrastats.open(program("while echo POM_5V_IN 3227/3200 POM_5V_GPU 8949/8900; do sleep 0.02; done"))


ORIN = (FIXTURES / "orin_nano_jp6.txt").read_text().strip()
ODD = {
    "a part above its input": "VDD_IN 2000mW/2000mW VDD_CPU_GPU_CV 2900mW/2900mW VDD_SOC 100mW/100mW",
    "cut off": "RAM 1/2MB VDD_IN 88",
    "cut off behind the blank": "RAM 1/2MB VDD_IN ",
    "unknown grammar": "VDD_IN: 8.87 W; VDD_CPU_GPU_CV: 1 W",
    "not a number": "VDD_IN nanmW/nanmW VDD_CPU_GPU_CV nanmW/nanmW",
    "huge": "VDD_IN 4294967295mW/8870mW VDD_SOC 100mW/100mW",
    "hugest": f"VDD_IN {'9' * 400}mW/8870mW VDD_SOC 100mW/100mW",
    "negative": "VDD_IN -8870mW/8870mW",
    "nothing": "VDD_IN 0mW/8870mW",
    "empty": "",
    "blank": "   ",
    "its own complaint": "tegrastats: cannot open /sys/kernel/debug/bpmp: Permission denied",
    "mixed with a complaint": "VDD_IN 88warning: no nvgpu\n70mW/8870mW VDD_SOC 100mW/100mW",
    "another unit": "VDD_IN 8/8 VDD_SOC 1/1",
    "watts": "VDD_IN 8W/8W VDD_SOC 1W/1W",
    "two lines in one": "VDD_IN 8870mW/8870mW RAM 1/2MB VDD_IN 870mW/8870mW",
    "bytes that are no text": r"\377\376VDD_IN\0008870mW",
}

SEVERAL = ("a part above its input", "cut off", "another unit", "bytes that are no text")


def printed(line):
    """The shell command that prints a line, escapes and all."""
    return f"printf '{line}\\n'"


def good(milliwatts):
    return printed(ORIN.replace("VDD_IN 8870mW", f"VDD_IN {milliwatts}mW").replace("%", "%%"))


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_one_odd_line_is_dropped_and_counted(program, odd):
    sensor = tegrastats.open(
        program(f"{good(8000)}; while sleep 0.02; do {printed(odd)}; sleep 0.02; {good(9000)}; done")
    )

    assert eventually(lambda: sensor.read_w() == 9.0 and sensor.dropped > 0)  # of those that gather, the newest counts
    sensor.close()


@pytest.mark.parametrize("odd", [ODD[name] for name in SEVERAL], ids=SEVERAL)
def test_odd_lines_and_no_others_end_the_sensor(program, odd):
    sensor = tegrastats.open(program(f"{good(8000)}; while sleep 0.02; do {printed(odd)}; done"))

    with pytest.raises(SensorError, match=r"\(11 readings in a row\)"):
        sensor.read_w()
    sensor.close()


@pytest.mark.parametrize("name", [name for name in ODD if name != "another unit"])
def test_a_first_line_that_is_odd_is_no_reason_to_refuse_the_board(program, name):
    odd = ODD[name]
    sensor = tegrastats.open(program(f"{printed(odd)}; while sleep 0.02; do {good(8300)}; done"))

    assert sensor.read_w() == 8.3
    sensor.close()


def test_rails_are_refused_where_most_lines_contradict_themselves(program):
    """A part that is mislabelled as the input reads less than it once in a while."""
    odd, fine = printed(ODD["a part above its input"]), good(8000)
    assert "labels its rails wrongly" in tegrastats.check(
        program("; sleep 0.05; ".join([odd, fine, odd, fine, odd, fine]) + "; exec sleep 60")
    )
    assert tegrastats.check(program("; sleep 0.05; ".join([odd, fine, fine, odd, fine]) + "; exec sleep 60")) == "ok"


def test_a_tegrastats_that_never_ends_its_line_is_noticed(program, monkeypatch):
    monkeypatch.setattr(tegrastats, "_PATIENCE_S", 0.3)

    with pytest.raises(SensorError, match="printed nothing"):
        tegrastats.open(program("exec tr '\\\\0' x < /dev/zero"))


def test_a_tegrastats_that_prints_faster_than_it_is_read_gives_values(program, monkeypatch):
    monkeypatch.setattr(tegrastats, "_PATIENCE_S", 0.3)
    sensor = tegrastats.open(program("exec yes POM_5V_IN 1500/1500"))

    assert sensor.read_w() == 1.5
    sensor.close()


def test_a_part_of_its_own_may_rest_and_the_input_may_not(program):
    options = program("while sleep 0.01; do echo POM_5V_IN 0/0 POM_5V_GPU -31/0; done")
    sensor = tegrastats.open(dict(options, rail="POM_5V_GPU"))
    assert sensor.read_w() == -0.031
    sensor.close()
    for rail in (None, "POM_5V_IN"):
        assert "POM_5V_IN shows 0 mW, which no module draws" in tegrastats.check(dict(options, rail=rail))


def test_a_tegrastats_that_hangs_is_noticed(program, monkeypatch):
    monkeypatch.setattr(tegrastats, "_PATIENCE_S", 0.2)

    with pytest.raises(SensorError, match="printed nothing"):
        tegrastats.open(program("exec sleep 60"))


def test_a_board_that_shows_no_power_is_told_so(program):
    with pytest.raises(SensorError, match="shows no power on this board"):
        tegrastats.open(program("while echo RAM 1/2MB; do sleep 0.02; done"))


def test_a_machine_without_tegrastats_is_told_so():
    assert "Jetson boards only" in tegrastats.check({"command": "no-such-tegrastats"})


def test_a_tegrastats_that_runs_is_ok(program):
    assert tegrastats.check(program(f"{line(1500)}; exec sleep 60")) == "ok"
