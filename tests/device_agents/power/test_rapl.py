import os
import threading

import pytest

from device_agents.power import SensorError, rapl
from tests.device_agents.power import odd


@pytest.fixture
def zones(tmp_path):
    """Write packages' counters; return the function that sets them."""

    def write(package, energy_uj, name=None, range_uj=1_000_000):
        zone = tmp_path / package
        zone.mkdir(exist_ok=True)
        (zone / "name").write_text((name or f"package-{package[-1]}") + "\n")
        (zone / "max_energy_range_uj").write_text(f"{range_uj}\n")
        (zone / "part").write_text(f"{energy_uj}\n")
        (zone / "part").replace(zone / "energy_uj")

    return write


def options(tmp_path, **more):
    return {"root": str(tmp_path), "interval_ms": 10, **more}


def test_power_is_the_energy_counted_over_the_time_that_passed(tmp_path, zones):
    zones("intel-rapl:0", 100_000)
    sensor = rapl.open(options(tmp_path))
    zones("intel-rapl:0", 300_000)

    watts = sensor.read_w()

    assert 1.0 < watts <= 20.0  # 0.2 J in 10 ms, or rather more on a busy machine
    assert (sensor.source, sensor.scope, sensor.interval_s) == ("rapl", "package", 0.01)


def test_a_counter_that_wraps_goes_on_counting(tmp_path, zones):
    zones("intel-rapl:0", 990_000)
    zone = rapl.Zone(str(tmp_path / "intel-rapl:0"))
    zones("intel-rapl:0", 5_000)

    assert zone.advance_uj() == 15_000


def test_packages_are_added_up_and_their_parts_and_the_platform_are_not(tmp_path, zones):
    places = {"intel-rapl:0": None, "intel-rapl:1": None, "intel-rapl:0:0": "core", "intel-rapl:2": "psys"}
    for zone, name in places.items():
        zones(zone, 0, name)
    sensor = rapl.open(options(tmp_path))
    for zone, name in places.items():
        zones(zone, 100_000, name)
    start = sensor._last_s

    watts = sensor.read_w()

    assert watts * (sensor._last_s - start) == pytest.approx(0.2)


def test_a_counter_that_stands_still_is_an_error(tmp_path, zones):
    zones("intel-rapl:0", 7)

    with pytest.raises(SensorError, match="stands still"):
        rapl.open(options(tmp_path)).read_w()


def test_a_counter_that_moves_late_is_waited_for_and_loses_no_energy(tmp_path, zones):
    zones("intel-rapl:0", 0)
    sensor = rapl.open(options(tmp_path))
    start = sensor._last_s
    late = threading.Timer(0.2, zones, ("intel-rapl:0", 600_000))
    late.start()

    watts = sensor.read_w()
    late.join()

    assert sensor._last_s - start >= 0.2
    assert watts * (sensor._last_s - start) == pytest.approx(0.6)


def test_a_machine_without_counters_is_told_so(tmp_path):
    assert "has no RAPL" in rapl.check(options(tmp_path))


def test_a_broken_counter_is_named(tmp_path, zones):
    zones("intel-rapl:0", "many")

    assert "cannot read the counter" in rapl.check(options(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_counter_for_root_only_is_told_with_the_fix(tmp_path, zones):
    zones("intel-rapl:0", 7)
    (tmp_path / "intel-rapl:0" / "energy_uj").chmod(0)

    assert "sudo chmod a+r" in rapl.check(options(tmp_path))


@pytest.mark.parametrize(
    "wrong", [{"interval_ms": 1}, {"interval_ms": "soon"}, {"interval": 10}, {"interval_ms": True}]
)
def test_a_wrong_option_is_named(tmp_path, zones, wrong):
    zones("intel-rapl:0", 7)

    assert next(iter(wrong)) in rapl.check(options(tmp_path, **wrong))


def test_readable_counters_are_ok(tmp_path, zones):
    zones("intel-rapl:0", 7)

    assert rapl.check(options(tmp_path)) == "ok"


@pytest.mark.parametrize("text", ["", "nan", "a folder"])
def test_one_odd_reading_is_dropped_and_its_energy_counts_with_the_next_one(tmp_path, zones, text):
    """Of two packages one is read, the other is not: what the first counted must not be lost."""
    for zone in ("intel-rapl:0", "intel-rapl:1"):
        zones(zone, 0)
    sensor = rapl.open(options(tmp_path, interval_ms=50))
    for zone in ("intel-rapl:0", "intel-rapl:1"):
        zones(zone, 500_000)
    start = sensor._last_s

    with odd.for_a_moment(tmp_path / "intel-rapl:1" / "energy_uj", text):
        watts = sensor.read_w()
    assert sensor.dropped >= 1
    assert watts * (sensor._last_s - start) == pytest.approx(1.0)


def test_a_counter_that_was_set_back_gives_no_power_that_no_processor_draws(tmp_path, zones):
    zones("intel-rapl:0", 900_000, range_uj=262_143_328_850)
    sensor = rapl.open(options(tmp_path, interval_ms=50))
    zones("intel-rapl:0", 1_000, range_uj=262_143_328_850)
    timer = threading.Timer(odd.MOMENT_S, zones, ("intel-rapl:0", 101_000), {"range_uj": 262_143_328_850})
    timer.start()

    assert 0 < sensor.read_w() < 10
    assert sensor.dropped == 1
    timer.join()


def test_odd_readings_and_no_others_end_the_sensor(tmp_path, zones):
    zones("intel-rapl:0", 7)
    sensor = rapl.open(options(tmp_path))
    odd.write(tmp_path / "intel-rapl:0" / "energy_uj", "")

    with pytest.raises(SensorError, match=r"it holds no number \(11 readings in a row\)"):
        sensor.read_w()
