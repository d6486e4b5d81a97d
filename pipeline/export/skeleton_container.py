"""The container of a skeleton: a file's bytes without its weights, and a note of what to fill in for them.

What the agent reads is::

    zlib( {"size": N, "fill": [[offset, bytes, mean, standard deviation], ...]} newline  all other bytes in order )
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SMALLEST_FILL_BYTES = 64
"""What is shorter travels as it is: a note of it would be as long."""


@dataclass(frozen=True, slots=True)
class Fill:
    """A range of little-endian float32 values, and their distribution."""

    offset: int
    length: int
    """Bytes."""
    mean: float
    std: float


def pack(data: bytes, fills: Sequence[Fill]) -> bytes:
    """Return the skeleton of a file whose ``fills``, ascending, are left out.

    >>> len(pack(bytes(range(256)) * 40, [Fill(0, 10_236, 0.0, 0.1)])) < 80
    True
    """
    return pack_rest(len(data), fills, b"".join(_rest(data, fills)))


def pack_rest(size: int, fills: Sequence[Fill], rest: bytes) -> bytes:
    """Return the skeleton of a file of ``size`` bytes, of which only the ``rest``, without the fills, are there."""
    header = {"size": size, "fill": [[f.offset, f.length, f.mean, f.std] for f in fills]}
    line = json.dumps(header, separators=(",", ":")).encode() + b"\n"
    return zlib.compress(line + rest, 9)


def extended(skeleton: bytes, tail: bytes) -> bytes:
    """Return the skeleton of a file that ends with some bytes more.

    >>> extended(pack(b"abc", []), b"de") == pack(b"abcde", [])
    True
    """
    head, _, rest = zlib.decompress(skeleton).partition(b"\n")
    header = json.loads(head)
    return pack_rest(header["size"] + len(tail), [Fill(*fill) for fill in header["fill"]], rest + tail)


def deviation(fan_in: int) -> float:
    """Return the deviation of weights that keeps activations in normal range (He et al., 2015).

    >>> deviation(8)
    0.5
    """
    return round(math.sqrt(2 / fan_in), 4) or 1e-4


def _rest(data: bytes, fills: Sequence[Fill]) -> Iterator[bytes]:
    start = 0
    for fill in fills:
        yield data[start : fill.offset]
        start = fill.offset + fill.length
    yield data[start:]
