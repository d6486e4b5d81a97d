"""Outputs of a network: tensors by the keys that lead to them, the class scores among them."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn

from pipeline.errors import ModelError, first_line
from pipeline.pruning.tracing.source_line import line_of

Path: TypeAlias = tuple[str | int, ...]
"""Keys that lead to one tensor of a nested answer."""

_SCORES = ("out", "logits", "scores", "output")
"""Keys under which a dictionary holds the class scores; the rest follows in its own order."""

_COMPARED = 3
"""Images on which the graph must answer as the model does: another number than was traced with."""


def answer(network: nn.Module, example: Tensor, seed: int = 0) -> dict[Path, Tensor]:
    """Return what ``network`` answers to a few images, the same each time.

    Raises:
        ModelError: it does not run.
    """
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found: object = _run(network, example[:_COMPARED])
    except Exception as error:  # whatever a user's forward() raises
        line = line_of(error)
        raise ModelError(
            f"{type(network).__name__} does not run on an input of shape {tuple(example.shape)}: {first_line(error)}"
            + (f" ({line})" if line else "")
        ) from error
    return _parts(found)


def scores(kind: str, answer: Mapping[Path, Tensor], classes: int | None) -> Path:
    """Return where the class scores are: the first tensor of shape (N, classes), or else of two dimensions.

    Raises:
        ModelError: no tensor has two dimensions.
    """
    flat = [path for path, part in answer.items() if part.dim() == 2]
    if not flat:
        found = ", ".join(str(tuple(part.shape)) for part in answer.values()) or "none"
        raise ModelError(f"{kind} must return one tensor of class scores, (N, classes); its tensors are: {found}")
    return next((path for path in flat if answer[path].shape[1] == classes), flat[0])


@contextmanager
def scores_alone(network: nn.Module, classes: int) -> Iterator[None]:
    """Let a network that answers with several tensors give the class scores alone, as its graph will, for a while."""

    def alone(_: nn.Module, __: tuple[object, ...], found: object) -> object:
        if isinstance(found, Tensor):
            return found
        parts = _parts(found)
        return parts[scores(type(network).__name__, parts, classes)]

    handle = network.register_forward_hook(alone)
    try:
        yield
    finally:
        handle.remove()


def require_same(network: nn.Module, graph: nn.Module, example: Tensor, path: Path) -> None:
    """Raise ModelError unless a graph answers as its network does, and each image by itself.

    Args:
        path: of the answer that is compared.
    """
    otherwise = f"{type(network).__name__} answers otherwise once it is traced: "
    expected = answer(network, example).get(path)
    try:
        found, alone = (answer(graph, images).get(path) for images in (example, example[:1]))
    except ModelError as error:  # sizes of the images that it was traced with stand in it
        raise ModelError(otherwise + _why(network, example, path)) from error
    if found is None or expected is None or not _equal(found, expected):
        raise ModelError(otherwise + _why(network, example, path))
    if alone is None or alone.shape != (1, *found.shape[1:]):
        raise ModelError(
            f"{type(network).__name__} answers one image with a tensor of shape "
            f"{None if alone is None else tuple(alone.shape)}, expected is {(1, *found.shape[1:])}: "
            "name the dimensions that squeeze() or reshape() should remove"
        )


def keep(graph: fx.GraphModule, path: Path) -> None:
    """Make one part of the answer the whole, in place; what only the others needed goes."""
    output = graph.graph.output_node()
    part: Any = output.args[0]
    with graph.graph.inserting_before(output):
        for key in path:
            part = graph.graph.call_function(operator.getitem, (part, key)) if isinstance(part, fx.Node) else part[key]
    output.args = (part,)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()


def dropped(answer: Mapping[Path, Tensor], kept: Path) -> tuple[str, ...]:
    """Return the other outputs in words, as ``output['aux'], 10 an image``."""
    return tuple(f"output{_spelled(path)}, {_size(part)} an image" for path, part in answer.items() if path != kept)


def _run(network: nn.Module, images: Tensor) -> object:
    """Return an answer; a graph is interpreted, since its own code prints a page where it fails."""
    if not isinstance(network, fx.GraphModule):
        return network(images)
    interpreter = fx.Interpreter(network)
    interpreter.extra_traceback = False
    return interpreter.run(images)


def _parts(answer: object, path: Path = ()) -> dict[Path, Tensor]:
    """Return the tensors in an answer by the keys that lead to them, the likeliest class scores first."""
    if isinstance(answer, Tensor):
        return {path: answer}
    items: list[tuple[str | int, object]] = []
    if isinstance(answer, Mapping):
        items = sorted(answer.items(), key=lambda item: _SCORES.index(item[0]) if item[0] in _SCORES else len(_SCORES))
    elif isinstance(answer, (tuple, list)):
        items = list(enumerate(answer))
    return {inner: part for key, value in items for inner, part in _parts(value, (*path, key)).items()}


def _equal(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and torch.allclose(
        found, expected, 1e-3, 1e-4 * _scale(expected), equal_nan=True
    )


def _scale(values: Tensor) -> float:
    return values[values.isfinite()].abs().amax().item() if values.isfinite().any() else 1.0


def _why(network: nn.Module, example: Tensor, path: Path) -> str:
    """Return what forward() does that a recording cannot hold, found by asking the network itself."""
    whole = answer(network, example)[path]
    if not _equal(answer(network, example, seed=1)[path], whole):
        return "its answers depend on chance, also in eval mode; leave random numbers out of forward() there"
    alone = answer(network, example[:1]).get(path)
    if alone is None or alone.shape[:1] != (1,) or not _equal(alone, whole[:1]):
        return "its answer to an image depends on how many images there are; let forward() treat each image by itself"
    return (
        "its forward() takes the number of images, or what else it was traced with, for a constant; write x.shape[0] "
        "without int(), and leave counters and questions about types out"
    )


def _spelled(path: Path) -> str:
    return "".join(f"[{key!r}]" for key in path)


def _size(part: Tensor) -> str:
    return " × ".join(map(str, part.shape[1:]))
