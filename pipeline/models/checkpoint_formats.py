"""Checkpoint formats: find the state dict inside what training scripts save.

A checkpoint is read as one flat list of tensors, each under the path of keys that leads to it,
``model_ema.conv1.weight``. A set of weights is a prefix of these paths under which every tensor of the network stands.
So it does not matter how scripts call and nest what they wrap a state dict in: DataParallel (``module.``),
torch.compile (``_orig_mod.``, also around single layers), Lightning (``state_dict``, ``model.``), averaged models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

WRAPPERS = frozenset({"module", "_orig_mod"})
"""Names that DataParallel and torch.compile put between a network and its layers; they say nothing of which weights."""
COUNTERS = frozenset({"total_ops", "total_params", "n_averaged"})
"""What profilers (thop) and averaged models (torch.optim.swa_utils) count in buffers, which no network reads."""
AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")
"""Of GoogLeNet and Inception: in published checkpoints, useless after training."""
DEPTH = 30
TENSORS = 200_000
"""Deeper or more numerous is no checkpoint: the largest networks of torchvision have 3,000 tensors."""


class UnreadableError(ValueError):
    """A checkpoint is nested in itself, too deep, or too large; says which."""


class Entry(NamedTuple):
    """A tensor of a checkpoint."""

    path: str
    """The keys that lead to it, and its own, joined by dots; without wrappers."""
    holder: int
    """The dictionary that it stands in, by number."""
    value: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A set of weights, perhaps one that does not fit."""

    name: str
    """The keys under which it stands, joined by dots; empty: the file holds nothing around it."""
    state: Mapping[str, Tensor]
    """Under the network's own names; what is in the same dictionaries and not the network's own as well."""
    missing: Sequence[str]
    misshapen: Sequence[str]
    """In words: which tensor has which shape, and which it should have."""
    unexpected: Sequence[str]
    unusable: Sequence[str]
    """Where the network has floats, these are integers, quantised or complex numbers, sparse, or without values."""

    @property
    def fits(self) -> bool:
        """Every tensor of the network is there in its shape, and nothing else beside them."""
        return not (self.missing or self.misshapen or self.unexpected)


def entries(content: object, own: Mapping[str, Tensor]) -> list[Entry]:
    """Return every tensor of a checkpoint.

    Args:
        content: as torch or safetensors have read it.
        own: the network's state dict, whose names tell wrappers from layers of that name.

    Raises:
        UnreadableError: see there.
    """
    names = {part for key in own for part in key.split(".")}
    found: list[Entry] = []
    for keys, holder, value in _walk(content, (), [], iter(range(TENSORS + 1))):
        parts = [part for key in keys for part in key.split(".") if part not in WRAPPERS or part in names]
        if parts and (parts[-1] not in COUNTERS or parts[-1] in names):
            found.append(Entry(".".join(parts), holder, value))
        if len(found) > TENSORS:
            raise UnreadableError(f"it holds more than {TENSORS:,} tensors")
    return found


def sets_of_weights(found: Sequence[Entry], own: Mapping[str, Tensor]) -> list[Found]:
    """Return the sets of weights in a checkpoint, the best first; where none is whole, what comes nearest.

    Args:
        found: the checkpoint's tensors.
        own: the network's state dict, or the part of it that is wanted.
    """
    counts = Counter(prefix for entry in found for prefix in _prefixes(entry.path, own))
    if not counts:
        return []
    needed = {key for key in own if not _counts(key)}
    most = max(counts.values())
    whole = [prefix for prefix, count in counts.items() if count >= len(needed)]
    near = whole or [prefix for prefix, count in counts.items() if count == most]
    made = [_found(prefix, found, own) for prefix in sorted(near, key=lambda p: (p.count("."), p))]
    return sorted(made, key=lambda one: not one.fits)


def distinct(sets: Sequence[Found]) -> list[Found]:
    """Return the sets without those that hold the same numbers as one before."""
    kept: list[Found] = []
    for one in sets:
        if not any(_equal(one.state, other.state) for other in kept):
            kept.append(one)
    return kept


def is_called(name: str, key: str) -> bool:
    """Return whether a set of weights is what a user calls ``key``: all of its keys, or some that follow each other.

    >>> is_called("state_dict.model_ema", "model_ema"), is_called("model", "model_ema")
    (True, False)
    """
    wanted = ".".join(part for part in key.split(".") if part and part not in WRAPPERS)
    return f".{wanted}." in f".{name}."


def _walk(
    content: object, keys: tuple[str, ...], above: list[int], budget: Iterator[int]
) -> Iterator[tuple[tuple[str, ...], int, Tensor]]:
    """Yield each tensor with the keys that lead to it and the number of the dictionary or list that holds it."""
    if id(content) in above:
        raise UnreadableError(f"what stands under {'.'.join(keys)!r} holds itself")
    if len(above) > DEPTH:
        raise UnreadableError(f"it is nested more than {DEPTH} deep")
    holder = next(budget, None)
    if holder is None:
        raise UnreadableError(f"it holds more than {TENSORS:,} dictionaries and lists")
    for key, value in _items(content):
        if isinstance(value, Tensor):
            yield (*keys, str(key)), holder, value
        elif isinstance(value, (Mapping, list, tuple)):
            yield from _walk(value, (*keys, str(key)), [*above, id(content)], budget)


def _items(content: object) -> Sequence[tuple[Any, Any]]:
    if isinstance(content, Mapping):
        return list(content.items())
    return list(enumerate(content)) if isinstance(content, (list, tuple)) else []


def _prefixes(path: str, own: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield what stands before a name of the network at the end of a path, with its dot."""
    start = 0
    while True:
        if path[start:] in own and not _counts(path[start:]):
            yield path[:start]
        start = path.find(".", start) + 1
        if not start:
            return


def _found(prefix: str, entries: Sequence[Entry], own: Mapping[str, Tensor]) -> Found:
    within = [entry for entry in entries if entry.path.startswith(prefix)]
    holders = {entry.holder for entry in within if entry.path[len(prefix) :] in own}
    state = {
        key: entry.value
        for entry in within
        if entry.holder in holders
        and ((key := entry.path[len(prefix) :]) in own or not key.startswith(AUXILIARY_HEADS))
    }
    return Found(
        name=prefix.rstrip("."),
        state=state,
        # Batch norms of before torch 0.4.1 do not count batches; torch itself fills that in.
        missing=[key for key in own if key not in state and not _counts(key)],
        misshapen=[
            f"{key} is {tuple(state[key].shape)}, the network's {tuple(own[key].shape)}"
            for key in own
            if key in state and state[key].shape != own[key].shape
        ],
        unexpected=[key for key in state if key not in own],
        unusable=[key for key in own if key in state and own[key].is_floating_point() and not _is_usable(state[key])],
    )


def _is_usable(value: Tensor) -> bool:
    return value.is_floating_point() and not value.is_meta and value.layout == torch.strided


def _counts(key: str) -> bool:
    return key.rpartition(".")[2] == "num_batches_tracked"


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        value is other[key] or (value.dtype == other[key].dtype and torch.equal(value, other[key]))
        for key, value in one.items()
    )
