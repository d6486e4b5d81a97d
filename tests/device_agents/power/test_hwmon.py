import pytest

from device_agents.power import SensorError, hwmon
from tests.device_agents.power import odd


@pytest.fixture
def chips(tmp_path):
    """Write chips by hwmon's folder, each bound to an I2C device; return the options."""

    def chips(**folders):
        for folder, files in folders.items():
            files = dict(files)
            device = tmp_path / "devices" / files.pop("device", "1-0040")
            device.mkdir(parents=True, exist_ok=True)
            path = tmp_path / "class" / folder
            path.mkdir(parents=True, exist_ok=True)
            (path / "device").symlink_to(device)
            for name, value in files.items():
                (path / name).write_text(f"{value}\n")
        return {"root": str(tmp_path / "class"), "interval_ms": 1}

    return chips


INA219 = {"name": "ina219", "in0_input": 52, "in1_input": 5020, "curr1_input": 520, "shunt_resistor": 100000}
INA3221 = {
    "name": "ina3221",
    "in1_label": "5V board",
    "in1_input": 5100,
    "curr1_input": 700,
    "in2_input": 3300,
    "curr2_input": 40,
    "shunt1_resistor": 100000,
    "shunt2_resistor": 100000,
}


def test_power_is_the_voltage_times_the_current_that_the_driver_shows(chips):
    sensor = hwmon.open({**chips(hwmon0={"name": "cpu_thermal"}, hwmon2=INA219), "shunt_ohms": 0.1})

    assert sensor.read_w() == pytest.approx(5.02 * 0.52)
    assert sensor.volts() == 5.02
    assert (sensor.source, sensor.scope) == ("hwmon ina219", "board")


def test_a_driver_s_default_shunt_is_refused_until_somebody_confirms_it(chips):
    options = chips(hwmon2={**INA219, "shunt_resistor": 10000})

    assert "write shunt_ohms in the inventory" in hwmon.check(options)
    assert hwmon.check({**options, "shunt_ohms": 0.01}) == "ok"


def test_a_driver_that_computes_with_another_shunt_is_refused_with_the_command_that_fixes_it(chips):
    options = chips(hwmon2={**INA219, "shunt_resistor": 10000})

    fix = f"echo 100000 | sudo tee {options['root']}/hwmon2/shunt_resistor"
    assert fix in hwmon.check({**options, "shunt_ohms": 0.1})


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"curr1_input": 3200}, "overflowed: more than 3.20 A"),
        ({"curr1_input": -400}, "runs backwards"),
        ({"in1_input": 0}, "sees 0 V"),
        ({"in1_input": "many"}, "holds no number"),
    ],
)
def test_a_value_that_cannot_be_trusted_is_an_error(chips, wrong, complaint):
    sensor = hwmon.open(chips(hwmon2={**INA219, **wrong}))

    with pytest.raises(SensorError, match=complaint):
        sensor.read_w()


def test_one_of_several_chips_has_to_be_named(chips):
    options = chips(hwmon2=INA219, hwmon3={**INA219, "device": "1-0041", "curr1_input": 100})

    assert "several power chips: hwmon2 (ina219), hwmon3 (ina219)" in hwmon.check(options)
    for naming in ({"chip": "hwmon3"}, {"chip": "1-0041"}, {"bus": 1, "address": 0x41}):
        assert hwmon.open({**options, **naming}).read_w() == pytest.approx(0.502)


def test_a_channel_of_an_ina3221_has_to_be_named(chips):
    options = chips(hwmon1=INA3221)

    assert "no such power chip" in hwmon.check(options)
    assert "three channels: name one with label or channel; it shows 1 5V board" in hwmon.check(
        {**options, "chip": "ina3221"}
    )
    labelled = hwmon.open({**options, "label": "5V board"})
    assert (labelled.source, labelled.read_w()) == ("hwmon ina3221 5V board", pytest.approx(3.57))
    assert hwmon.open({**options, "channel": 2}).read_w() == pytest.approx(0.132)


def test_a_driver_that_averages_sets_the_time_that_a_value_covers(chips):
    sensor = hwmon.open(chips(hwmon2={**INA219, "name": "ina226", "update_interval": 36}))

    assert sensor.interval_s == 0.036


def test_a_chip_with_a_shunt_of_its_own_needs_none_named(chips):
    files = {name: value for name, value in INA219.items() if name != "shunt_resistor"}

    assert hwmon.check(chips(hwmon2={**files, "name": "ina260"})) == "ok"


def test_a_machine_without_a_chip_is_told_how_to_bind_one(chips):
    assert "echo ina219 0x40 | sudo tee /sys/bus/i2c/devices/i2c-1/new_device" in hwmon.check(chips())


@pytest.mark.parametrize("wrong", [{"scope": "house"}, {"interval_ms": 0}, {"shunt": 1}])
def test_a_wrong_option_is_named(chips, wrong):
    assert next(iter(wrong)) in hwmon.check({**chips(hwmon2=INA219), **wrong})


ODD = {
    "no voltage": ("in1_input", "0"),
    "a voltage below zero": ("in1_input", "-4"),
    "a current that runs backwards": ("curr1_input", "-30"),
    "nothing": ("curr1_input", ""),
    "no number": ("curr1_input", "nan"),
    "a number that breaks off": ("in1_input", "50-"),
    "far too much": ("curr1_input", "99999999999"),
    "a transfer that failed": ("in1_input", "a folder"),
}


@pytest.mark.parametrize(("file", "text"), ODD.values(), ids=ODD)
def test_one_odd_reading_is_dropped_and_counted(chips, tmp_path, file, text):
    options = chips(hwmon2={**INA219, "name": "ina260"})
    (tmp_path / "class/hwmon2/shunt_resistor").unlink()
    sensor = hwmon.open({**options, "interval_ms": 50})
    sensor.read_w()

    with odd.for_a_moment(tmp_path / "class" / "hwmon2" / file, text):
        assert sensor.read_w() == pytest.approx(5.02 * 0.52)
    assert sensor.dropped >= 1


@pytest.mark.parametrize(("file", "text"), ODD.values(), ids=ODD)
def test_odd_readings_and_no_others_end_the_sensor(chips, tmp_path, file, text):
    options = chips(hwmon2={**INA219, "name": "ina260"})
    (tmp_path / "class/hwmon2/shunt_resistor").unlink()
    sensor = hwmon.open(options)
    odd.write(tmp_path / "class" / "hwmon2" / file, text)

    with pytest.raises(SensorError, match=r"\(11 readings in a row\)"):
        sensor.read_w()


@pytest.mark.parametrize(("name", "mv"), [("ina219", 32000), ("ina226", 40959), ("ina260", 36000)])
def test_a_supply_above_what_the_chip_can_show_is_an_error(chips, name, mv):
    sensor = hwmon.open({**chips(hwmon2={**INA219, "name": name, "in1_input": mv}), "shunt_ohms": 0.1})

    with pytest.raises(SensorError, match="overflowed: a supply of 3"):
        sensor.read_w()
