"""Which of a Jetson's rails is the module's input, by the names that the board gives them."""

from typing import Dict, Iterable, Optional, Tuple

from device_agents.power import SensorError

_MOST_W = 1000.0
"""Seven times what the largest module, Thor, may draw."""
_TOTALS = ("POM_5V_IN", "VDD_IN", "VIN")
"""Rails that are the module's input: Nano; TX1, TX2, Xavier NX, Orin Nano and NX; Thor."""
_SUMS = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)
"""Boards without such a rail: those that add up to the input."""


def total_names(rails: Iterable[str], rail: Optional[str] = None) -> Tuple[str, ...]:
    """Return the rails that add up to the module's input, or ``rail`` alone where it is named.

    >>> total_names(["POM_5V_GPU", "POM_5V_IN", "POM_5V_CPU"])
    ('POM_5V_IN',)

    Raises:
        SensorError: no such rail, or no known total.
    """
    rails = list(rails)
    shown = ", ".join(rails) or "none"
    if rail is not None:
        if rail not in rails:
            raise SensorError("the board shows no rail %s; it shows %s" % (rail, shown))
        return (rail,)
    for total in _TOTALS:
        if total in rails:
            return (total,)
    for parts in _SUMS:
        if set(parts) <= set(rails):
            return parts
    raise SensorError("no rail of %s is known as the module's input: name it with the option rail" % shown)


def total_w(rails_mw: Dict[str, int], rail: Optional[str] = None) -> float:
    """Return the module's power in watts: of ``rail``, else of the input rail, else the sum that stands for it.

    Raises:
        SensorError: no such rail; no known total; a total that cannot be; or a part above the total, as on carriers
            that mislabel rails.
    """
    names = total_names(rails_mw, rail)
    total = sum(rails_mw[name] for name in names)
    is_input = rail is None or rail in _TOTALS  # a part may rest, and show its offset
    if total >= 1e3 * _MOST_W or (total <= 0 and is_input):
        raise SensorError("%s shows %d mW, which no module draws: name another rail" % ("+".join(names), total))
    if rail is None and len(names) == 1:
        for name, part in rails_mw.items():
            if part > total:
                raise SensorError(
                    "rail %s shows %d mW, more than the input %s with %d mW: this carrier labels its rails wrongly; "
                    "find the input and name it with the option rail" % (name, part, names[0], total)
                )
    return total / 1e3
