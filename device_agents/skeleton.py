"""Weightless models: a file without its weight bytes, and the list of ranges to fill with random values.

Latency and power depend on a network's shapes, not on its trained values, so this is all that has to travel while
searching. A skeleton is one zlib stream of

    {"size": N, "fill": [[offset, nbytes, mean, std], ...]} newline, then the rest of the model file in order

Each range gets little-endian float32 values, mean + std × normal, repeated from a tile of 4096 values: zeros and
denormal numbers, which some processors are faster or slower at, do not come up.
"""

import array
import json
import sys
import zlib
from typing import Any, BinaryIO, Dict, List, NamedTuple, Tuple

from device_agents.errors import AgentError
from device_agents.protocol import CORRUPT

_TILE_VALUES = 4096
_TILES_A_WRITE = 64
_MAX_MODEL_BYTES = 1 << 31  # a protobuf, and so an ONNX file, is never larger
_MAX_PAYLOAD_BYTES = 1 << 28
_MAX_FLOAT32 = 3e38


class Fill(NamedTuple):
    """One range of the model file, and the distribution of its float32 values."""

    offset: int
    nbytes: int
    mean: float
    std: float


class Skeleton(NamedTuple):
    """A model file's size, the ranges to fill, and its other bytes in order."""

    size: int
    fills: List[Fill]
    rest: bytes


def parse(data: bytes) -> Skeleton:
    """Read and check a skeleton file; raise CORRUPT where sizes or ranges do not fit together."""
    header, newline, rest = _inflate(data).partition(b"\n")
    try:
        fields = json.loads(header.decode("utf-8"))
        size = _whole(fields["size"])
        fills = [Fill(_whole(o), _whole(n), _finite(mean), _finite(std)) for o, n, mean, std in fields["fill"]]
    except (ValueError, KeyError, TypeError) as error:
        raise _corrupt("its header cannot be read: %r" % error)
    if not newline or size > _MAX_MODEL_BYTES:
        raise _corrupt("size %d, at most %d" % (size, _MAX_MODEL_BYTES))
    _check(size, fills, len(rest))
    return Skeleton(size, fills, rest)


def expand(skeleton: Skeleton, file: BinaryIO, seed: int = 0) -> None:
    """Write the whole model, ``skeleton.size`` bytes, to ``file``."""
    normal = _normal(seed)
    tiles: Dict[Tuple[float, float], bytes] = {}
    position = taken = 0
    for fill in skeleton.fills:
        taken_end = taken + fill.offset - position
        file.write(skeleton.rest[taken:taken_end])
        shape = (fill.mean, fill.std)
        if shape not in tiles:
            tiles[shape] = _tile(normal, *shape)
        _repeat(file, tiles[shape], fill.nbytes)
        position, taken = fill.offset + fill.nbytes, taken_end
    file.write(skeleton.rest[taken:])


def _inflate(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        payload = stream.decompress(data, _MAX_PAYLOAD_BYTES)
    except zlib.error as error:
        raise _corrupt("it is no zlib stream: %s" % error)
    if not stream.eof or stream.unused_data:
        raise _corrupt("its zlib stream is cut off, too long, or followed by other bytes")
    return payload


def _check(size: int, fills: List[Fill], rest: int) -> None:
    """Raise CORRUPT unless the ranges ascend inside the file and the other bytes are exactly as many as remain."""
    end = 0
    for fill in fills:
        if fill.offset < end or fill.nbytes == 0 or fill.nbytes % 4 or fill.offset + fill.nbytes > size:
            raise _corrupt("range %r overlaps, is not of whole float32 values, or leaves the file" % (tuple(fill),))
        if fill.std < 0 or abs(fill.mean) + 10 * fill.std > _MAX_FLOAT32:
            raise _corrupt("range %r has values that float32 cannot hold" % (tuple(fill),))
        end = fill.offset + fill.nbytes
    filled = sum(fill.nbytes for fill in fills)
    if filled + rest != size:
        raise _corrupt("%d bytes to fill and %d others do not make %d" % (filled, rest, size))


def _normal(seed: int) -> List[float]:
    import random  # not above: the agent itself expands few files, and has to stay small

    generator = random.Random(seed)
    return [generator.gauss(0.0, 1.0) for _ in range(_TILE_VALUES)]


def _tile(normal: List[float], mean: float, std: float) -> bytes:
    values = array.array("f", [mean + std * value for value in normal])
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _repeat(file: BinaryIO, tile: bytes, nbytes: int) -> None:
    chunk = tile * min(_TILES_A_WRITE, -(-nbytes // len(tile)))
    for _ in range(nbytes // len(chunk)):
        file.write(chunk)
    file.write(chunk[: nbytes % len(chunk)])


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("%r is not a whole number" % (value,))
    return value


def _finite(value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:  # an integer may be larger
        raise ValueError("%r is not a finite number" % (value,))
    return float(value)


def _corrupt(why: str) -> AgentError:
    return AgentError(CORRUPT, "not a skeleton: %s; send it again" % why)
