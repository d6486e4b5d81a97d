import pytest

from device_agents.power import SensorError, ina3221
from tests.device_agents.power import odd


@pytest.fixture
def tree(tmp_path):
    """Write small files by path, as the kernel shows them."""

    def tree(files):
        for name, value in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{value}\n")
        return {"root": str(tmp_path), "interval_ms": 1}

    return tree


def jetpack4(names, milliwatts, device="6-0040"):
    files = {f"{device}/name": "ina3221x"}
    for i, (name, mw) in enumerate(zip(names, milliwatts, strict=True)):
        folder = f"{device}/iio:device0"
        files |= {f"{folder}/rail_name_{i}": name, f"{folder}/in_power{i}_input": mw}
        files[f"{folder}/in_voltage{i}_input"] = 5080
    return files


def jetpack5(rails, device="1-0040"):
    files = {f"{device}/name": "ina3221", f"{device}/hwmon/hwmon4/in7_label": "sum of shunt voltages"}
    for i, (name, mv, ma) in enumerate(rails, 1):
        folder = f"{device}/hwmon/hwmon4"
        files |= {f"{folder}/in{i}_label": name, f"{folder}/in{i}_input": mv, f"{folder}/curr{i}_input": ma}
    return files


NANO = ("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU")


def test_a_nano_with_jetpack_4_shows_power_itself(tree):
    sensor = ina3221.open(tree(jetpack4(NANO, (2170, 80, 410)) | {"1-0050/name": "24c02"}))

    assert (sensor.read_w(), sensor.volts()) == (2.17, 5.08)
    assert (sensor.source, sensor.scope, sensor.interval_s) == ("ina3221 POM_5V_IN", "module", 0.001)


def test_an_orin_nano_with_jetpack_5_shows_voltage_and_current(tree):
    rails = [("VDD_IN", 5000, 1120), ("VDD_CPU_GPU_CV", 5000, 205), ("VDD_SOC", 5000, 301)]
    sensor = ina3221.open(tree(jetpack5(rails)))

    assert (sensor.read_w(), sensor.volts()) == (5.6, 5.0)


def test_an_agx_orin_has_no_input_rail_so_its_two_chips_are_added_up(tree):
    first = [("VDD_GPU_SOC", 20000, 160), ("VDD_CPU_CV", 20000, 41), ("VIN_SYS_5V0", 5000, 604)]
    second = [("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5000, 120), ("NC", 0, 0)]
    options = tree(jetpack5(first) | jetpack5(second, "1-0041"))
    sensor = ina3221.open(options)

    assert set(ina3221.find(options["root"])) == {name for name, *_ in first} | {"VDDQ_VDD2_1V8AO"}
    assert sensor.read_w() == pytest.approx(3.2 + 0.82 + 3.02)
    assert sensor.volts() is None
    assert sensor.source == "ina3221 VDD_GPU_SOC+VDD_CPU_CV+VIN_SYS_5V0"


def test_a_carrier_that_mislabels_its_rails_is_refused_until_the_rail_is_named(tree):
    options = tree(jetpack4(NANO, (3227, 8949, 500)))

    assert "this carrier labels its rails wrongly" in ina3221.check(options)
    assert ina3221.check({**options, "rail": "POM_5V_GPU"}) == "ok"


def test_a_board_without_the_chip_is_told_so(tmp_path):
    assert "on Jetson modules only" in ina3221.check({"root": str(tmp_path)})


def test_a_file_that_cannot_be_read_is_named(tree, tmp_path):
    options = tree(jetpack4(NANO, (2170, 80, 410)))
    sensor = ina3221.open(options)
    (tmp_path / "6-0040/iio:device0/in_power0_input").unlink()

    with pytest.raises(SensorError, match="in_power0_input"):
        sensor.read_w()


POWER, VOLTAGE = "6-0040/iio:device0/in_power0_input", "6-0040/iio:device0/in_voltage0_input"


@pytest.mark.parametrize("text", ["0", "-2170", "", "nan", "4294967295", "a folder"])
def test_one_odd_reading_is_dropped_and_counted(tree, tmp_path, text):
    sensor = ina3221.open({**tree(jetpack4(NANO, (2170, 80, 410))), "interval_ms": 50})
    sensor.read_w()

    with odd.for_a_moment(tmp_path / POWER, text):
        assert sensor.read_w() == 2.17
    assert sensor.dropped >= 1


def test_odd_readings_and_no_others_end_the_sensor(tree, tmp_path):
    sensor = ina3221.open(tree(jetpack4(NANO, (2170, 80, 410))))
    odd.write(tmp_path / POWER, "0")

    with pytest.raises(SensorError, match=r"POM_5V_IN shows 0 mW, .*\(11 readings in a row\)"):
        sensor.read_w()


def test_a_voltage_that_cannot_be_read_for_once_is_the_one_before(tree, tmp_path):
    sensor = ina3221.open(tree(jetpack4(NANO, (2170, 80, 410))))
    assert sensor.volts() == 5.08
    odd.write(tmp_path / VOLTAGE, "")
    assert sensor.volts() == 5.08


@pytest.mark.parametrize(("mv", "ma"), [(5000, 32760), (32760, 100)])
def test_a_rail_at_the_chip_s_full_scale_is_an_error(tree, mv, ma):
    files = jetpack5([("VDD_IN", 5000, 1120), ("VDD_SOC", 5000, 301)]) | {"1-0040/hwmon/hwmon4/shunt1_resistor": 5000}
    sensor = ina3221.open(tree(files))
    tree({"1-0040/hwmon/hwmon4/in1_input": mv, "1-0040/hwmon/hwmon4/curr1_input": ma})

    with pytest.raises(SensorError, match="VDD_IN overflowed"):
        sensor.read_w()
