"""The runtime's own options, told apart from the conditions that every runtime is given."""

from typing import Any, Dict

_CONDITIONS = ("threads", "affinity", "spinning", "build_timeout_s")


def own(options: Dict[str, Any], defaults: Dict[str, Any]) -> Dict[str, Any]:
    """Return what the inventory says of ``defaults``' options, and the default of each other one.

    Raises:
        ValueError: an unknown option, or one that is not of its default's type; names those that there are.

    >>> own({"threads": 4, "fp16": True}, {"fp16": False, "workspace_mb": 256})
    {'fp16': True, 'workspace_mb': 256}
    """
    chosen = {name: value for name, value in options.items() if name not in _CONDITIONS}
    for name, value in chosen.items():
        if name not in defaults:
            raise ValueError("unknown runtime option %r; known: %s" % (name, ", ".join(sorted(defaults)) or "none"))
        if type(value) is not type(defaults[name]):
            raise ValueError("runtime option %s is %r, expected something like %r" % (name, value, defaults[name]))
    return dict(defaults, **chosen)


def one_of(name: str, value: Any, choices: Dict[str, Any]) -> Any:
    """Return what ``value`` stands for; a ValueError names the choices.

    >>> one_of("level", "high", {"low": 1, "high": 2})
    2
    """
    if value not in choices:
        raise ValueError("runtime option %s is %r, expected one of %s" % (name, value, ", ".join(sorted(choices))))
    return choices[value]
