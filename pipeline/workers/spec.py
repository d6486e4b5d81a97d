"""What ``workers`` in run.yaml names: a number of processes, or a Ray cluster."""

from __future__ import annotations

RAY = "ray"
_ADDRESS = "ray://"


def workers_of(value: object) -> int | str | None:
    """Return how many processes ``value`` asks for, or the Ray cluster that it names.

    >>> workers_of("4"), workers_of(2), workers_of("ray"), workers_of("ray://head")
    (4, 2, 'ray', 'ray://head:10001')

    Raises:
        ValueError: it is neither.
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    text = str(value).strip()
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    host = text.removeprefix(_ADDRESS)
    if text == RAY or (text.startswith(_ADDRESS) and host):
        return text if text == RAY or ":" in host else f"{text}:{CLIENT_PORT}"
    raise ValueError("should be a number of processes from 1 on, ray (the cluster of this machine), or ray://HOST")


CLIENT_PORT = 10001
"""Where ``ray start --head`` takes clients of other hosts."""
