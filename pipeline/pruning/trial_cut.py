"""The proof: the cut network answers as the whole one does that ignores the channels which went.

How channels hang together follows from rules, and a rule may be wrong about an operator of tomorrow. So before anything
is pruned, half of every group is cut at once: first the weights that read these channels are set to zero, then the
channels are cut. Both networks must give the same answers; where they do not, the groups at fault are found by halving.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx

from pipeline.errors import CutError
from pipeline.pruning.coupled import Coupled
from pipeline.pruning.coupling import Coupling, coupling
from pipeline.pruning.prune import without

_TOLERANCE = 1e-3
"""Of what the channels contribute to the answers."""
_ROUNDING = 1e-5
"""Of the answers: float32's rounding over a deep network."""


def disproved(network: fx.GraphModule, example: Tensor) -> dict[str, str]:
    """Return the groups that cannot be cut as they are thought to hang together, with the reason; usually none."""
    known = coupling(network, example)
    names = [name for name, group in known.groups.items() if group.units > 1]
    return _search(network, known, names, example[:1])


def _search(network: fx.GraphModule, known: Coupling, names: Sequence[str], image: Tensor) -> dict[str, str]:
    if not names:
        return {}
    try:
        _compare(network, known, names, image)
    except CutError as error:
        if len(names) == 1:
            return {names[0]: str(error)}
        half = len(names) // 2
        return {**_search(network, known, names[:half], image), **_search(network, known, names[half:], image)}
    return {}


def _compare(network: fx.GraphModule, known: Coupling, names: Sequence[str], image: Tensor) -> None:
    """Cut half of each group at once; raise CutError unless the answers are those of the network that ignores it.

    Channels that others are normalised by change the answers when they go: of those only a network that runs is asked.
    """
    halves = {name: torch.arange(known.groups[name].units // 2) for name in names}
    exact = {name: half for name, half in halves.items() if name not in known.normalised}
    pruned = without(network, halves, (), image)
    if len(exact) < len(halves):
        pruned = without(network, exact, (), image)
    unread = copy.deepcopy(network)
    _stop_reading(unread, known.groups, exact)
    with torch.no_grad():
        before, ignoring, after = network(image), unread(image), pruned(image)
    allowed = _TOLERANCE * (before - ignoring).abs().max() + _ROUNDING * ignoring.abs().max()
    if not (after - ignoring).abs().max() <= allowed:
        raise CutError("cut, it gives another network than one that ignores its channels")


def _stop_reading(network: fx.GraphModule, groups: Mapping[str, Coupled], units: Mapping[str, Tensor]) -> None:
    """Set to zero the weights by which layers read the units."""
    weights = dict(network.named_parameters())
    for name, gone in units.items():
        for part in groups[name].slices:
            if part.role == "reads":
                positions = part.positions[torch.isin(part.units, gone)]
                with torch.no_grad():
                    weights[part.tensor].index_fill_(part.axis, positions, 0)
