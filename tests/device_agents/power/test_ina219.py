import errno
import time

import pytest

from device_agents.power import OddReadingError, SensorError, ina219
from device_agents.power._i2c import explain
from tests.lab.ina219_chip import CALIBRATION, CONFIGURATION, POWER, Ina219Chip


class Chip:
    """An INA219 on the far side of the bus: its registers, and a new conversion every so many looks."""

    def __init__(self, bus_mv=5000, shunt_uv=100_000, ready_every=3, flags=0):
        self.registers = {0: 0x399F, 1: (shunt_uv // 10) & 0xFFFF, 2: (bus_mv // 4) << 3 | flags, 3: 0}
        self.ready_every = ready_every
        self.looks = 0
        self.resets_at = set()
        self.closed = False

    def read_words(self, *registers):
        if 2 in registers:
            self.looks += 1
            if self.looks in self.resets_at:
                self.registers[0] = 0x399F
        return [self._word(register) for register in registers]

    def write_word(self, register, value):
        self.registers[register] = value

    def close(self):
        self.closed = True

    def _word(self, register):
        if register == 2:
            ready = self.ready_every and self.looks % self.ready_every == 0
            return self.registers[2] | (0x2 if ready else 0)
        return self.registers[register]


def test_the_chip_is_set_to_average_the_shunt_and_run_continuously():
    chip = Chip()
    ina219.Ina219(chip, 0.1)
    word = chip.registers[0]

    assert word == 0x19EF
    assert word >> 13 & 1 == 0  # 16 V
    assert word >> 11 & 3 == 0b11  # ±320 mV
    assert word >> 7 & 0xF == 0b0011  # bus: 12 bit, 532 µs
    assert word >> 3 & 0xF == 0b1101  # shunt: 32 samples, 17.02 ms
    assert word & 7 == 0b111  # shunt and bus, continuous


@pytest.mark.parametrize(
    ("averaging", "setting", "cycle_ms"),
    [
        (1, 0b0011, 1.064),
        (2, 0b1001, 1.592),
        (4, 0b1010, 2.662),
        (8, 0b1011, 4.792),
        (16, 0b1100, 9.042),
        (32, 0b1101, 17.552),
        (64, 0b1110, 34.582),
        (128, 0b1111, 68.632),
    ],
)
def test_averaging_is_set_as_the_datasheet_s_table_has_it(averaging, setting, cycle_ms):
    assert ina219.configuration(averaging, 16) >> 3 & 0xF == setting
    assert ina219.configuration(averaging, 32) == ina219.configuration(averaging, 16) | 0x2000
    assert ina219.cycle_s(averaging) == pytest.approx(cycle_ms / 1e3)


def test_power_is_bus_voltage_times_shunt_current():
    sensor = ina219.Ina219(Chip(bus_mv=5000, shunt_uv=100_000), 0.1)

    assert sensor.read_w() == pytest.approx(5.0)


def test_each_value_is_a_conversion_of_its_own():
    chip = Chip(ready_every=3)
    sensor = ina219.Ina219(chip, 0.1, averaging=1)
    for _ in range(4):
        sensor.read_w()
        assert chip.looks % 3 == 0
    assert chip.looks == 12
    assert sensor.volts() == pytest.approx(5.0)


def test_a_value_from_a_chip_that_lost_its_configuration_is_dropped():
    chip = Chip(ready_every=1)
    chip.resets_at = {2}
    sensor = ina219.Ina219(chip, 0.1, averaging=1)
    for _ in range(2):
        sensor.read_w()

    assert chip.looks == 3
    assert chip.registers[0] == ina219.configuration(1, 16)


def test_a_chip_that_loses_it_again_and_again_is_an_error():
    chip = Chip(ready_every=1)
    chip.resets_at = set(range(1, 9))

    with pytest.raises(SensorError, match="lost its configuration 4 times in a minute: its supply dips"):
        ina219.Ina219(chip, 0.1, averaging=1).read_w()


@pytest.mark.parametrize(
    ("word", "maker", "complaint"),
    [(0x4127, 0x5449, "INA226"), (0xFFFF, 0xFFFF, "no INA219 has"), (0x0000, 0, "no INA219 has")],
)
def test_another_chip_at_the_address_is_refused(word, maker, complaint):
    with pytest.raises(SensorError, match=complaint):
        ina219.refuse_others(word, maker)


@pytest.mark.parametrize(
    ("bus_word", "shunt_word", "shunt_ohms", "watts"),
    [
        (0x5D98, 0x07D0, 0.002, 119.8),  # SBOS448's worked example: 11.98 V, 20 mV over 2 mΩ
        (0x5D9A, 0x07D0, 0.002, 119.8),  # with "conversion ready"
        (1275 << 3, 800, 0.1, 0.408),  # 5.1 V, 8 mV
        (1275 << 3, 0xFFFE, 0.1, -0.00102),  # 20 µV of offset below zero is read as such
        (1275 << 3, 0, 0.02, 0.0),
    ],
)
def test_the_datasheet_s_registers_give_the_datasheet_s_power(bus_word, shunt_word, shunt_ohms, watts):
    assert ina219.power_w(bus_word, shunt_word, shunt_ohms) == pytest.approx(watts)


@pytest.mark.parametrize(
    ("chip", "complaint"),
    [
        (Chip(shunt_uv=320_000), "overflowed"),
        (Chip(shunt_uv=-20_000), "runs backwards: swap"),
        (Chip(bus_mv=16_000), "overflowed: a supply of 16 V or more; write `range_v: 32`"),
        (Chip(bus_mv=0), "sees 0 V"),
        (Chip(ready_every=0), "no conversion"),
    ],
)
def test_a_value_that_cannot_be_trusted_is_an_error(chip, complaint):
    with pytest.raises(SensorError, match=complaint):
        ina219.Ina219(chip, 0.1, averaging=1).read_w()


# ------------------------------------------------------------ beside another program, on the chip's model


class Bus:
    """The way to the model; ``before_look`` is what somebody else does before each look at the bus voltage."""

    def __init__(self, chip, before_look=lambda _: None):
        self.chip = chip
        self.before_look = before_look
        self.looks = 0

    def read_words(self, *registers):
        if 2 in registers:
            self.looks += 1
            self.before_look(self.looks)
        return [self._word(register) for register in registers]

    def _word(self, register):
        self.chip.write(bytes([register]))
        return int.from_bytes(self.chip.read(2), "big")

    def write_word(self, register, value):
        self.chip.write(bytes([register]) + value.to_bytes(2, "big"))

    def close(self):
        pass


def steady(amperes, volts, **settings):
    return Ina219Chip(lambda _: amperes, lambda _: volts, **settings)


@pytest.mark.parametrize("calibration", [0, 0x1000, 0x8000, 0xA000, 0xFFFE])
@pytest.mark.parametrize("amperes", [0.02, 0.32, 2.9])
def test_a_calibration_that_another_program_wrote_changes_nothing(calibration, amperes):
    bus = Bus(steady(amperes, 5.1))
    bus.write_word(CALIBRATION, calibration)
    sensor = ina219.Ina219(bus, 0.1, averaging=1)

    assert [sensor.read_w() for _ in range(3)] == pytest.approx([5.1 * amperes] * 3, rel=2e-3)
    assert bus.read_words(CALIBRATION) == [calibration]


def test_the_model_s_arithmetic_overflows_with_such_a_calibration():
    """Or the test above would show nothing."""
    bus = Bus(steady(0.32, 5.1))
    bus.write_word(CALIBRATION, 0xFFFE)
    sensor = ina219.Ina219(bus, 0.1, averaging=1)
    sensor.read_w()

    assert bus.chip.registers[2] & 1


@pytest.mark.parametrize(
    ("bus_word", "shunt_word", "watts"),
    [(1275 << 3 | 3, 3200, 1.632), (1275 << 3 | 1, 3200, 1.632), (3999 << 3 | 3, 31999, 51.184)],
)
def test_the_overflow_bit_is_of_no_account(bus_word, shunt_word, watts):
    assert ina219.power_w(bus_word, shunt_word, 0.1) == pytest.approx(watts, rel=1e-4)


@pytest.mark.parametrize(
    ("volts", "range_v", "complaint"),
    [
        (16.0, 16, "a supply of 16 V or more; write `range_v: 32`"),
        (19.0, 16, "a supply of 16 V or more; write `range_v: 32`"),
        (33.0, 32, "a supply of 32 V or more; the chip bears 26 V at most"),
    ],
)
def test_a_supply_above_the_range_is_an_error_and_no_number(volts, range_v, complaint):
    sensor = ina219.Ina219(Bus(steady(1.0, volts)), 0.1, averaging=1, range_v=range_v)

    with pytest.raises(SensorError, match=complaint) as caught:
        sensor.read_w()
    assert not isinstance(caught.value, OddReadingError)


@pytest.mark.parametrize(("volts", "range_v"), [(15.9, 16), (19.0, 32), (24.0, 32)])
def test_a_supply_within_the_range_is_measured(volts, range_v):
    sensor = ina219.Ina219(Bus(steady(1.0, volts)), 0.1, averaging=1, range_v=range_v)

    assert sensor.read_w() == pytest.approx(volts, rel=2e-3)
    assert sensor.volts() == pytest.approx(volts, abs=4e-3)


FOREIGN = {
    "a gain for 40 mV": 0x019F,
    "a range of 32 V and no averaging, as after a reset": 0x399F,
    "nine bits": 0x1807,
    "power-down": 0x19E8,
    "ADC off": 0x19EC,
    "triggered": 0x19EB,
    "shunt only": 0x19ED,
    "a reset": 0x8000,
}


@pytest.mark.parametrize("word", FOREIGN.values(), ids=FOREIGN)
def test_a_configuration_that_another_program_writes_meanwhile_costs_a_gap_and_no_wrong_value(word):
    bus = Bus(steady(1.0, 5.0))
    sensor = ina219.Ina219(bus, 0.1, averaging=8)
    before = sensor.read_w()
    bus.write_word(CONFIGURATION, word)

    assert [before, sensor.read_w(), sensor.read_w()] == pytest.approx([5.0] * 3, rel=2e-3)
    assert bus.chip.registers[CONFIGURATION] == ina219.configuration(8, 16)


@pytest.mark.parametrize("word", [0x019F, 0x19E8])
def test_a_program_that_configures_the_chip_all_the_time_is_told(word):
    bus = Bus(steady(1.0, 5.0))
    sensor = ina219.Ina219(bus, 0.1, averaging=1)
    bus.before_look = lambda _: bus.write_word(CONFIGURATION, word)

    with pytest.raises(SensorError, match=f"another program configures it \\(0x{word:04X}\\): end that"):
        sensor.read_w()


def test_a_program_that_reads_the_power_register_takes_away_values_and_not_the_sensor():
    """Reading it clears "conversion ready" for both of us; every other value is the other program's."""
    bus = Bus(steady(1.0, 5.0))
    sensor = ina219.Ina219(bus, 0.1, averaging=1)
    bus.before_look = lambda look: look % 2 and bus.read_words(POWER)

    assert [sensor.read_w() for _ in range(5)] == pytest.approx([5.0] * 5, rel=2e-3)


class Deaf(Chip):
    """A chip that takes no configuration, as one behind a wire that is loose."""

    def write_word(self, register, value):
        pass


def test_a_chip_that_does_not_keep_what_is_written_is_refused():
    with pytest.raises(SensorError, match="does not keep its configuration: 0x19EF was written, 0x399F is there"):
        ina219.Ina219(Deaf(), 0.1)


@pytest.mark.parametrize(
    "odd",
    [
        lambda bus: setattr(bus.chip, "fault", OSError(errno.EREMOTEIO, "no acknowledge")),
        lambda bus: setattr(bus.chip, "volts", lambda _: 0.0),
        lambda bus: setattr(bus.chip, "amperes", lambda _: -1.0),
    ],
    ids=["no acknowledge", "no voltage", "backwards"],
)
def test_one_odd_reading_is_dropped_and_more_end_the_sensor(odd):
    bus = Translated(steady(1.0, 5.0))
    sensor = ina219.Ina219(bus, 0.1, averaging=1)
    before = dict(vars(bus.chip))

    def moment(look):
        if look == 3:
            odd(bus)
        if look == 6:
            vars(bus.chip).update({name: before[name] for name in ("fault", "volts", "amperes")})

    bus.looks, bus.before_look = 0, moment
    assert [sensor.read_w() for _ in range(6)] == pytest.approx([5.0] * 6, rel=2e-3)
    assert 1 <= sensor.dropped <= 3

    bus.before_look = lambda _: None
    odd(bus)
    time.sleep(2 * sensor.interval_s)
    with pytest.raises(SensorError, match=r"\(11 readings in a row\)"):
        sensor.read_w()


class Translated(Bus):
    """Tells of a failed transfer as the real bus does."""

    def _word(self, register):
        try:
            return super()._word(register)
        except OSError as error:
            raise OddReadingError(explain(error, "/dev/i2c-1", 1, 0x40)) from error


def test_closing_lets_go_of_the_bus():
    chip = Chip()
    ina219.Ina219(chip, 0.1).close()

    assert chip.closed


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOENT, "raspi-config"),
        (errno.EACCES, "usermod -aG i2c"),
        (errno.EBUSY, "backend: hwmon"),
        (errno.EBUSY, "echo 1-0041 | sudo tee /sys/bus/i2c/devices/1-0041/driver/unbind"),
        (errno.EREMOTEIO, "no chip answers at 0x41 on bus 1"),
        (errno.ETIMEDOUT, "failed"),
    ],
)
def test_each_way_not_to_reach_the_chip_has_its_fix(number, fix):
    assert fix in explain(OSError(number, "why"), "/dev/i2c-1", 1, 0x41)


def test_a_machine_without_the_bus_is_told_so():
    assert "/dev/i2c-250 is missing" in ina219.check({"bus": 250})


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"address": "0x99"}, "address is '0x99'"),
        ({"address": "forty"}, "address is 'forty'"),
        ({"shunt_ohms": 0}, "shunt_ohms is 0"),
        ({"averaging": 3}, "averaging is 3, expected one of 1, 2, 4"),
        ({"range_v": 5}, "range_v is 5, expected one of 16, 32"),
        ({"shunt": 0.1}, "unknown option 'shunt'"),
    ],
)
def test_a_wrong_option_is_named(options, complaint):
    assert complaint in ina219.check(options)


def test_an_address_may_be_written_as_text():
    assert "/dev/i2c-250 is missing" in ina219.check({"bus": 250, "address": "0x41"})
