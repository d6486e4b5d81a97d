"""An INA219 in Python: registers and conversions as in SBOS448, fed by a scripted current."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

CONFIGURATION, SHUNT, BUS, POWER, CURRENT, CALIBRATION = 0, 1, 2, 3, 4, 5
RESET_WORD = 0x399F
AT_POWER_UP = {CONFIGURATION: RESET_WORD, SHUNT: 0, BUS: 0, POWER: 0, CURRENT: 0, CALIBRATION: 0}
_CONTINUOUS = 0b111
_STEPS = 16


def conversion_s(bits: int) -> float:
    """Return the time of one ADC setting, the table "ADC Settings"."""
    if bits & 0b1000:
        return {0: 532e-6}.get(bits & 0b111, 532e-6 * 2 ** (bits & 0b111))
    return (84e-6, 148e-6, 276e-6, 532e-6)[bits & 0b11]


@dataclass
class Ina219Chip:
    """Its supply and load: ``amperes`` and ``volts`` are functions of time.monotonic; ``slow`` stretches its clock."""

    amperes: Callable[[float], float]
    volts: Callable[[float], float]
    shunt_ohms: float = 0.1
    slow: float = 1.0
    fault: OSError | None = None
    """Fails every transfer while it stands here, or the next ``faults`` of them."""
    faults: float = math.inf
    registers: dict[int, int] = field(default_factory=lambda: dict(AT_POWER_UP))

    def __post_init__(self) -> None:
        self._pointer = 0
        self.looks = 0
        """How often the bus voltage was read, which tells whether a conversion is ready."""
        self._begin()

    def reset(self) -> None:
        """Lose the configuration, as on a dip of the supply."""
        self.registers = dict(AT_POWER_UP)
        self._begin()

    # ------------------------------------------------------------ the bus

    def write(self, data: bytes) -> None:
        """Set the register pointer, and the register when two bytes follow."""
        self._fail()
        self._pointer = data[0]
        if len(data) == 3:
            value = int.from_bytes(data[1:], "big")
            if self._pointer == CONFIGURATION and value & 0x8000:
                self.reset()
            elif self._pointer == CONFIGURATION:
                self.registers[CONFIGURATION] = value
                self._begin()
            elif self._pointer == CALIBRATION:
                self.registers[CALIBRATION] = value & ~1  # SBOS448: bit 0 is always 0

    def read(self, length: int) -> bytes:
        """Return the register that the pointer stands at."""
        self._fail()
        self._convert()
        self.looks += self._pointer == BUS
        word = self.registers.get(self._pointer, 0)
        if self._pointer == POWER:
            self.registers[BUS] &= ~0x2
        return word.to_bytes(2, "big")[:length]

    def _fail(self) -> None:
        if self.fault:
            fault, self.faults = self.fault, self.faults - 1
            self.fault = fault if self.faults > 0 else None
            raise fault

    # ------------------------------------------------------------ conversions

    def _begin(self) -> None:
        self._since_s = time.monotonic()
        self._done = 0
        self._overflowed = False

    def _convert(self) -> None:
        """Put the newest finished conversion into the registers."""
        word = self.registers[CONFIGURATION]
        if word & _CONTINUOUS != _CONTINUOUS:
            return
        shunt_s = conversion_s(word >> 3 & 0xF) * self.slow
        cycle_s = shunt_s + conversion_s(word >> 7 & 0xF) * self.slow
        finished = int((time.monotonic() - self._since_s) / cycle_s)
        if finished <= self._done:
            return
        self._done = finished
        start_s = self._since_s + (finished - 1) * cycle_s
        current = sum(self.amperes(start_s + shunt_s * (i + 0.5) / _STEPS) for i in range(_STEPS)) / _STEPS
        full_scale = 4000 << (word >> 11 & 0b11)  # PGA /1, /2, /4, /8: 40 to 320 mV
        shunt = max(-full_scale, min(full_scale, math.floor(current * self.shunt_ohms / 10e-6)))
        bus = min(8000 if word & 0x2000 else 4000, math.floor(self.volts(start_s + shunt_s) / 4e-3))
        self._compute(shunt, bus)
        self.registers[SHUNT] = shunt & 0xFFFF
        self.registers[BUS] = bus << 3 | 0x2 | self._overflowed

    def _compute(self, shunt: int, bus: int) -> None:
        """Fill the current and power registers from the calibration, equations (4) and (5); they may overflow."""
        current = shunt * self.registers[CALIBRATION] // 4096
        power = abs(current) * bus // 5000
        self._overflowed = abs(current) > 0x7FFF or power > 0xFFFF
        self.registers[CURRENT], self.registers[POWER] = current & 0xFFFF, power & 0xFFFF
