"""Recipe application: the same cuts in another checkpoint of the same architecture."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from pipeline import __version__
from pipeline.errors import ConfigError, ModelError
from pipeline.models.checkpoints import load_weights
from pipeline.models.safetensors_io import weights_bytes
from pipeline.objective.load import load_task
from pipeline.objective.task import Task
from pipeline.pruning.dependency.dependency_graph import DependencyGraph, dependency_graph
from pipeline.pruning.surgery.prune import Ranking, kept_channels, without
from pipeline.pruning.surgery.weight_sparsity import set_to_zero
from pipeline.pruning.trace import recordings
from pipeline.recipes.recipe import Cut, GroupCut, Recipe
from pipeline.records import Group, SearchSpace
from pipeline.structures import Inputs

_IMAGES = 2

Rank = Callable[[fx.GraphModule, SearchSpace, Cut], Ranking]
"""Network, the groups to rank, what the recipe cut → units of each group, least important first."""
AfterCut = Callable[[fx.GraphModule, fx.GraphModule, Cut, Mapping[str, Tensor]], None]
"""A network after a cut, before it, the cut, and which output channels of its layers are left, by their names."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A pruned network, and the recipe that gives it of the checkpoint that it was cut from."""

    network: fx.GraphModule
    recipe: Recipe


def apply_recipe(
    model: nn.Module,
    recipe: Recipe,
    *,
    rank: Rank | None = None,
    after_cut: AfterCut = lambda *_: None,
    example: Inputs | None = None,
    task: Task | None = None,
) -> Applied:
    """Cut ``model``, with its weights, as the recipe says; ``model`` stays as it is.

    Args:
        rank: who ranks the channels anew; None: the recipe's own channels stay.
        after_cut: is given the network after each cut, to fit its layers to that.
        example: a batch to try the cuts with; None: a random one.
        task: the recipe's, where it is one of the user's own; None: it is found by its name.

    Raises:
        ModelError: the model is not of the recipe's architecture; says what differs.
        CutError: the surgery did not give the network that was planned.
        ConfigError: the recipe is of a task of the user's own, which is not given.
    """
    images = example_of(recipe) if example is None else example
    network, weights = _traced(model, recipe, images, task), sha256(weights_bytes(model)).hexdigest()
    cuts: list[Cut] = []
    for number, cut in enumerate(recipe.cuts, 1):
        _require_same(dependency_graph(network, images), cut, f"cut {number} of {len(recipe.cuts)}")
        if number == 1:  # the groups say better what is other
            _require_parameters(network, recipe)
        own = cut if rank is None else _ranked_anew(cut, rank(network, _space(cut), cut))
        before, units = network, _surplus(own)
        network = without(before, units, own.removed_blocks, images)
        set_to_zero(network, own.zeros)
        after_cut(network, before, own, kept_channels(before, units, images))
        cuts.append(own)
    applied = replace(recipe, cuts=tuple(cuts), weights_sha256=weights, versions=_versions())
    return Applied(laid_out(network), applied)


def _traced(model: nn.Module, recipe: Recipe, images: Inputs, task: Task | None) -> fx.GraphModule:
    """Return the graph that the recipe was written for: the best one, or one that older versions made."""
    graphs = recordings(model, images, classes=recipe.classes, task=task_of_recipe(recipe, task))
    if not recipe.cuts:
        return graphs[0]
    differences: list[ModelError] = []
    for graph in graphs:
        try:
            _require_same(dependency_graph(graph, images), recipe.cuts[0], f"cut 1 of {len(recipe.cuts)}")
        except ModelError as error:
            differences.append(error)
        else:
            return graph
    raise differences[0]


def task_of_recipe(recipe: Recipe, given: Task | None) -> Task:
    """Return what the recipe's network is for; no file is imported because a recipe says so.

    Raises:
        ConfigError: it is a task of the user's own, which is not given.
    """
    if given is not None:
        return given
    if ":" in recipe.task or recipe.task.endswith(".py"):
        raise ConfigError(
            f"the recipe's network is for a task of your own, {recipe.task}; give it: --task {recipe.task}, or "
            "task=load_task(...)"
        )
    return load_task(recipe.task)


def load_pruned(model: nn.Module, recipe: Recipe, weights_file: Path, task: Task | None = None) -> fx.GraphModule:
    """Return the pruned network that a ``weights.safetensors`` was saved of, in eval mode.

    Its answers are those of the network that was saved, bit for bit on the same machine with as many threads.

    Args:
        model: of the recipe's architecture; its weights do not matter.
        task: see ``apply_recipe``.

    Raises:
        ModelError: the model is of another architecture, or the weights are not the pruned network's.
    """
    network = apply_recipe(model, recipe, task=task).network
    load_weights(network, weights_file)
    return network.eval()


def laid_out(network: fx.GraphModule) -> fx.GraphModule:
    """Lay the weights out in place as convolutions read them, each anew: how sums round depends on the layout.

    ``.to(memory_format=...)`` leaves 1 × 1 kernels as they lie, which a cut may have left either way.
    """
    for tensor in [*network.parameters(), *network.buffers()]:
        layout = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
        tensor.data = torch.empty(tensor.shape, dtype=tensor.dtype, memory_format=layout).copy_(tensor.data)
    return network


def example_of(recipe: Recipe) -> Inputs:
    """Return a random batch of the recipe's shapes, always the same."""
    generator = torch.Generator().manual_seed(0)
    shapes = (recipe.input_shape, *recipe.more_shapes)
    parts = tuple(torch.randn(_IMAGES, *shape, generator=generator) for shape in shapes)
    return parts[0] if len(parts) == 1 else parts


def _surplus(cut: Cut) -> dict[str, Tensor]:
    """Return the units that go, by group."""
    return {group.name: torch.tensor(_gone(group), dtype=torch.int64) for group in cut.groups}


def _gone(group: GroupCut) -> list[int]:
    kept = frozenset(group.kept)
    return [i for i in range(group.units) if i not in kept]


def _ranked_anew(cut: Cut, ranking: Ranking) -> Cut:
    """Return the cut with as many units of each group, the last in a ranking's order."""
    groups = []
    for group in cut.groups:
        order = ranking[group.name].tolist()
        groups.append(replace(group, kept=tuple(sorted(order[group.units - len(group.kept) :]))))
    return replace(cut, groups=tuple(groups))


def _space(cut: Cut) -> SearchSpace:
    """Return the groups of a cut as a ranking wants them; what they weigh is not known and does not matter to it."""
    groups = [
        Group(
            name=g.name, layers=g.layers, channels=g.units * g.width, kept={g.level: len(g.kept) * g.width}, macs=0,
            parameters=0, bypass=g.bypass, width=g.width,
        )
        for g in cut.groups
    ]  # fmt: skip
    return SearchSpace(groups=tuple(groups), refused={}, macs=0, parameters=0, step=cut.step)


def _require_parameters(network: fx.GraphModule, recipe: Recipe) -> None:
    found = sum(p.numel() for p in network.parameters())
    if found != recipe.parameters:
        raise ModelError(
            f"the model is not of the recipe's architecture: uncut, it has {found:,} parameters, the recipe's "
            f"{recipe.parameters:,} ({recipe.model}, {recipe.classes} classes); give the model that the recipe names"
        )


def _require_same(here: DependencyGraph, cut: Cut, shown: str) -> None:
    """Raise ModelError unless the network has the groups, of as many channels, and the blocks that the recipe cuts."""
    blocks = {block.name for block in here.blocks}
    differences = [difference for group in cut.groups for difference in _differences(here, group)]
    differences += [f"it has no block {name!r}" for name in cut.removed_blocks if name not in blocks]
    if differences:
        more = f" (and {len(differences) - 3} more)" if len(differences) > 3 else ""
        raise ModelError(
            f"the model is not of the recipe's architecture: {'; '.join(differences[:3])}{more}, {shown}; give the "
            "model that the recipe names"
        )


def _differences(here: DependencyGraph, wanted: GroupCut) -> Iterable[str]:
    """Yield what is other about a group; its name is its first layer's."""
    group = here.groups.get(wanted.name)
    if group is None:
        yield f"it has no group {wanted.name!r}"
        return
    if group.units != wanted.units:
        yield f"{wanted.name!r} has {group.units} channels to choose from, the recipe's {wanted.units}"
    layers = here.makers[wanted.name]
    if other := sorted(set(layers) ^ set(wanted.layers)):
        whose = "only here" if other[0] in layers else "only in the recipe"
        yield f"{other[0]!r} shares the channels of {wanted.name!r} {whose}"


def _versions() -> dict[str, str]:
    return {"pipeline": __version__, "python": platform.python_version(), "torch": torch.__version__}
