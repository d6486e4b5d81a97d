"""Weights as they travel: a policy file, checked before it is used, whoever sent it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pipeline.federated.structure import Structure
from pipeline.search.dqn.policy_file import GROUPS, groups_text, shapes_of

Weights = Mapping[str, NDArray[np.float32]]

LARGEST = 1e4
"""Magnitude of a weight; those of a network that has learnt rewards of about one are ten thousand times smaller."""
_HEADER_BYTES = 1024**2
"""Names, shapes and places may take so much beside the numbers."""


def packed(weights: Weights, structure: Structure) -> bytes:
    """Return weights as a policy file."""
    whole = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in weights.items()}
    data: bytes = save(whole, metadata={GROUPS: groups_text([name for name, _ in structure.groups])})
    return data


def unpacked(policy: bytes, structure: Structure) -> Weights:
    """Return the weights of a policy file.

    Raises:
        ValueError: says what they are and what they should be: another network's, not finite, or too large.
    """
    most = 4 * structure.numbers + _HEADER_BYTES
    if len(policy) > most:
        raise ValueError(f"they take {len(policy)} bytes; those of this network take {most} at most")
    shapes = shapes_of(policy)
    for name in sorted({*shapes, *structure.tensors}):
        if shapes.get(name) != structure.tensors.get(name):
            raise ValueError(f"tensor {name} has the shape {shapes.get(name)}; expected {structure.tensors.get(name)}")
    try:
        weights: dict[str, NDArray[np.float32]] = load(policy)
    except SafetensorError as error:
        raise ValueError(f"they cannot be read: {error}") from error
    for name, values in weights.items():
        if not np.isfinite(values).all():
            raise ValueError(f"tensor {name} holds a number that is not finite")
        if values.size and float(np.abs(values).max()) > LARGEST:
            raise ValueError(f"tensor {name} holds {float(np.abs(values).max()):.3g}; at most {LARGEST:g} is credible")
    return weights
