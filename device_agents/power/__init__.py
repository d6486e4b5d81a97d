"""Power sensors; one a file, found by its file's name.

A plugin has two functions:

check(options) -> str       "ok", or why it cannot be used here and what mends it; quick, and leaves nothing behind
open(options) -> Sensor     raises SensorError

and a Sensor has

source                      its name, with what it reads
scope                       what it sees: "module", "board" or "package"
interval_s                  the time that one value covers
read_w() -> float           waits for the next fresh value: the sensor sets the pace, so no value is read twice
close()

A sensor that cannot vouch for a value raises SensorError: a wrong number is worse than none.
"""

from typing import Any, Dict


class SensorError(Exception):
    """A sensor cannot be used, or its value cannot be trusted; says what mends it."""


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
