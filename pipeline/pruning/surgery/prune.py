"""Pruning surgery: removes channels and blocks from a traced network, and checks its widths."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, fx, nn

from pipeline import structures
from pipeline.errors import CutError, first_line
from pipeline.pruning.dependency.channel_sets import owner
from pipeline.pruning.dependency.dependency_graph import DependencyGraph, dependency_graph, forget
from pipeline.pruning.dependency.residual_blocks import remove_blocks
from pipeline.pruning.surgery.slice_weights import shrink
from pipeline.pruning.tracing.shapes import propagate_shapes, shape
from pipeline.records import Group, SearchSpace
from pipeline.structures import Inputs, Path

Ranking = Mapping[str, Tensor]
"""Group name → indices of its units, the least important first."""


def prune(
    model: fx.GraphModule, space: SearchSpace, levels: tuple[int, ...], ranking: Ranking, example: Inputs
) -> fx.GraphModule:
    """Return a pruned copy of ``model`` after a plan's ``levels``.

    Raises:
        CutError: a level is not legal, or the result is not the network that was planned.
    """
    for group, level in zip(space.groups, levels, strict=True):
        if level not in group.kept:
            raise CutError(f"{group.name}: level {level} is not legal here: {_why_illegal(group, level, space.step)}")
    return cut(model, space, _kept(space, levels), ranking, example)


def cut(
    model: fx.GraphModule, space: SearchSpace, kept: Mapping[str, int], ranking: Ranking, example: Inputs
) -> fx.GraphModule:
    """Return a copy of ``model`` whose groups keep the given numbers of channels; 0 removes the group's block.

    Raises:
        CutError: the copy does not run, answers in another shape or not finitely, or has other widths than planned.
    """
    if unbridged := [g.name for g in space.groups if kept[g.name] == 0 and g.bypass is None]:
        raise CutError(f"{unbridged[0]}: all channels would go and there is no way around them")
    gone = {g.bypass for g in space.groups if kept[g.name] == 0}
    return without(model, surplus_over(space, kept, ranking), gone, example)


def without(
    model: fx.GraphModule, units: Mapping[str, Tensor], blocks: Iterable[str | None], example: Inputs
) -> fx.GraphModule:
    """Return a copy of ``model`` without some units of its groups and some blocks, by their names.

    Raises:
        CutError: as ``cut``.
    """
    known = dependency_graph(model, example)
    alive = _alive(known, units)
    pruned = copy.deepcopy(model)
    forget(pruned)
    wanted = set(blocks)
    if gone := [block for block in known.blocks if block.name in wanted]:
        remove_blocks(pruned, gone)
    shrink(pruned, known, alive)
    check(pruned, model, planned_widths(known, alive, pruned), example)
    return pruned


def kept_channels(model: fx.GraphModule, units: Mapping[str, Tensor], example: Inputs) -> dict[str, Tensor]:
    """Return which output channels of each layer are left without some units of its groups, by the layer's name."""
    known = dependency_graph(model, example)
    alive = _alive(known, units)
    return {
        owner(tensor): torch.nonzero(alive[sets]).flatten()
        for (tensor, axis), sets in known.axes.items()
        if axis == 0 and tensor.endswith(".weight")
    }


def surplus(space: SearchSpace, levels: tuple[int, ...], ranking: Ranking) -> dict[str, Tensor]:
    """Return the units of each group that go at a plan's ``levels``, the least important ones."""
    return surplus_over(space, _kept(space, levels), ranking)


def surplus_over(space: SearchSpace, kept: Mapping[str, int], ranking: Ranking) -> dict[str, Tensor]:
    """Return the units of each group that go where it keeps so many channels, the least important ones."""
    return {g.name: ranking[g.name][: g.units - kept[g.name] // g.width] for g in space.groups}


def planned_widths(known: DependencyGraph, alive: Tensor, pruned: nn.Module) -> dict[str, int]:
    """Return the output channels that each surviving layer has to have."""
    layers = {name for name, module in pruned.named_modules() if hasattr(module, "weight")}
    makers = {layer for made in known.makers.values() for layer in made}
    return {
        owner(tensor): int(alive[sets].sum())
        for (tensor, axis), sets in known.axes.items()
        if axis == 0 and tensor.endswith(".weight") and owner(tensor) in layers & makers
        and not isinstance(pruned.get_submodule(owner(tensor)), nn.modules.conv._ConvTransposeNd)
    }  # fmt: skip


def check(pruned: fx.GraphModule, base: fx.GraphModule, widths: Mapping[str, int], example: Inputs) -> None:
    """Raise CutError unless ``pruned`` runs, answers as ``base`` does in shape, finitely, with ``widths`` as planned.

    Args:
        widths: output channels planned for each layer; layers of removed blocks are passed over.
        example: a batch, of which the first example is run.
    """
    layers = dict(pruned.named_modules())
    for name, planned in widths.items():
        if name in layers and (found := width(layers[name])) != planned:
            raise CutError(f"{name} has {found} channels after the cut, planned were {planned}")
        if planned == 0:
            raise CutError(f"{name}: all channels would go, and something still reads them")
    try:
        answer = structures.as_parts(propagate_shapes(pruned, structures.part(example, 0, 1)))
    except Exception as error:  # whatever a network raises whose layers no longer fit together
        raise CutError(f"the network does not run after the cut: {first_line(error)}") from error
    answers, expected = structures.tensors(answer), _answer_shapes(base, 1)
    shapes = {path: tuple(tensor.shape) for path, tensor in answers.items()}
    if shapes != expected:
        raise CutError(f"the output's shape changed from {_in_words(expected)} to {_in_words(shapes)}")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in answers.values()):
        raise CutError("the network's answers are not finite after the cut")


def width(layer: nn.Module) -> int:
    """Return the output channels of a convolution or linear layer, counted in its weights."""
    channels: int = layer.weight.shape[0]  # type: ignore[index,assignment]
    return channels


def _kept(space: SearchSpace, levels: tuple[int, ...]) -> dict[str, int]:
    return {group.name: kept for group, kept in zip(space.groups, space.kept(levels), strict=True)}


def _alive(known: DependencyGraph, units: Mapping[str, Tensor]) -> Tensor:
    """Return whether each set of channels stays once these units of groups are gone, (sets,)."""
    alive = torch.ones(int(known.set_of.max()) + 1, dtype=torch.bool)
    for name, indices in units.items():
        alive[known.sets[name][indices]] = False
    return alive


def _why_illegal(group: Group, level: int, step: int) -> str:
    legal = f"legal levels: {', '.join(map(str, group.levels))}"
    if level == 100:
        return f"there is no way around it; {legal}"
    return f"rounded up to steps of {step} of its {group.channels} channels it saves nothing more; {legal}"


def _answer_shapes(base: fx.GraphModule, images: int) -> dict[Path, tuple[int, ...]]:
    """Return the shape of each tensor of the answer, by the keys that lead to it."""
    found: dict[Path, tuple[int, ...]] = {}

    def note(value: object, path: Path) -> None:
        if isinstance(value, fx.Node):
            known = shape(value)
            assert known is not None  # trace() has written it
            found[path] = (images, *known[1:])
        elif isinstance(value, Mapping):
            for key, inner in value.items():
                note(inner, (*path, key))
        elif isinstance(value, (tuple, list)):
            for key, inner in enumerate(value):
                note(inner, (*path, key))

    note(base.graph.output_node().args[0], ())
    return found


def _in_words(shapes: Mapping[Path, tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes.values())) or "none"
