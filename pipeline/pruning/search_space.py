"""Search space: groups of coupled channels with their legal levels, and what stays whole and why."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import fx

from pipeline.errors import ConfigError, ModelError, nearest
from pipeline.pruning.complexity import Weight, whole_and_layers
from pipeline.pruning.dependency.block_groups import home
from pipeline.pruning.dependency.channel_sets import Coupled, owner
from pipeline.pruning.dependency.dependency_graph import DependencyGraph, dependency_graph
from pipeline.pruning.dependency.residual_blocks import Block
from pipeline.pruning.surgery.verify_cut import disproved_blocks, find_violations
from pipeline.pruning.surgery.weight_sparsity import weights as weight_tensors
from pipeline.records import LEVELS, Group, SearchSpace
from pipeline.structures import Inputs

_PROTECTED = "protected by the settings"
_OUTSIDE = "not among the layers that may change (pruning: only)"


def search_space(
    model: fx.GraphModule,
    example: Inputs,
    *,
    step: int,
    protect: Sequence[str] = (),
    only: Sequence[str] = (),
    minimum: Mapping[str, int] | None = None,
) -> SearchSpace:
    """Return what may be cut in a traced ``model`` for a device whose channel step is ``step``.

    Args:
        protect: layers that stay whole, by name or pattern: ``layer1.*``.
        only: layers that may change, by name or pattern; any other keeps its channels, those that it reads as well.
            Empty: all may.
        minimum: pattern of a layer's name → channels that it keeps at least.

    Raises:
        ModelError: nothing in the model can be cut.
        ConfigError: a pattern fits no layer.
    """
    known = dependency_graph(model, example)
    _require_fits([*protect, *only, *(minimum or {})], known)
    wrong = find_violations(model, example)
    total, weights = whole_and_layers(model, example)
    kept_whole = _blocks_that_stay(known, disproved_blocks(model, example), protect, only)
    blocks = [block for block in known.blocks if block.name not in kept_whole]
    refused, groups, whole = dict(known.refused), [], dict[str, str]()
    for name, coupled in known.groups.items():
        layers, block = known.makers[name], home(coupled, blocks)
        floor = max([step, *(least for pattern, least in (minimum or {}).items() if _fits(layers, [pattern]))])
        group = _group(coupled, block, known, weights, model, step, floor)
        if block is None and name in known.own:
            continue
        if block is None and (stays := home(coupled, known.blocks)):
            group = replace(group, why_not_whole=kept_whole[stays.name])
        if why := _why_whole(group, coupled, wrong, protect, only, step, floor):
            whole[name] = why
            refused.update(dict.fromkeys(layers, why))
        else:
            groups.append(group)
    cuttable = {layer for group in groups for layer in group.layers}
    refused = {layer: why for layer, why in refused.items() if layer not in cuttable}
    refused |= _unlisted(known, groups, whole, weights, refused)
    if not groups:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(refused.items())[:3])
        raise ModelError(f"nothing in this model can be pruned ({reasons})")
    macs = {layer: weights[layer].macs if layer in weights else 0 for layer in refused}
    for name in [name for name in whole if name not in refused and cuttable.issuperset(known.makers[name])]:
        refused[name] = f"some of its channels stay: {whole[name]}"
        shares = _shares(known.groups[name], known, weights, reads=False)
        macs[name] = round(sum(share * weights[layer].macs for layer, share in shares.items() if layer in cuttable))
    return SearchSpace(
        groups=_outer_first(groups, blocks), refused=refused, refused_macs=macs, macs=total.macs,
        parameters=total.parameters, step=step, layer_macs={layer: weight.macs for layer, weight in weights.items()},
        layer_parameters={layer: weight.parameters for layer, weight in weights.items()},
        weights={name: tensor.numel() for name, tensor in weight_tensors(model).items()},
        blocks={b.name: tuple(sorted(b.layers)) for b in blocks if any(g.bypass == b.name for g in groups)},
    )  # fmt: skip


def _unlisted(
    known: DependencyGraph,
    groups: Sequence[Group],
    whole: Mapping[str, str],
    weights: Mapping[str, Weight],
    refused: Mapping[str, str],
) -> dict[str, str]:
    """Return the layers that no group touches and that are not refused yet, with the reason: each stands somewhere.

    Args:
        whole: groups that stay → why.
    """
    touched = {layer for group in groups for layer in (*group.layers, *group.makes, *group.reads)}
    reasons = {s: why for name, why in whole.items() for s in known.sets[name].flatten().tolist()} | known.stays
    found = {}
    for layer in weights.keys() - touched - refused.keys():
        sets = [s for (tensor, _), along in known.axes.items() if owner(tensor) == layer for s in along.tolist()]
        found[layer] = next((reasons[s] for s in sets if s in reasons), "its weights are computed in every pass")
    return {layer: found[layer] for layer in weights if layer in found}


def kept_channels(channels: int, level: int, step: int, width: int = 1) -> int:
    """Return how many of ``channels`` stay at a level in percent, rounded up to ``step``, never to nothing.

    Args:
        width: channels that come and go together, as the groups of a grouped convolution do.

    >>> [kept_channels(24, level, 8) for level in (0, 25, 50, 75)]
    [24, 24, 16, 8]
    >>> kept_channels(16, 25, 32), kept_channels(48, 50, 8, width=12)
    (16, 24)
    """
    wanted = max(step, step * math.ceil(channels * (100 - level) / 100 / step))
    return min(channels, width * math.ceil(wanted / width))


def _require_fits(patterns: Iterable[str], known: DependencyGraph) -> None:
    layers = [*known.refused, *(layer for made in known.makers.values() for layer in made)]
    for pattern in patterns:
        if not _fits(layers, [pattern]):
            parts = [f"{layer.rpartition('.')[0]}.*" for layer in layers if "." in layer]
            near = nearest(pattern, dict.fromkeys([*layers, *parts, *(part.split(".")[0] + ".*" for part in parts)]))
            some = ", ".join(layers[:3])
            raise ConfigError(f"no layer of the network is called {pattern!r}{near}; its layers are {some}, ...")


def _fits(layers: Iterable[str], patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(layer, pattern) for layer in layers for pattern in patterns)


def _outside(layers: Iterable[str], only: Sequence[str]) -> bool:
    """Return whether some layer may not change."""
    return bool(only) and not all(_fits([layer], only) for layer in layers)


def _blocks_that_stay(
    known: DependencyGraph, wrong: Mapping[str, str], protect: Sequence[str], only: Sequence[str]
) -> dict[str, str]:
    """Return the blocks that cannot go, and why."""
    stay = {}
    named = {*known.refused, *(layer for made in known.makers.values() for layer in made)}
    for block in known.blocks:
        if protected := sorted(layer for layer in block.layers if _fits([layer], protect)):
            stay[block.name] = f"the block around it holds {protected[0]}, which is {_PROTECTED}"
        elif outside := sorted(layer for layer in block.layers if layer in named and _outside([layer], only)):
            stay[block.name] = f"the block around it holds {outside[0]}, which is {_OUTSIDE}"
        elif block.name in wrong:
            stay[block.name] = wrong[block.name]
    return stay


def _outer_first(groups: Sequence[Group], blocks: Iterable[Block]) -> tuple[Group, ...]:
    """Return groups in forward order, but a block's first group before those of blocks within it.

    So whoever decides group by group knows of each whether a block around it goes.
    """
    ordered = list(groups)
    for block in blocks:  # the inner ones come first
        inside = {other.name for other in blocks if other.within(block)}
        first = next((i for i, group in enumerate(ordered) if group.bypass == block.name), -1)
        place = next((i for i, group in enumerate(ordered) if group.bypass in inside), first)
        if place < first:
            ordered.insert(place, ordered.pop(first))
    return tuple(ordered)


def _why_whole(
    group: Group,
    coupled: Coupled,
    wrong: Mapping[str, str],
    protect: Sequence[str],
    only: Sequence[str],
    step: int,
    floor: int,
) -> str | None:
    """Return why a group has to stay as it is, None where it may be cut."""
    if coupled.name in wrong:
        return wrong[coupled.name]
    if _fits(group.layers, protect):
        return _PROTECTED
    if _outside(group.layers, only):
        return _OUTSIDE
    readers = dict.fromkeys(owner(part.tensor) for part in coupled.slices if part.role == "reads")
    if outside := [layer for layer in readers if _outside([layer], only)]:
        return f"{outside[0]} reads it and is {_OUTSIDE}"
    if len(group.kept) > 1:
        return None
    no_way = "and nothing leads past them"
    if coupled.units == 1:
        return f"its {group.channels} channels only go together, {no_way}"
    if floor > step:
        return f"the settings keep {floor} of its {group.channels} channels, {no_way}"
    return f"its {group.channels} channels are no more than this device computes at once ({step}), {no_way}"


def _group(
    coupled: Coupled,
    block: Block | None,
    known: DependencyGraph,
    weights: Mapping[str, Weight],
    model: fx.GraphModule,
    step: int,
    floor: int,
) -> Group:
    root = next(s for s in coupled.slices if s.role == "makes")
    layers = known.makers[coupled.name]
    channels = len(root.positions)
    width = channels // coupled.units
    kept: dict[int, int] = {}
    for level in LEVELS[:-1]:
        count = min(channels, max(kept_channels(channels, level, step, width), width * math.ceil(floor / width)))
        if count not in kept.values():  # a level that saves nothing more on this device is masked
            kept[level] = count
    if block is not None:
        kept[100] = 0
    reads, makes = (_shares(coupled, known, weights, reads=reads) for reads in (True, False))
    touched = {layer: max(reads.get(layer, 0.0), makes.get(layer, 0.0)) for layer in {**makes, **reads}}
    kernel, stride = _geometry(model, owner(root.tensor))
    return Group(
        name=coupled.name,
        layers=layers,
        channels=channels,
        width=width,
        kept=kept,
        macs=round(sum(share * weights[layer].macs for layer, share in touched.items())),
        parameters=round(sum(share * weights[layer].parameters for layer, share in touched.items())),
        bypass=block.name if block else None,
        reads=reads,
        makes=makes,
        why_not_whole="" if block else _why_not_whole(coupled.name, known),
        kernel=kernel,
        stride=stride,
    )


def _shares(
    coupled: Coupled, known: DependencyGraph, weights: Mapping[str, Weight], *, reads: bool
) -> dict[str, float]:
    """Return the layers that read a group's channels, or that make or scale them, each with their share in it."""
    shares: dict[str, float] = {}
    for part in coupled.slices:
        layer = owner(part.tensor)
        if layer in weights and (part.role == "reads") == reads:
            share = len(part.positions) / len(known.axes[part.tensor, part.axis])
            shares[layer] = max(shares.get(layer, 0.0), share)
    return shares


def _why_not_whole(name: str, known: DependencyGraph) -> str:
    layers = known.makers[name]
    if name in known.joined:
        return "the concatenation that it goes into could be left with nothing, or others read it too"
    if len(layers) > 1:
        return f"{len(layers)} layers make these channels together; single blocks among them may go, not all"
    return "nothing leads around it"


def _geometry(model: fx.GraphModule, layer: str) -> tuple[int, int]:
    """Return kernel size and stride of a convolution; 1, 1 for what is none."""
    try:
        module = model.get_submodule(layer)
    except AttributeError:
        return 1, 1
    return getattr(module, "kernel_size", (1,))[0], getattr(module, "stride", (1,))[0]
