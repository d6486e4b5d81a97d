"""Valid files made invalid: bits flipped, ends cut off, parts swapped, values of other types, huge, nested deeply."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

DEPTHS = (40, 600, 5000, 100_000)
_MARK = "\u2603"  # stands in a tree for what json cannot write, and in no sample

Tree = Any
"""What JSON can say."""


@st.composite
def damaged(draw: st.DrawFn, sample: bytes, edits: int = 4) -> bytes:
    """Return the sample after a few edits that know nothing of its format."""
    data = bytearray(sample)
    for _ in range(draw(st.integers(1, edits))):
        data = draw(st.sampled_from(_EDITS))(draw, data)
    return bytes(data)


@st.composite
def changed(draw: st.DrawFn, sample: Tree, edits: int = 3) -> Tree:
    """Return a copy of the tree with some of its values replaced, moved, repeated or left out."""
    tree = copy.deepcopy(sample)
    for _ in range(draw(st.integers(1, edits))):
        places = list(_places(tree))
        if not places:
            return tree
        holder, key = draw(st.sampled_from(places))
        kind = draw(st.integers(0, 9))
        if kind == 0:
            del holder[key]
        elif kind == 1:
            other, there = draw(st.sampled_from(places))
            here, beyond = copy.deepcopy(holder[key]), copy.deepcopy(other[there])
            holder[key], other[there] = beyond, here
        elif kind == 2:
            holder[key] = [holder[key]] * draw(st.sampled_from((2, 50)))
        elif kind == 3 and isinstance(holder, dict):
            holder[draw(st.sampled_from(("", "x", "__class__", "0", "recipe", str(key).upper())))] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(draw(ODD))
    return tree


ODD = st.one_of(
    st.sampled_from(
        (None, True, False, 0, -1, 1, 10**9, -(10**18), 10**30, 0.5, 1e308, float("nan"), float("inf"), "", "x", "~",
         "\0", "é\ud800", "../../../etc/passwd", "/dev/zero", "x" * 5000, "1e5", [], {}, [[]], {"": None}, [0] * 100)
    ),
    st.sampled_from([f"{_MARK}deep{depth}{_MARK}" for depth in DEPTHS]),
    st.sampled_from([f"{_MARK}digits{count}{_MARK}" for count in (400, 4000, 50_000)]),
)  # fmt: skip


def text_of(tree: Tree) -> bytes:
    """Return a tree as JSON, also where it is nested or numbers are longer than ``json`` would write."""
    text = json.dumps(tree).replace(json.dumps(_MARK)[1:-1], _MARK)
    for depth in DEPTHS:
        text = text.replace(f'"{_MARK}deep{depth}{_MARK}"', "[" * depth + "]" * depth)
    for count in (400, 4000, 50_000):
        text = text.replace(f'"{_MARK}digits{count}{_MARK}"', "7" * count)
    return text.encode("utf-8", "surrogatepass")


def _places(tree: Tree) -> list[tuple[Any, Any]]:
    """Return every holder and key in a tree."""
    found, left = [], [tree]
    while left:
        holder = left.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            found.append((holder, key))
            left.append(holder[key])
    return found


# ---------------------------------------------------------------- edits of bytes


def _span(draw: st.DrawFn, data: bytearray) -> slice:
    start = draw(st.integers(0, max(0, len(data) - 1)))
    return slice(start, start + draw(st.sampled_from((1, 2, 4, 8, 16, 64, 1000))))


def _flip(draw: st.DrawFn, data: bytearray) -> bytearray:
    for _ in range(draw(st.sampled_from((1, 1, 3, 20)))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
    return data


def _cut_off(draw: st.DrawFn, data: bytearray) -> bytearray:
    return data[: draw(st.integers(0, len(data)))]


def _leave_out(draw: st.DrawFn, data: bytearray) -> bytearray:
    del data[_span(draw, data)]
    return data


def _repeat(draw: st.DrawFn, data: bytearray) -> bytearray:
    span = _span(draw, data)
    data[span] = data[span] * draw(st.sampled_from((2, 3, 100)))
    return data


def _swap(draw: st.DrawFn, data: bytearray) -> bytearray:
    a, b = _span(draw, data), _span(draw, data)
    data[a], data[b] = data[b], data[a]
    return data


def _overwrite(draw: st.DrawFn, data: bytearray) -> bytearray:
    start = draw(st.integers(0, len(data)))
    odd = draw(st.sampled_from(_ODD_BYTES) | st.binary(max_size=16))
    data[start : start + len(odd)] = odd
    return data


def _insert(draw: st.DrawFn, data: bytearray) -> bytearray:
    start = draw(st.integers(0, len(data)))
    data[start:start] = draw(st.sampled_from((*_ODD_BYTES, *_ODD_TEXT)) | st.binary(max_size=64))
    return data


_ODD_BYTES = (
    b"\0", b"\0" * 8, b"\xff" * 4, b"\xff" * 8, b"\xff\xff\xff\x7f", b"\xff" * 7 + b"\x7f", b"\x80", b"\n", b"\r", b'"'
)  # fmt: skip
_ODD_TEXT = (
    b"[" * 5000, b"{" * 5000, b'{"a":' * 5000, b"- " * 5000, b"9" * 5000, b"0x" + b"f" * 5000, b"&a [*a]", b"*a",
    b"<<: *x\n", b"? ", b"!!python/object:os.system ", b"!!binary ", b"? {a: b}\n", b"1:1:1:1", b"2001-99-99",
    b"%YAML 9.9\n---\n", b"\t", b"..", b"~root/", b"~nobody-such/", b"x" * 5000, "é\u2028".encode(),
)  # fmt: skip
_EDITS = (_flip, _flip, _cut_off, _leave_out, _repeat, _swap, _overwrite, _insert)
