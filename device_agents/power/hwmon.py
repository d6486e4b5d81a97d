"""A power chip that a kernel driver holds, by /sys/class/hwmon: INA219 to INA260, or one channel of an INA3221.

in1_input is the supply in mV and curr1_input the current in mA (https://docs.kernel.org/hwmon/ina2xx.html); an
INA3221 has three of each (https://docs.kernel.org/hwmon/ina3221.html). The driver computes the current with the shunt
in ``shunt_resistor`` (µΩ), which it takes to be 10 mΩ until somebody tells it otherwise: a board with the usual 0.1 Ω
reads ten times too much until then, so an unconfirmed shunt is refused.
"""

import glob
import os
import re
import time
from typing import Any, Dict, List, Optional

from device_agents.power import OddReadingError, SensorError, _sysfs, number, one_of, opens, past_odd, settings

PREFERENCE = 30
_DEFAULTS = {
    "root": "/sys/class/hwmon",
    "chip": None,  # its name ("ina219"), its hwmon's ("hwmon2") or its device's ("1-0040")
    "bus": None,  # bus and address name the chip as they do for the raw one
    "address": None,
    "label": None,
    "channel": None,
    "shunt_ohms": None,
    "interval_ms": 20,
    "scope": "board",
}
_FULL_SCALE_V = {"ina219": 0.32, "ina220": 0.32, "ina226": 0.08192, "ina230": 0.08192, "ina231": 0.08192}
"""Of the shunt, by the chips' data sheets."""
_INA2XX = tuple(_FULL_SCALE_V) + ("ina260", "ina233", "ina234", "ina228", "ina237", "ina238", "sy24655")
_INA3221, _INA3221_FULL_SCALE_V = "ina3221", 0.1638
_MOST_V = {"ina219": 32.0, "ina220": 32.0, _INA3221: 32.76}
"""Full scale of the bus voltage, by the same; the drivers leave an INA219 at 32 V."""
_OTHERS_MOST_V = 36.0
"""Above that, the other chips are damaged; their register goes on to 40.96 V."""
_DEFAULT_UOHM = 10000
_UNAVERAGED_S = 0.001064
"""Drivers without an update interval leave an INA219 as it starts: shunt and bus 532 µs each, nothing averaged."""
_SCOPES = ("board", "module", "package")
_TOLERANCE = 0.01


def check(options: Dict[str, Any]) -> str:
    """Say whether one such chip is there, and whether its shunt is known."""
    return opens(open, options)


def open(options: Dict[str, Any]) -> "Hwmon":
    """Find the chip and its channel, and check its shunt."""
    chosen = settings(options, _DEFAULTS)
    interval_s = number(chosen, "interval_ms", 1, 10000) / 1e3
    scope = str(one_of(chosen, "scope", _SCOPES))
    folder = _one(_candidates(chosen), chosen)
    name = _name(folder)
    channel = _channel(folder, name, chosen)
    shunt_ohms = _shunt_ohms(folder, name, channel, chosen)
    return Hwmon(folder, name, channel, shunt_ohms, interval_s, scope)


class Hwmon:
    """One channel of one chip, its files read at an interval."""

    dropped = 0

    def __init__(
        self, folder: str, name: str, channel: int, shunt_ohms: Optional[float], interval_s: float, scope: str
    ) -> None:
        label = _sysfs.text(os.path.join(folder, "in%d_label" % channel))
        self.source = "hwmon " + name + (" " + label if label and name == _INA3221 else "")
        self.scope = scope
        update = _sysfs.text(os.path.join(folder, "update_interval"))
        self._every_s = max(interval_s, int(update) / 1e3) if update and update.isdigit() else interval_s
        self.interval_s = int(update) / 1e3 if update and update.isdigit() else _UNAVERAGED_S
        self._volts_file = os.path.join(folder, "in%d_input" % channel)
        self._current_file = os.path.join(folder, "curr%d_input" % channel)
        full_scale_v = _INA3221_FULL_SCALE_V if name == _INA3221 else _FULL_SCALE_V.get(name)
        self._most_a = full_scale_v / shunt_ohms if full_scale_v and shunt_ohms else None
        self._most_v = _MOST_V.get(name, _OTHERS_MOST_V)
        self._volts = 0.0
        self._due_s = time.monotonic()

    @past_odd
    def read_w(self) -> float:
        """Wait for the interval's end and return the power in watts."""
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        self._due_s = time.monotonic() + self._every_s
        self._volts = _sysfs.whole(self._volts_file) / 1e3
        amperes = _sysfs.whole(self._current_file) / 1e3
        if self._most_a is not None and abs(amperes) >= 0.999 * self._most_a:
            raise SensorError("%s overflowed: more than %.2f A; use a smaller shunt" % (self.source, self._most_a))
        if self._volts >= self._most_v:
            raise SensorError("%s overflowed: a supply of %g V or more" % (self.source, self._most_v))
        if amperes < -0.01:
            raise OddReadingError("the current through %s runs backwards: swap VIN+ and VIN-" % self.source)
        if self._volts <= 0:
            raise OddReadingError("%s sees 0 V: wire VIN+ to the supply and VIN- to the board" % self.source)
        return self._volts * amperes

    def volts(self) -> float:
        """Return the supply voltage at the last read."""
        return self._volts

    def close(self) -> None:
        """Nothing is held open between two reads."""


def _candidates(chosen: Dict[str, Any]) -> List[str]:
    """Return the folders of the chips that the options allow."""
    root = str(chosen["root"])
    folders = sorted(glob.glob(os.path.join(glob.escape(root), "hwmon*")))
    known = [f for f in folders if _name(f) in _INA2XX or _name(f) == _INA3221]
    wanted = chosen["chip"]
    if wanted is not None:
        known = [f for f in known if wanted in (_name(f), os.path.basename(f), _device(f))]
    elif chosen["address"] is not None:
        bus = 1 if chosen["bus"] is None else int(number(chosen, "bus", 0, 255))
        device = "%d-%04x" % (bus, int(number(chosen, "address", 0x03, 0x77)))
        known = [f for f in known if _device(f) == device]
    elif chosen["label"] is None and chosen["channel"] is None:
        known = [f for f in known if _name(f) != _INA3221]  # which of its channels is the input, only a person knows
    if chosen["label"] is not None:
        known = [f for f in known if chosen["label"] in _labels(f).values()]
    return known


def _one(folders: List[str], chosen: Dict[str, Any]) -> str:
    if not folders:
        device = "1" if chosen["bus"] is None else str(chosen["bus"])
        raise SensorError(
            "no such power chip under %s: bind the driver with "
            "echo ina219 0x40 | sudo tee /sys/bus/i2c/devices/i2c-%s/new_device (on a Jetson, use backend ina3221)"
            % (chosen["root"], device)
        )
    if len(folders) > 1:
        found = ", ".join("%s (%s)" % (os.path.basename(f), _name(f)) for f in folders)
        raise SensorError("several power chips: %s; name one with the option chip" % found)
    return folders[0]


def _channel(folder: str, name: str, chosen: Dict[str, Any]) -> int:
    if name != _INA3221:
        return 1
    labels = _labels(folder)
    if chosen["label"] is not None:
        return next(channel for channel, label in labels.items() if label == chosen["label"])
    if chosen["channel"] is None:
        shown = ", ".join("%d %s" % pair for pair in sorted(labels.items())) or "1, 2, 3"
        raise SensorError("an INA3221 has three channels: name one with label or channel; it shows %s" % shown)
    return int(number(chosen, "channel", 1, 3))


def _shunt_ohms(folder: str, name: str, channel: int, chosen: Dict[str, Any]) -> Optional[float]:
    """Return the shunt that the driver computes with, None for a chip that has its own inside.

    Raises:
        SensorError: it is not the one that the options name, or nobody has confirmed the driver's default.
    """
    path = os.path.join(folder, ("shunt%d_resistor" % channel) if name == _INA3221 else "shunt_resistor")
    if _sysfs.text(path) is None:
        return None
    believed = _sysfs.whole(path)
    if chosen["shunt_ohms"] is None:
        if believed == _DEFAULT_UOHM and name != _INA3221:
            raise SensorError(
                "the driver takes the shunt to be its default of 0.01 ohm, and most breakouts have 0.1: write "
                "shunt_ohms in the inventory as printed on the shunt (R100 = 0.1, R010 = 0.01)"
            )
        return believed / 1e6
    real = number(chosen, "shunt_ohms", 1e-4, 10)
    if abs(believed / 1e6 - real) > _TOLERANCE * real:
        raise SensorError(
            "the driver takes the shunt to be %g ohm, the inventory says %g: echo %d | sudo tee %s"
            % (believed / 1e6, real, round(real * 1e6), path)
        )
    return real


def _name(folder: str) -> str:
    return _sysfs.text(os.path.join(folder, "name")) or ""


def _device(folder: str) -> str:
    """Return the I2C device's name, such as 1-0040."""
    return os.path.basename(os.path.realpath(os.path.join(folder, "device")))


def _labels(folder: str) -> Dict[int, str]:
    paths = glob.glob(os.path.join(glob.escape(folder), "in[1-3]_label"))
    return {int(re.findall(r"in(\d)_label$", path)[0]): _sysfs.text(path) or "" for path in paths}
