import array
import io
import json
import math
import statistics
import time
import zlib

import pytest

from device_agents import skeleton
from device_agents.errors import AgentError
from device_agents.protocol import CORRUPT


def pack(size, fill, rest, header=None):
    line = json.dumps(header or {"size": size, "fill": fill}).encode()
    return zlib.compress(line + b"\n" + rest)


def expanded(data, seed=0):
    file = io.BytesIO()
    skeleton.expand(skeleton.parse(data), file, seed)
    return file.getvalue()


def floats(raw):
    return array.array("f", raw)


def test_ranges_are_filled_and_the_rest_is_copied_in_order():
    whole = expanded(pack(20, [[3, 8, 1.0, 0.5], [13, 4, 0.0, 1.0]], b"abcdefgh"))

    assert len(whole) == 20
    assert (whole[:3], whole[11:13], whole[17:]) == (b"abc", b"de", b"fgh")


def test_the_values_are_the_same_ever_after():
    whole = expanded(pack(8 + 16384, [[4, 16384, 0.25, 2.0]], b"headtail"), seed=7)

    assert [round(value, 4) for value in floats(whole[4:20])] == GOLDEN_VALUES
    assert whole[:4] + whole[-4:] == b"headtail"


def test_values_have_the_mean_and_spread_that_were_asked_for():
    values = floats(expanded(pack(65536, [[0, 65536, -3.0, 0.1]], b"")))

    assert statistics.mean(values) == pytest.approx(-3.0, abs=0.01)
    assert statistics.stdev(values) == pytest.approx(0.1, rel=0.05)
    assert min(map(abs, values)) > 1.2e-38  # neither zero nor denormal


def test_a_seed_gives_the_same_file_and_another_seed_another():
    data = pack(400, [[0, 400, 0.0, 1.0]], b"")

    assert expanded(data, 1) == expanded(data, 1) != expanded(data, 2)


def test_the_tile_repeats_and_is_cut_to_the_range():
    tile = 4096 * 4
    raw = expanded(pack(tile * 130 + 8, [[0, tile * 130 + 8, 0.0, 1.0]], b""))

    assert raw == raw[:tile] * 130 + raw[:8]


def test_a_file_without_ranges_is_copied():
    assert expanded(pack(3, [], b"abc")) == b"abc"


def test_a_hundred_megabytes_take_about_a_second_at_most():
    data = pack(100_000_000, [[0, 100_000_000, 0.0, 1.0]], b"")

    class Sink:
        write = staticmethod(lambda _: None)

    start = time.process_time()
    skeleton.expand(skeleton.parse(data), Sink())
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "cut off"),
        (b"not zlib", "no zlib stream"),
        (pack(3, [], b"abc")[:-2], "cut off"),
        (pack(3, [], b"abc") + b"x", "followed by other bytes"),
        (zlib.compress(b"{}"), "header"),
        (zlib.compress(b"[]\n"), "header"),
        (zlib.compress(b"\xff\n"), "header"),
        (pack(4, [], b"abc"), "do not make 4"),
        (pack(3, [], b"abcd"), "do not make 3"),
        (pack(8, [[0, 4, 0, 1], [2, 4, 0, 1]], b""), "overlaps"),
        (pack(8, [[4, 4, 0, 1], [0, 4, 0, 1]], b""), "overlaps"),
        (pack(8, [[4, 8, 0, 1]], b"abcd"), "leaves the file"),
        (pack(8, [[0, 6, 0, 1]], b"ab"), "whole float32"),
        (pack(8, [[0, 0, 0, 1]], b"abcdefgh"), "whole float32"),
        (pack(8, [[-4, 4, 0, 1]], b"abcd"), "header"),
        (pack(8, [[0.0, 4, 0, 1]], b"abcd"), "header"),
        (pack(8, [[0, 4, 0]], b"abcd"), "header"),
        (pack(8, [[0, 4, "0", 1]], b"abcd"), "header"),
        (pack(8, [[0, 4, math.nan, 1]], b"abcd"), "header"),
        (pack(8, [[0, 4, 10**400, 1]], b"abcd"), "header"),
        (pack(8, [[0, 4, 1e39, 1]], b"abcd"), "float32 cannot hold"),
        (pack(8, [[0, 4, 0, -1]], b"abcd"), "float32 cannot hold"),
        (pack(1 << 40, [[0, 1 << 40, 0, 1]], b""), "at most"),
    ],
)
def test_a_broken_skeleton_is_refused_with_what_is_wrong(data, complaint):
    with pytest.raises(AgentError, match=complaint) as caught:
        skeleton.parse(data)

    assert caught.value.kind == CORRUPT


GOLDEN_VALUES = [-0.2618, 1.2729, -0.2022, -0.3801]
