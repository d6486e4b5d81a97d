"""Examples of any task: inputs, one tensor or a tuple of them, and a target of any structure.

An input that is a PIL image or a uint8 tensor is of pixels, which the pipeline normalises; a float tensor is taken as
the network takes it. A uint8 tensor of two dimensions is a grey image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline import structures
from pipeline.data.source import SourceOptions
from pipeline.data.torch_items import EVERY, MEMORY_BYTES, READ_TWICE, Kind, UnreadableError, as_values
from pipeline.errors import DataError
from pipeline.events import Stage, StageProgress
from pipeline.import_path import said
from pipeline.structures import Inputs

Augment = Callable[..., tuple[Any, Any]]
"""Called with an example's inputs, target and a torch.Generator; returns both, varied alike."""
_PIXELS = Kind(fitting=None, signals=False)


@dataclass(frozen=True, slots=True)
class Example:
    """One example as a network is given it."""

    inputs: tuple[Tensor, ...]
    target: Any


@dataclass(frozen=True, eq=False, kw_only=True)
class ExamplePool:
    """Examples of a map-style data set, in memory or read anew; a ``TargetPool``."""

    dataset: Any
    positions: Sequence[int]
    """Of the items that could be read."""
    shapes: tuple[tuple[int, ...], ...]
    """Of the inputs, for one example."""
    collate: Callable[[Sequence[Any]], Any]
    """Makes a batch of single targets."""
    kept: Sequence[Example] | None = field(repr=False)
    """None: they do not fit into memory."""
    augment: Augment | None = None
    """None: examples are not varied."""
    names: Sequence[str] = ()

    @cached_property
    def labels(self) -> Tensor:
        """One class for all: targets are none, so that splits are drawn without regard to them."""
        return torch.zeros(len(self.positions), dtype=torch.int64)

    @cached_property
    def digest(self) -> str:
        """A SHA-256 over inputs and targets; of what is not in memory over their number alone."""
        found = hashlib.sha256(f"{len(self.positions)} {self.shapes}".encode())
        for example in self.kept or ():
            _digest((example.inputs, example.target), found.update)
        return found.hexdigest()

    def read(self, indices: Tensor) -> Tensor:
        """Return the first input of each example."""
        inputs, _ = self.batch(indices)
        return structures.arguments(inputs)[0]

    def augmented(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Return the first input of each example, varied at random."""
        inputs, _ = self.batch(indices, generator)
        return structures.arguments(inputs)[0]

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> tuple[Inputs, Any]:
        """Return inputs and targets; see ``TargetPool``.

        Raises:
            DataError: the data set, its ``augment`` or the task's ``collate`` raises, or an example is unlike others.
        """
        found = [self._one(i, generator) for i in indices.tolist()]
        inputs = tuple(torch.stack(parts) for parts in zip(*(one.inputs for one in found), strict=True))
        try:
            targets = self.collate([one.target for one in found])
        except Exception as error:  # a user's collate may raise anything
            raise DataError(f"the task's collate raised {said(error)}; fix it") from error
        return inputs[0] if len(inputs) == 1 else inputs, targets

    def _one(self, index: int, generator: torch.Generator | None) -> Example:
        position = self.positions[index]
        if self.kept is not None:
            found = self.kept[index]
        else:
            found = _like(self.shapes, _example(_item(self.dataset, position), position), position)
        if generator is None or self.augment is None:
            return found
        given: Any = found.inputs if len(found.inputs) > 1 else found.inputs[0]
        try:
            varied = self.augment(given, found.target, generator)
        except Exception as error:  # a user's function may raise anything
            raise DataError(f"the data set's augment raised {said(error)} for item {position}; fix it") from error
        return _like(self.shapes, _example(varied, position), position)


def read_examples(dataset: Any, part: str, options: SourceOptions) -> tuple[ExamplePool, list[str]]:
    """Read every item of a map-style data set once; return the pool, and what was skipped because it raised.

    Raises:
        DataError: no item can be read, one is no (inputs, target), or its inputs are unlike the first's.
    """
    assert options.collate is not None  # the caller reads targets that are no classes
    count = len(dataset)
    if count > EVERY:
        options.listen(Stage(f"Read {count:,} {part} items", count))
    positions: list[int] = []
    skipped: list[str] = []
    kept: list[Example] | None = []
    shapes: tuple[tuple[int, ...], ...] = ()
    for position in range(count):
        try:
            item = dataset[position]
        except Exception as error:  # a user's data set may raise anything
            skipped.append(f"{part} item {position}: {said(error)}")
            continue
        try:
            found = _example(item, position)
        except UnreadableError as error:
            skipped.append(f"{part} item {position}: {error}")
            continue
        shapes = shapes or tuple(tuple(tensor.shape) for tensor in found.inputs)
        found = _like(shapes, found, position)
        if len(positions) < READ_TWICE:
            _refuse_random(dataset, position, found)
        if kept is not None:
            kept.append(found)
            if not positions and count * _bytes(found) > MEMORY_BYTES:
                kept = None
        positions.append(position)
        if count > EVERY and not position % EVERY:
            options.listen(StageProgress(position, part))
    if not positions:
        raise DataError(f"none of the {count} {part} items can be read ({skipped[0]}); fix the data set")
    augment = getattr(dataset, "augment", None)
    pool = ExamplePool(
        dataset=dataset, positions=positions, shapes=shapes, collate=options.collate, kept=kept, augment=augment
    )
    pool.batch(
        torch.arange(min(2, len(positions)))
    )  # what collate makes of targets is tried before anything is trained
    return pool, skipped


def _item(dataset: Any, position: int) -> Any:
    try:
        return dataset[position]
    except Exception as error:  # a user's data set may raise anything
        raise DataError(
            f"item {position} cannot be read any more ({said(error)}), but could when the data was opened"
        ) from error


def _example(item: object, position: int) -> Example:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        found = f"{len(item)} things" if isinstance(item, (tuple, list)) else f"a {type(item).__name__}"
        raise DataError(f"item {position} is {found}; expected (inputs, target)")
    inputs, target = item
    given = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
    try:
        return Example(tuple(map(_input, given)), target)
    except UnreadableError:
        raise
    except DataError as error:
        raise DataError(f"item {position}: {error}") from error


def _input(value: object) -> Tensor:
    """Return an input as uint8 pixels, channels x height x width, or as float32 values."""
    if isinstance(value, Image.Image):
        return as_values(value, _PIXELS)
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor):
        raise DataError(f"an input is a {type(value).__name__}; expected a tensor, an array or a PIL image")
    if value.dtype == torch.uint8:
        return as_values(value, _PIXELS)
    if value.is_complex() or not value.numel() or not value.dim():
        raise DataError(f"an input is a tensor of {value.dtype} {tuple(value.shape)}; expected numbers along an axis")
    values = value.to(torch.float32)
    if not values.isfinite().all():
        raise DataError("an input holds NaN or infinite values; expected numbers")
    return values


def _like(shapes: tuple[tuple[int, ...], ...], found: Example, position: int) -> Example:
    there = tuple(tuple(tensor.shape) for tensor in found.inputs)
    if there != shapes:
        shown = (", ".join("x".join(map(str, shape)) for shape in each) for each in (there, shapes))
        raise DataError(
            f"item {position} and the first one have inputs of {' and '.join(shown)}; give them one number and size in "
            "the data set, targets of the same example with them"
        )
    return found


def _refuse_random(dataset: Any, position: int, found: Example) -> None:
    again = _example(_item(dataset, position), position)
    if not all(map(torch.equal, found.inputs, again.inputs)):
        raise DataError(
            f"item {position} has other inputs at the second reading; leave random transforms out, and give the data "
            "set a function augment(inputs, target, generator), which is called for training alone"
        )


def _bytes(found: Example) -> int:
    parts = (*found.inputs, *structures.tensors(found.target).values())
    return sum(tensor.numel() * tensor.element_size() for tensor in parts)


def _digest(value: Any, update: Callable[[bytes], None]) -> None:
    """Feed a structure of tensors, arrays, numbers and texts to a hash."""
    if isinstance(value, (Tensor, np.ndarray)):
        array = value.detach().cpu().contiguous().numpy() if isinstance(value, Tensor) else np.ascontiguousarray(value)
        update(f"{array.dtype} {array.shape}".encode())
        update(array.tobytes())
    elif isinstance(value, Mapping):
        for key, part in value.items():
            update(f"{key}:".encode())
            _digest(part, update)
    elif isinstance(value, (tuple, list)):
        update(f"{len(value)}".encode())
        for part in value:
            _digest(part, update)
    elif isinstance(value, (int, float, str, bool, type(None))):
        update(repr(value).encode())
