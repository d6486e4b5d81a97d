"""INA219 on the board's supply line, over the kernel's raw I2C device.

Registers and timing: Texas Instruments SBOS448, "INA219 Zero-Drift, Bidirectional Current/Power Monitor". Power is
bus voltage × shunt voltage / shunt resistance. The chip's own calibration register is left alone: a sharp load may
reset the chip and clear it, and then its power register reads zero. So is the overflow bit, which tells of arithmetic
with that register: it may be set by a calibration that another program wrote, and says nothing of the two voltages.
What does say that they are too large is a register that stands at its full scale.

A reset also puts the chip back to single conversions, and another program may configure it for itself, so the
configuration is read with every value: a value from a chip that lost it is dropped and the chip configured anew, which
shows as a gap in the samples.
"""

import time
from typing import Any, Dict, List, Tuple

from device_agents.power import OddReadingError, SensorError, number, one_of, past_odd, settings
from device_agents.power._i2c import I2cBus

PREFERENCE = 40
USER_GROUPS = ["i2c"]
SETUP = [
    {
        "when": "is missing",
        "board": "Raspberry Pi",
        "title": "the I2C bus is switched on",
        "command": "sudo raspi-config nonint do_i2c 0",
    }
]
_DEFAULTS = {"bus": 1, "address": 0x40, "shunt_ohms": 0.1, "averaging": 32, "range_v": 16}

# SBOS448, table "Summary of Register Set"
_CONFIGURATION, _SHUNT, _BUS, _POWER = 0x00, 0x01, 0x02, 0x03
RESET_WORD = 0x399F
SHUNT_LSB_V = 10e-6
BUS_LSB_V = 4e-3
_CONVERSION_READY = 0x2  # of the bus voltage register
_SHUNT_FULL_SCALE = 32000
_BUS_FULL_SCALE = {16: 4000, 32: 8000}  # by range_v, in steps of 4 mV; SBOS448, "Bus Voltage Register"
_BACKWARDS = -50  # 0.5 mV: beyond the offset, the current really flows the other way

# SBOS448, table "ADC Settings": conversion time of the shunt by samples averaged, 12 bit each
_BUS_S = 0.000532
_SHUNT_S = {1: 0.000532, 2: 0.00106, 4: 0.00213, 8: 0.00426, 16: 0.00851, 32: 0.01702, 64: 0.03405, 128: 0.0681}

_OTHERS_MAKER, _OTHERS_ID = (
    0xFE,
    0x5449,
)  # INA226, INA230, INA231, INA260 say "TI" there; an INA219 has no such register
_PATIENCE_CYCLES = 6
_LOOKS_A_CYCLE = 16
_FEWEST_PATIENCE_S = 0.1
_MOST_RESETS, _RESETS_WITHIN_S = 3, 60.0


def check(options: Dict[str, Any]) -> str:
    """Say whether the chip answers and is an INA219; it is not written to."""
    try:
        _bus(_chosen(options)).close()
    except SensorError as error:
        return str(error)
    return "ok"


def open(options: Dict[str, Any]) -> "Ina219":
    """Configure the chip and wait for nothing: the first value waits for the first conversion."""
    chosen = _chosen(options)
    return Ina219(_bus(chosen), chosen["shunt_ohms"], chosen["averaging"], chosen["range_v"])


def configuration(averaging: int, range_v: int) -> int:
    """Return the configuration word: gain /8 (±320 mV), bus 12 bit once, shunt averaged, both continuously.

    >>> hex(configuration(32, 16)), hex(configuration(1, 32))
    ('0x19ef', '0x399f')
    """
    shunt = 0b0011 if averaging == 1 else 0b1000 | averaging.bit_length() - 1
    return (range_v == 32) << 13 | 0b11 << 11 | 0b0011 << 7 | shunt << 3 | 0b111


def cycle_s(averaging: int) -> float:
    """Return the time of one cycle: shunt, then bus, one after the other.

    >>> round(cycle_s(32), 5)
    0.01755
    """
    return _SHUNT_S[averaging] + _BUS_S


class Ina219:
    """The chip behind ``bus``: anything with read_words(*registers), write_word(register, value) and close()."""

    source = "ina219"
    scope = "board"
    dropped = 0

    def __init__(self, bus: Any, shunt_ohms: float, averaging: int = 32, range_v: int = 16) -> None:
        self.interval_s = cycle_s(averaging)
        self._bus = bus
        self._shunt_ohms = shunt_ohms
        self._range_v = range_v
        self._word = configuration(averaging, range_v)
        self._volts = 0.0
        self._resets: List[float] = []
        self._earlier_s = 0.0
        self._configure()
        (kept,) = bus.read_words(_CONFIGURATION)
        if kept != self._word:
            raise SensorError(
                "the INA219 does not keep its configuration: 0x%04X was written, 0x%04X is there; another program may "
                "use it: end that, or check the wiring" % (self._word, kept)
            )

    @past_odd
    def read_w(self) -> float:
        """Wait for the next conversion and return its power in watts."""
        bus_word, shunt_word = self._converted()
        watts = power_w(bus_word, shunt_word, self._shunt_ohms, self._range_v)
        self._volts = (bus_word >> 3) * BUS_LSB_V
        return watts

    def volts(self) -> float:
        """Return what the board got at the last read: the bus voltage, on the load's side of the shunt."""
        return self._volts

    def close(self) -> None:
        """Let go of the bus; the chip goes on converting, as it does from power-up."""
        self._bus.close()

    def _configure(self) -> None:
        self._bus.write_word(_CONFIGURATION, self._word)
        self._due_s = time.monotonic() + self.interval_s

    def _converted(self) -> Tuple[int, int]:
        """Return the bus and shunt registers of the next conversion; sleeps until it is due."""
        looks = 0
        waiting_since_s = max(self._due_s, time.monotonic())
        while True:
            time.sleep(max(0.0, self._due_s - time.monotonic()))
            now = time.monotonic()  # before reading: a process that was put to sleep still gets its value
            self._due_s = now + self.interval_s  # unless the reading says otherwise, or fails
            bus_word, shunt_word, word = self._bus.read_words(_BUS, _SHUNT, _CONFIGURATION)
            if word != self._word:
                self._lost(word)
                looks, waiting_since_s = 0, self._due_s
            elif bus_word & _CONVERSION_READY:
                self._bus.read_words(_POWER)  # clears "conversion ready"
                self._expect(now, looks)
                return bus_word, shunt_word
            elif now - waiting_since_s > max(_FEWEST_PATIENCE_S, _PATIENCE_CYCLES * self.interval_s):
                raise SensorError(
                    "the INA219 finished no conversion in %.0f ms: another program may have set it to sleep; end it"
                    % ((now - waiting_since_s) * 1e3)
                )
            else:
                looks += 1
                self._due_s = now + self.interval_s / _LOOKS_A_CYCLE

    def _expect(self, now_s: float, looks: int) -> None:
        """Set when to look next, so that about one look finds each conversion soon after its end.

        The chip's own clock is off by up to 10 % (SBOS448: 532 µs typical, 586 µs at most). Where the first look found
        a value that may long have been there, the next one comes earlier, and twice as much each time in a row.
        """
        step_s = self.interval_s / _LOOKS_A_CYCLE
        self._earlier_s = 0.0 if looks else min(max(2 * self._earlier_s, step_s / 8), 4 * step_s)
        self._due_s = now_s + self.interval_s - self._earlier_s

    def _lost(self, word: int) -> None:
        """Configure the chip again after a reset; raise when that happens again and again."""
        now = time.monotonic()
        self._resets = [t for t in self._resets if now - t < _RESETS_WITHIN_S] + [now]
        if len(self._resets) > _MOST_RESETS:
            why = (
                "its supply dips under load: take 3.3 V from the board's own pin and shorten the wires"
                if word == RESET_WORD
                else "another program configures it (0x%04X): end that" % word
            )
            raise SensorError("the INA219 lost its configuration %d times in a minute: %s" % (len(self._resets), why))
        self._configure()


def power_w(bus_word: int, shunt_word: int, shunt_ohms: float, range_v: int = 16) -> float:
    """Return the power in watts from the two registers; the bus register's overflow bit is of no account.

    With SBOS448's example values (bus 0x5D98 = 11.98 V, shunt 0x07D0 = 20 mV over 2 mΩ):

    >>> round(power_w(0x5D98, 0x07D0, 0.002), 1)
    119.8

    Raises:
        SensorError: full scale of the shunt or of the bus voltage.
        OddReadingError: no supply voltage, or a current that runs backwards.
    """
    bus = bus_word >> 3
    shunt = shunt_word - 0x10000 if shunt_word & 0x8000 else shunt_word
    if abs(shunt) >= _SHUNT_FULL_SCALE:
        raise SensorError("the INA219 overflowed: more than %.2f A; use a smaller shunt" % (0.32 / shunt_ohms))
    if bus >= _BUS_FULL_SCALE[range_v]:
        fix = "write `range_v: 32`" if range_v == 16 else "the chip bears 26 V at most: use another sensor"
        raise SensorError("the INA219 overflowed: a supply of %d V or more; %s" % (range_v, fix))
    if shunt < _BACKWARDS:
        raise OddReadingError(
            "the current through the INA219 runs backwards: swap VIN+ (the supply) and VIN- (the board)"
        )
    if bus == 0:
        raise OddReadingError("the INA219 sees 0 V: wire VIN+ to the supply and VIN- to the board's 5 V")
    return bus * BUS_LSB_V * shunt * SHUNT_LSB_V / shunt_ohms


def _bus(chosen: Dict[str, Any]) -> I2cBus:
    """Open the chip; SensorError when none answers or when it is another of its family."""
    bus = I2cBus(chosen["bus"], chosen["address"])
    try:
        refuse_others(*bus.read_words(_CONFIGURATION, _OTHERS_MAKER))
    except SensorError:
        bus.close()
        raise
    return bus


def refuse_others(word: int, maker: int) -> None:
    """Raise SensorError when the configuration word, or a register that the INA219 lacks, is not an INA219's.

    >>> refuse_others(RESET_WORD, 0)
    """
    if maker == _OTHERS_ID:
        raise SensorError(
            "the chip says that it is an INA226, INA230, INA231 or INA260, not an INA219: "
            "let the kernel's driver hold it and write `backend: hwmon`"
        )
    if word & 0x4000 or word == 0:  # the bit is unused in an INA219; 0xFFFF is a bus that nobody drives
        raise SensorError("the chip answers with configuration 0x%04X, which no INA219 has: check the address" % word)


def _chosen(options: Dict[str, Any]) -> Dict[str, Any]:
    chosen = settings(options, _DEFAULTS)
    return {
        "bus": int(number(chosen, "bus", 0, 255)),
        "address": int(number(chosen, "address", 0x03, 0x77)),
        "shunt_ohms": number(chosen, "shunt_ohms", 1e-4, 10),
        "averaging": one_of(chosen, "averaging", sorted(_SHUNT_S)),
        "range_v": one_of(chosen, "range_v", (16, 32)),
    }
