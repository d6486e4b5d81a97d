"""Weights as bytes: safetensors, whatever lies or is shared in the memory."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from safetensors.torch import save
from torch import Tensor, nn

WEIGHTS = "weights.safetensors"
"""Name of the file of a pruned network's weights, among an artifact's."""


def tensors_bytes(tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> bytes:
    """Return tensors as a safetensors file, ``about`` in its header; equal tensors give equal bytes.

    Each is written as a contiguous copy of its own: safetensors refuses those that share memory, as layers tied to one
    weight do. Loaded into a network that ties them they are tied again, for both names hold the same values.
    """
    return save({name: _own_copy(tensor) for name, tensor in tensors.items()}, dict(about) if about else None)


def about_of(data: bytes) -> dict[str, str]:
    """Return what the header of a safetensors file says beside its tensors; empty where it is none."""
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size])
        about = header.get("__metadata__", {})
    except (ValueError, AttributeError):
        return {}
    return {str(key): str(value) for key, value in about.items()} if isinstance(about, dict) else {}


def weights_bytes(model: nn.Module) -> bytes:
    """Return a state dict as a safetensors file; equal weights give equal bytes."""
    return tensors_bytes(model.state_dict())


def _own_copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
