"""Tracing: a model as an editable graph, by symbolic tracing or torch.export.

Two ways lead there. Symbolic tracing takes hundredths of a second and comes first. Where it fails, or where operators
that it could not follow keep more than a tenth of the MACs whole, torch.export is tried, which follows what Python does
with tensors and takes seconds (``exported`` says how many); the graph of which less stays whole is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import fx, nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.fx.proxy import TraceError

from pipeline import structures
from pipeline.errors import ModelError, first_line
from pipeline.objective.load import classification
from pipeline.objective.task import Task
from pipeline.pruning.complexity import layer_weights
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.dependency.propagation.propagate import RULES
from pipeline.pruning.tracing.outputs import answer, dropped, keep, places_in, require_same, selection
from pipeline.pruning.tracing.shapes import propagate_shapes
from pipeline.pruning.tracing.simplify import simplify
from pipeline.pruning.tracing.source_line import line_of
from pipeline.pruning.tracing.symbolic import Recorded, recorded
from pipeline.pruning.tracing.torch_export import exported
from pipeline.pruning.tracing.unwrap import unwrap
from pipeline.structures import Inputs

_WHOLE = 0.1
"""Share of the MACs that operators which are not supported may keep whole before torch.export is tried."""
_TRACED = 2
"""Images that are traced with: one is taken for a size that never changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingNotes:
    """What a graph leaves out of its model, or could not look into: for the user to know."""

    dropped: tuple[str, ...] = ()
    """Outputs that the task does not look at, as ``output['aux'], 10 an image``."""
    whole: Mapping[str, str] = field(default_factory=dict)
    """Modules that are called as a whole, and so cannot be pruned → why they could not be traced."""
    kept: str = "the class scores"
    """What the task looks at, in words."""
    folded: tuple[str, ...] = ()
    """Wrappers and parametrizations that were taken off."""

    def sentences(self) -> list[str]:
        """Return one sentence a note.

        >>> TracingNotes(dropped=("output[1], 10 an image",)).sentences()
        ['only the class scores are kept, not output[1], 10 an image']
        """
        kept = f"only {self.kept} are kept, not "
        return (
            [kept + output for output in self.dropped]
            + [f"{name} stays as it is, it cannot be traced: {reason}" for name, reason in self.whole.items()]
            + [f"{part} is folded in" for part in self.folded]
        )


def trace(model: nn.Module, example: Inputs, *, classes: int | None = None, task: Task | None = None) -> fx.GraphModule:
    """Return a copy of ``model`` in eval mode as a graph; parameter names stay what they were.

    Where it answers with several tensors, those stay that the task looks at. What was left out stands in
    ``notes(graph)``.

    Args:
        model: any ``nn.Module`` whose forward takes one batch, or one of each of its inputs.
        example: a batch as the network takes it.
        classes: of the data; tells a classification's scores from other outputs of two dimensions.
        task: what the network is for; None: classification, of which the class scores stay.

    Raises:
        ModelError: the forward pass branches on its data, or does not run on ``example``.
    """
    return recordings(model, example, classes=classes, task=task)[0]


def recordings(
    model: nn.Module, example: Inputs, *, classes: int | None = None, task: Task | None = None
) -> Sequence[fx.GraphModule]:
    """Return the graphs of a model that were made, best first: a recipe may have been written for the second.

    Args and errors as of ``trace``.
    """
    network, folded = unwrap(model)
    task = task or classification()
    selected = selection(type(network).__name__, answer(network, example), task, classes)
    about = TracingNotes(kept=_words(task), folded=folded)
    images = structures.mapped(example, lambda t: t[:_TRACED] if len(t) >= _TRACED else t.repeat_interleave(_TRACED, 0))
    graphs: list[tuple[float, fx.GraphModule]] = []
    errors: list[ModelError] = []
    for record in (_symbolic, _exported):
        try:
            graph = _finished(record, network, images, example, selected, about)
        except ModelError as error:
            errors.append(error)
            continue
        graphs.append((_kept_whole(graph, example), graph))
        if graphs[-1][0] <= _WHOLE:
            break
    if not graphs:
        raise errors[-1]
    return [graph for _, graph in sorted(graphs, key=lambda found: found[0])]


def notes(graph: fx.GraphModule) -> TracingNotes:
    """Return what ``trace`` left out of a graph; copies of it keep the notes."""
    found: TracingNotes = graph.meta.get("notes", TracingNotes())
    return found


def _finished(
    record: Callable[[nn.Module, Inputs], Recorded],
    network: nn.Module,
    images: Inputs,
    example: Inputs,
    selected: Any,
    about: TracingNotes,
) -> fx.GraphModule:
    """Return a recording that answers with a selection of the outputs alone, as the network does."""
    try:
        made = record(network, images)
    except Exception as error:  # whatever a user's forward() raises while it is recorded
        raise ModelError(f"{type(network).__name__} cannot be traced: {_cause(error)}") from error
    graph = made.graph
    simplify(graph)
    kept = places_in(selected)
    require_same(network, graph, example, kept)
    left_out = dropped(answer(graph, example), kept)
    keep(graph, selected)
    propagate_shapes(graph, example)
    graph.meta["notes"] = replace(about, dropped=left_out, whole=made.whole)
    return graph


def _words(task: Task) -> str:
    return TracingNotes().kept if task.puts_into_classes else f"the outputs that task {task.name} looks at"


def _symbolic(network: nn.Module, images: Inputs) -> Recorded:
    return recorded(network, images)


def _exported(network: nn.Module, images: Inputs) -> Recorded:
    return Recorded(exported(network, images, RULES), {})


def _kept_whole(graph: fx.GraphModule, example: Inputs) -> float:
    """Return the share of the MACs of layers that stay whole because an operator is not supported."""
    known = dependency_graph(graph, example)
    layers = layer_weights(graph, example)
    whole = sum(layers[layer].macs for layer, why in known.refused.items() if layer in layers and why in known.unknown)
    return whole / max(1, sum(layer.macs for layer in layers.values()))


def _cause(error: Exception) -> str:
    """Return why a network could not be recorded, in a sentence with the line and what to do about it."""
    line = line_of(error)
    where = f" ({line})" if line else ""
    if isinstance(error, (GuardOnDataDependentSymNode, TraceError)):
        return (
            f"its forward() branches on values that only an image decides{where}; compute both ways and choose with "
            "torch.where, or move the check out of forward()"
        )
    return f"{first_line(error)}{where}"
