"""A Raspberry Pi 5's power, estimated from what its power management chip says of its own outputs.

``vcgencmd pmic_read_adc`` prints current and voltage of twelve rails, but not the current of the 5 V input: the
chip's losses, USB and whatever is fed past it are missing. A line fitted by Pi 5 owners against meters at the plug
fills the gap: board = 1.1451 × Σ(V×A) + 0.5879 W. That is a model of other people's boards, so the source is called
estimated and its figures are never to be mixed with measured ones.
"""

import re
import time
from typing import Any, Dict, List, Optional, Tuple

from device_agents import programs
from device_agents.power import OddReadingError, SensorError, number, opens, past_odd, settings

PREFERENCE = 60
_DEFAULTS = {"interval_ms": 100, "command": "vcgencmd"}
GAIN, OFFSET_W = 1.1451, 0.5879
_INPUT = "EXT5V"
_LINE = re.compile(r"^\s*(\w+)_([AV]) (?:current|volt)\(\d+\)=(-?\d+(?:\.\d+)?)[AV]\s*$", re.M)
_TIMEOUT_S = 2.0
_LOOKS = 3


def check(options: Dict[str, Any]) -> str:
    """Say whether the firmware answers."""
    return opens(open, options)


def open(options: Dict[str, Any]) -> "Pmic":
    """Read the rails, so that a board without them is known at once."""
    chosen = settings(options, _DEFAULTS)
    interval_s = number(chosen, "interval_ms", 20, 10000) / 1e3
    program = programs.find(str(chosen["command"]))
    if not program:
        raise SensorError("%s is not there: it is on Raspberry Pi OS only" % chosen["command"])
    sensor = Pmic(program, interval_s)
    sensor.begin()
    return sensor


def parse(text: str) -> Tuple[float, Optional[float]]:
    r"""Return the power of all rails that show both current and voltage, in watts, and the 5 V input's voltage.

    >>> parse(" 3V3_SYS_A current(1)=0.10A\n 3V3_SYS_V volt(9)=3.30V\n EXT5V_V volt(24)=5.10V\n")
    (0.33, 5.1)

    Raises:
        SensorError: no rail shows both.
    """
    found = {(name, unit): float(value) for name, unit, value in _LINE.findall(text)}
    rails = rails_in(text)
    if not rails:
        raise SensorError("the firmware shows no rails, as a Raspberry Pi 5's would: %.100r" % text.strip())
    watts = sum(found[name, "A"] * found[name, "V"] for name in rails)
    return round(watts, 9), found.get((_INPUT, "V"))


def rails_in(text: str) -> List[str]:
    """Return the rails that show both current and voltage."""
    names = {(name, unit) for name, unit, _ in _LINE.findall(text)}
    return sorted(name for name, unit in names if unit == "A" and (name, "V") in names)


class Pmic:
    """The board's estimated power at an interval; each look is a call into the firmware."""

    source = "pmic estimated"
    scope = "board"
    estimated = True
    dropped = 0

    def __init__(self, program: str, interval_s: float) -> None:
        self.interval_s = interval_s
        self._program = program
        self._volts: Optional[float] = None
        self._rails: List[str] = []
        self._due_s = time.monotonic()

    def begin(self) -> None:
        """Learn which rails there are; one odd answer is asked again."""
        for left in range(_LOOKS - 1, -1, -1):
            try:
                said = self._output()
                parse(said)
                self._rails = rails_in(said)
                return
            except SensorError:
                if not left:
                    raise

    @past_odd
    def read_w(self) -> float:
        """Wait for the interval's end and return the estimate in watts."""
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        self._due_s = time.monotonic() + self.interval_s
        said = self._output()
        try:
            rails_w, self._volts = parse(said)
        except SensorError as error:
            raise OddReadingError(str(error))
        if rails_in(said) != self._rails:  # an answer that broke off would be too small a sum
            raise OddReadingError("the firmware shows other rails than before: %.100r" % said.strip())
        if rails_w <= 0:
            raise OddReadingError("the firmware's rails add up to %g W" % rails_w)
        return GAIN * rails_w + OFFSET_W

    def volts(self) -> Optional[float]:
        """Return the 5 V input's voltage at the last read; that one is measured."""
        return self._volts

    def close(self) -> None:
        """Nothing is held open between two reads."""

    def _output(self) -> str:
        try:
            _, said = programs.run([self._program, "pmic_read_adc"], _TIMEOUT_S)
        except programs.ProgramError as error:
            raise OddReadingError("vcgencmd pmic_read_adc failed: %s" % error)
        if "Permission denied" in said or "Can't open device" in said or "VCHI" in said:
            raise SensorError("no permission for vcgencmd: sudo usermod -aG video $USER, then log in again")
        return said
