"""A model as an editable graph: traced once, so that channels and whole blocks can be taken out of it."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import _extract_tensor_metadata

from pipeline.errors import ModelError, first_line
from pipeline.pruning.plain import plain
from pipeline.pruning.tracer import Tracer

Path: TypeAlias = tuple[str | int, ...]
"""Keys that lead to one tensor of a nested answer."""

_SCORES = ("out", "logits", "scores", "output")
"""Keys under which a dictionary holds the class scores; the rest follows in its own order."""

_IN_PLACE = ("iadd", "isub", "imul", "itruediv")

_COMPARED = 3
"""Images on which the graph must answer as the model does: another number than was traced with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingNotes:
    """What a graph leaves out of its model, or could not look into: for the user to know."""

    dropped: tuple[str, ...] = ()
    """Outputs other than the class scores, as ``output['aux'], 10 an image``."""
    whole: Mapping[str, str] = field(default_factory=dict)
    """Modules that are called as a whole, and so cannot be pruned → why they could not be traced."""
    folded: tuple[str, ...] = ()
    """Wrappers and parametrizations that were taken off."""

    def sentences(self) -> list[str]:
        """Return one sentence a note.

        >>> TracingNotes(dropped=("output[1], 10 an image",)).sentences()
        ['only the class scores are kept, not output[1], 10 an image']
        """
        kept = "only the class scores are kept, not "
        return (
            [kept + output for output in self.dropped]
            + [f"{name} stays as it is, it cannot be traced: {reason}" for name, reason in self.whole.items()]
            + [f"{part} is folded in" for part in self.folded]
        )


def trace(model: nn.Module, example: Tensor, *, classes: int | None = None) -> fx.GraphModule:
    """Return a copy of ``model`` in eval mode as a graph; parameter names stay what they were.

    Where it answers with several tensors, the class scores stay: the first of shape (N, classes). What was left out
    stands in ``notes(graph)``.

    Args:
        model: any ``nn.Module`` whose forward takes one image batch.
        example: a batch of the input's shape, (N, C, H, W).
        classes: tells the scores from other outputs of two dimensions.

    Raises:
        ModelError: the forward pass branches on its data, or does not run on ``example``.
    """
    network, folded = plain(model)
    kind = type(network).__name__
    expected = _parts(_answer(network, example))
    tracer = Tracer(example[:2])
    try:
        graph = fx.GraphModule(network, tracer.trace(network), kind)
    except Exception as error:  # whatever a user's forward() raises on a symbolic value
        raise ModelError(
            f"{kind} cannot be traced: {first_line(error)}; "
            "its forward() must not branch on the input's values (move such checks out of forward)"
        ) from error
    _follow_in_place(graph)
    _drop_idle(graph)
    answer = _parts(_answer(graph, example))
    scores = _scores(kind, answer, classes)
    _require_same(kind, answer[scores], expected.get(scores))
    _keep(graph, scores)
    propagate_shapes(graph, example)
    dropped = tuple(
        f"output{_spelled(path)}, {_size(part)} an image" for path, part in answer.items() if path != scores
    )
    graph.meta["notes"] = TracingNotes(dropped=dropped, whole=tracer.whole, folded=folded)
    return graph


def notes(graph: fx.GraphModule) -> TracingNotes:
    """Return what ``trace`` left out of a graph; copies of it keep the notes."""
    found: TracingNotes = graph.meta.get("notes", TracingNotes())
    return found


def propagate_shapes(graph: fx.GraphModule, example: Tensor) -> object:
    """Write each node's output shape into its metadata; return the network's answer."""
    with torch.no_grad():
        answer: object = _Shapes(graph).run(example)
    return answer


def shape(node: fx.Node) -> tuple[int, ...] | None:
    """Return the output shape that ``propagate_shapes`` wrote, None for what is no tensor."""
    shape = getattr(node.meta.get("tensor_meta"), "shape", None)
    return None if shape is None else tuple(shape)


class _Shapes(fx.Interpreter):
    """What torch's ShapeProp does, without printing each failure to standard error."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.extra_traceback = False

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["tensor_meta"] = _extract_tensor_metadata(result)
        return result


def _answer(network: nn.Module, example: Tensor) -> object:
    """Return what ``network`` answers to a few images, the same each time; ModelError where it does not run."""
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            answer: object = network(example[:_COMPARED])
    except Exception as error:  # whatever a user's forward() raises
        raise ModelError(
            f"{type(network).__name__} does not run on an input of shape {tuple(example.shape)}: {first_line(error)}"
        ) from error
    return answer


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


def _scores(kind: str, answer: Mapping[Path, Tensor], classes: int | None) -> Path:
    flat = [path for path, part in answer.items() if part.dim() == 2]
    if not flat:
        found = ", ".join(str(tuple(part.shape)) for part in answer.values()) or "none"
        raise ModelError(f"{kind} must return one tensor of class scores, (N, classes); its tensors are: {found}")
    return next((path for path in flat if answer[path].shape[1] == classes), flat[0])


def _require_same(kind: str, graphs: Tensor, models: Tensor | None) -> None:
    """Raise ModelError where forward() did something that was not recorded, such as asking what type its input is."""
    same = models is not None and graphs.shape == models.shape
    if models is None or not (same and torch.allclose(graphs, models, 1e-3, 1e-4 * _scale(models), equal_nan=True)):
        raise ModelError(
            f"{kind} answers otherwise once it is traced; its forward() must not depend on the number of images, on "
            "the type of its input or on chance (move such code out of forward)"
        )


def _scale(values: Tensor) -> float:
    return values[values.isfinite()].abs().amax().item() if values.isfinite().any() else 1.0


def _keep(graph: fx.GraphModule, path: Path) -> None:
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


def _spelled(path: Path) -> str:
    return "".join(f"[{key!r}]" for key in path)


def _size(part: Tensor) -> str:
    return " × ".join(map(str, part.shape[1:]))


def _follow_in_place(graph: fx.GraphModule) -> None:
    """Let later readers of a tensor that is changed in place read the change's result: nobody relies on the order."""
    order = {node: i for i, node in enumerate(graph.graph.nodes)}
    for node in graph.graph.nodes:
        if _is_in_place(graph, node) and node.all_input_nodes:
            node.all_input_nodes[0].replace_all_uses_with(node, lambda user, node=node: order[user] > order[node])


def _is_in_place(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return bool(getattr(graph.get_submodule(str(node.target)), "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op != "placeholder" and (
        node.kwargs.get("inplace") is True
        or (name.endswith("_") and not name.endswith("__"))
        or (node.op == "call_function" and name in _IN_PLACE and node.target is getattr(operator, name, None))
    )


def _drop_idle(graph: fx.GraphModule) -> None:
    """Take out assertions, which held for the model as it came, and stochastic depth, which does nothing in eval."""
    for node in reversed(graph.graph.nodes):
        name = getattr(node.target, "__name__", "")
        if node.target is torch._assert and not node.users:
            graph.graph.erase_node(node)
        elif name == "stochastic_depth":
            node.replace_all_uses_with(node.all_input_nodes[0])
