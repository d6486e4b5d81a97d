"""Policy file: a Q-network's weights as safetensors, with the groups of layers that it decides on; no torch here.

What it holds is read from its header, which says of each tensor its type, shape and place, before a number is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import serialization

GROUPS = "groups"
"""Key of the file's metadata."""
_MOST_HEADER_BYTES = 4 * 1024**2


def groups_text(groups: Sequence[str]) -> str:
    """Return the names of groups as the file's metadata has them."""
    return json.dumps(list(groups))


def header_of(policy: bytes) -> Mapping[str, Any]:
    """Return the header of a safetensors file: what it says of each tensor, and its metadata.

    Raises:
        ValueError: it is none.
    """
    size = int.from_bytes(policy[:8], "little")
    if not 0 < size <= min(_MOST_HEADER_BYTES, len(policy) - 8):
        raise ValueError("it is not a safetensors file")
    header = serialization.from_text(policy[8 : 8 + size])
    if not isinstance(header, dict) or not all(isinstance(entry, dict) for entry in header.values()):
        raise ValueError("it is not a safetensors file")
    return header


def shapes_of(policy: bytes) -> dict[str, tuple[int, ...]]:
    """Return each tensor's shape by its name.

    Raises:
        ValueError: it is not a safetensors file, or a tensor is not of 32-bit floats.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, entry in header_of(policy).items():
        if name == "__metadata__":
            continue
        shape = entry.get("shape")
        if entry.get("dtype") != "F32" or not isinstance(shape, list):
            raise ValueError(f"its tensor {name} is not of 32-bit floats")
        if not all(isinstance(side, int) and side >= 0 for side in shape):
            raise ValueError(f"its tensor {name} has the shape {shape}")
        shapes[name] = tuple(shape)
    return shapes
