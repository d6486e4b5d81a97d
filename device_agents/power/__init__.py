"""Power sensors; one a file, found by its file's name. Files that begin with ``_`` are what several of them share.

A plugin has two functions:

check(options) -> str       "ok", or why it cannot be used here and what fixes it; quick, and leaves nothing behind
open(options) -> Sensor     raises SensorError

and a Sensor has

source                      its name, with what it reads
scope                       what it sees: "module", "board" or "package"
interval_s                  the time that one value covers
estimated                   True where power is computed by a model of the board; may be left out where it is measured
read_w() -> float           waits for the next fresh value: the sensor sets the pace, so no value is read twice
volts() -> float or None    the supply voltage at the last read; may be left out
dropped                     how many readings could not be true and were dropped; may be left out
close()

A plugin may have three names more. The host reads them from the file's text, so they are written out, not computed:

PREFERENCE                  a number: which sensor to take where nobody named one and several can be read, the lowest
                            first. Measured comes before estimated, the board's own wiring before a chip that somebody
                            added, one that the kernel holds before one that has to be talked to
USER_GROUPS                 Unix groups that own the sensor's device file; whoever reads it has to be in them
SETUP                       what to run on the board where ``check`` fails: [{"when": words of what check says,
                            "command": one line of shell, "title": what it brings, "board": how the names of the boards
                            begin that it is for}]; the last two may be left out

A sensor that cannot vouch for a value raises SensorError: a wrong number is worse than none. Where the next reading may
well be true, it raises OddReadingError, and ``past_odd`` drops single such readings.
"""

import functools
import math
from typing import Any, Callable, Dict, Iterable

UNPREFERRED = 100
"""The preference of a sensor that says none: after those that ship."""

MOST_ODD = 10
"""Readings in a row that cannot be true; one more ends the sensor."""
MOST_W, LEAST_W = 1e4, -100.0
"""Beyond any board, and any sensor's offset: such a reading is none."""


class SensorError(Exception):
    """A sensor cannot be used, or its value cannot be trusted; says what fixes it."""


class OddReadingError(SensorError):
    """One reading cannot be true; the next one may be."""


def past_odd(read: Callable[[Any], float]) -> Callable[[Any], float]:
    """Make a sensor's ``read_w`` drop single odd readings; they are counted in ``dropped``, and show as gaps."""

    @functools.wraps(read)
    def read_w(sensor: Any) -> float:
        for _ in range(MOST_ODD + 1):
            try:
                watts = read(sensor)
                if math.isfinite(watts) and LEAST_W < watts < MOST_W:
                    return watts
                error = OddReadingError("%s shows %g W, which no board draws" % (sensor.source, watts))
            except OddReadingError as why:
                error = why
            sensor.dropped += 1
        raise SensorError("%s (%d readings in a row)" % (error, MOST_ODD + 1))

    return read_w


def settings(options: Dict[str, Any], defaults: Dict[str, Any]) -> Dict[str, Any]:
    """Return ``options`` over ``defaults``; raise SensorError for one that the sensor does not have.

    >>> settings({"bus": 0}, {"bus": 1, "address": 64}) == {"bus": 0, "address": 64}
    True
    """
    for name in options:
        if name not in defaults:
            known = ", ".join(sorted(defaults)) or "none"
            raise SensorError("unknown option %r for this sensor; it has: %s" % (name, known))
    return dict(defaults, **options)


def number(options: Dict[str, Any], name: str, low: float, high: float) -> float:
    """Return the option ``name`` as a number between ``low`` and ``high``; ``"0x40"`` is one too."""
    value = options[name]
    try:
        found = float(int(value, 0)) if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        found = float("nan")
    if isinstance(value, bool) or not low <= found <= high:
        raise SensorError("option %s is %r, expected a number from %g to %g" % (name, value, low, high))
    return found


def one_of(options: Dict[str, Any], name: str, known: Iterable[Any]) -> Any:
    """Return the option ``name``, which has to be one of the ``known`` values."""
    value = options[name]
    known = list(known)
    if isinstance(value, bool) or value not in known:
        raise SensorError("option %s is %r, expected one of %s" % (name, value, ", ".join(map(str, known))))
    return value


def opens(open_sensor: Callable[[Dict[str, Any]], Any], options: Dict[str, Any]) -> str:
    """Return what a plugin's ``check`` says where opening is quick and tells all: "ok", or why it cannot be used."""
    try:
        open_sensor(options).close()
    except SensorError as error:
        return str(error)
    return "ok"
