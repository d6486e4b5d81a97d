"""No sensor: power is not measured, and no number stands in for it."""

from typing import Any, Dict

from device_agents.power import SensorError

PREFERENCE = 1000  # after all others


def check(options: Dict[str, Any]) -> str:
    """Return ok: measuring no power is always possible."""
    del options
    return "ok"


def open(options: Dict[str, Any]) -> Any:
    """Refuse: there is nothing to read."""
    del options
    raise SensorError("the null sensor measures nothing: measure without one, or name a real sensor in the inventory")
