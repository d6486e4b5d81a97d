"""Outputs of a network: tensors by the keys that lead to them, and those of them that its task looks at."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from pipeline import structures
from pipeline.errors import ModelError, first_line
from pipeline.objective.task import Task
from pipeline.pruning.tracing.source_line import line_of
from pipeline.structures import Inputs, Path

_COMPARED = 3
"""Images on which the graph must answer as the model does: another number than was traced with."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one tensor that is kept stands in the network's answer."""

    path: Path


def answer(network: nn.Module, example: Inputs, seed: int = 0) -> Any:
    """Return what ``network`` answers to a few images, the same each time, as tensors in tuples and dictionaries.

    Raises:
        ModelError: it does not run.
    """
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found: object = _run(network, structures.part(example, 0, _COMPARED))
    except Exception as error:  # whatever a user's forward() raises
        line = line_of(error)
        raise ModelError(
            f"{type(network).__name__} does not run on {shown(example)}: {first_line(error)}"
            + (f" ({line})" if line else "")
        ) from error
    return structures.as_parts(found)


def selection(kind: str, found: Any, task: Task, classes: int | None) -> Any:
    """Return what the task looks at of an answer: its structure, with a ``Place`` for each tensor.

    Args:
        kind: what the network is called.
        classes: of the data; None: not known.

    Raises:
        ModelError: it looks at nothing, or at what the network does not answer.
    """
    places: dict[int, Place] = {}
    for path, tensor in structures.tensors(found).items():
        places.setdefault(id(tensor), Place(path))  # of a tensor that is given twice, the first
    try:
        chosen = task.selected(found, classes=classes)
    except ModelError as error:
        raise ModelError(f"{kind} {error}") from error
    if not (kept := structures.tensors(chosen)):
        raise ModelError(f"{kind} answers with no tensor that task {task.name} looks at")
    if strange := [path for path, tensor in kept.items() if id(tensor) not in places]:
        raise ModelError(
            f"task {task.name}: select made {structures.named(strange[0])} itself; it may pick outputs of the network "
            "and leave others out, all else belongs into postprocess, loss or the network"
        )
    return structures.mapped(chosen, lambda tensor: places[id(tensor)])


def places_in(selected: Any) -> list[Path]:
    """Return where the tensors of a selection stand in the answer, in order."""
    if isinstance(selected, Place):
        return [selected.path]
    parts = selected.values() if isinstance(selected, Mapping) else selected if isinstance(selected, tuple) else ()
    return [path for part in parts for path in places_in(part)]


@contextmanager
def selecting(network: nn.Module, task: Task, classes: int) -> Iterator[None]:
    """Let a network that is not traced give what its task looks at alone, as its graph will, for a while."""
    if isinstance(network, fx.GraphModule) and "notes" in network.meta:
        yield
        return

    def alone(_: nn.Module, __: tuple[object, ...], found: object) -> object:
        return task.selected(structures.as_parts(found), classes=classes)

    handle = network.register_forward_hook(alone)
    try:
        yield
    finally:
        handle.remove()


def require_same(network: nn.Module, graph: nn.Module, example: Inputs, paths: Sequence[Path]) -> None:
    """Raise ModelError unless a graph answers as its network does, and each image by itself.

    Args:
        paths: of the tensors that are compared.
    """
    otherwise = f"{type(network).__name__} answers otherwise once it is traced: "
    expected = structures.tensors(answer(network, example))
    try:
        found, alone = (
            structures.tensors(answer(graph, images)) for images in (example, structures.part(example, 0, 1))
        )
    except ModelError as error:  # sizes of the images that it was traced with stand in it
        raise ModelError(otherwise + _why(network, example, paths)) from error
    for path in paths:
        if path not in found or path not in expected or not _equal(found[path], expected[path]):
            raise ModelError(otherwise + _why(network, example, paths))
        one, wanted = alone.get(path), (1, *found[path].shape[1:])
        if one is None or one.shape != wanted:
            which = f"{structures.named(path)} of " if path else ""
            raise ModelError(
                f"{type(network).__name__} answers one image with a tensor of shape "
                f"{None if one is None else tuple(one.shape)}, expected is {which}{wanted}: "
                "name the dimensions that squeeze() or reshape() should remove"
            )


def keep(graph: fx.GraphModule, selected: Any) -> None:
    """Make a selection of the answer the whole, in place; what only the others needed goes."""
    output = graph.graph.output_node()
    whole: Any = output.args[0]

    def at(place: Place) -> Any:
        part = whole
        for key in place.path:
            part = graph.graph.call_function(operator.getitem, (part, key)) if isinstance(part, fx.Node) else part[key]
        return part

    with graph.graph.inserting_before(output):
        output.args = (_placed(selected, at),)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()


def dropped(found: Any, kept: Sequence[Path]) -> tuple[str, ...]:
    """Return the other outputs in words, as ``output['aux'], 10 an image``."""
    parts = structures.tensors(found)
    return tuple(f"output{_spelled(path)}, {_size(part)} an image" for path, part in parts.items() if path not in kept)


def shown(example: Inputs) -> str:
    """Return a batch's shape in words.

    >>> shown(torch.zeros(1, 3)), shown((torch.zeros(1, 3), torch.zeros(1, 2)))
    ('an input of shape (1, 3)', 'inputs of shapes (1, 3), (1, 2)')
    """
    shapes = ", ".join(str(tuple(part.shape)) for part in structures.arguments(example))
    return f"inputs of shapes {shapes}" if isinstance(example, tuple) else f"an input of shape {shapes}"


def _placed(selected: Any, at: Any) -> Any:
    if isinstance(selected, Place):
        return at(selected)
    if isinstance(selected, Mapping):
        return {key: _placed(part, at) for key, part in selected.items()}
    return tuple(_placed(part, at) for part in selected) if isinstance(selected, tuple) else selected


def _run(network: nn.Module, images: Inputs) -> object:
    """Return an answer; a graph is interpreted, since its own code prints a page where it fails."""
    if not isinstance(network, fx.GraphModule):
        return network(*structures.arguments(images))
    interpreter = fx.Interpreter(network)
    interpreter.extra_traceback = False
    return interpreter.run(*structures.arguments(images))


def _equal(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and torch.allclose(
        found, expected, 1e-3, 1e-4 * _scale(expected), equal_nan=True
    )


def _scale(values: Tensor) -> float:
    return values[values.isfinite()].abs().amax().item() if values.isfinite().any() else 1.0


def _why(network: nn.Module, example: Inputs, paths: Sequence[Path]) -> str:
    """Return what forward() does that a recording cannot hold, found by asking the network itself."""
    first = structures.part(example, 0, 1)
    whole, again, one = (
        structures.tensors(answer(network, images, seed)) for images, seed in ((example, 0), (example, 1), (first, 0))
    )
    for path in paths:
        if path not in again or not _equal(again[path], whole[path]):
            return "its answers depend on chance, also in eval mode; leave random numbers out of forward() there"
        alone = one.get(path)
        if alone is None or alone.shape[:1] != (1,) or not _equal(alone, whole[path][:1]):
            return (
                "its answer to an image depends on how many images there are; let forward() treat each image by itself"
            )
    return (
        "its forward() takes the number of images, or what else it was traced with, for a constant; write x.shape[0] "
        "without int(), and leave counters and questions about types out"
    )


def _spelled(path: Path) -> str:
    return "".join(f"[{key!r}]" for key in path)


def _size(part: Tensor) -> str:
    return " × ".join(map(str, part.shape[1:]))
