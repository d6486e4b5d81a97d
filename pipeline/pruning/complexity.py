"""What a network weighs: parameters, MACs, activations, channels, zeros; one definition each.

**Parameters**: values of all parameters, batch norm's included; a parameter that is used twice counts once.

**MACs**: multiply-accumulates for one image of everything that multiplies matrices: convolutions (grouped, depthwise
and transposed too), linear layers, and products of matrices, as in attention, however they are spelled (modules,
functions, inside a layer of torch's own). Half of what ``torch.utils.flop_counter`` counts. Not counted, as in the
pruning literature: batch norm, which a runtime folds into the convolution before it, biases, activations, pooling and
other element-wise work, whose time goes into moving values rather than multiplying them.

**Peak activation memory**: bytes of the activations that are alive together, at the worst moment of one image's pass
in the graph's order. While a node runs, alive are its inputs and outputs and what a later node still reads. The image
and the answer count; weights do not, nor what a kernel needs for itself. Views and in-place operations share their
input's memory, which counts once, whole, as long as one of them lives. A batch norm that alone reads a convolution or
linear layer is folded into it and costs nothing. A runtime may do better (it may fuse more) or worse (it may keep
arenas); this is the network's own share of it.

**Channels**: output channels of all convolutions and linear layers, the last one's included. **Channel sparsity**:
the share of the base network's that are gone (``records.channel_sparsity``).

**Sparsity**: the share of exactly zero values among all weights, which are the parameters of two and more dimensions
(biases and batch norms begin at zero by custom). Cutting whole channels leaves no zeros behind: what this finds was
zero before.

**Size**: bytes of the file in its format (ONNX, TFLite, safetensors), whole, as it lies on the disk.

Nothing is computed for any of them: the graph is run on torch's meta device, where tensors have shapes alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.pruning.tracing.shape_pass import Pass, one_image
from pipeline.structures import Inputs


@dataclass(frozen=True, slots=True)
class Weight:
    """What a network, or one layer, weighs."""

    parameters: int
    macs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """All of a network's measures, as this module's docstring defines them."""

    parameters: int
    macs: int
    peak_activation_bytes: int
    channels: int
    sparsity: float


def measures_of(model: nn.Module, example: Inputs) -> Measures:
    """Return all measures of ``model`` for one image of the shape of those of a batch.

    Raises:
        ModelError: it cannot be traced, or does not run on such an image.
    """
    run = one_image(model, example)
    return Measures(
        parameters=_count(model.parameters()),
        macs=sum(run.macs.values()),
        peak_activation_bytes=_peak(run),
        channels=sum(layer.channels for layer in _layers(run).values()),
        sparsity=sparsity(model),
    )


def layer_weights(model: nn.Module, example: Inputs) -> dict[str, Weight]:
    """Return parameters and MACs for one image of each layer with weights, by qualified name, in forward order.

    A layer is named for its module; one that is a function of parameters, such as ``F.conv2d(x, self.weight)``, for
    the module that holds them, or for the parameter where that is the network itself.
    """
    return whole_and_layers(model, example)[1]


def whole_and_layers(model: nn.Module, example: Inputs) -> tuple[Weight, dict[str, Weight]]:
    """Return ``weigh`` and ``layer_weights`` of one pass."""
    run = one_image(model, example)
    return Weight(_count(model.parameters()), sum(run.macs.values())), {
        name: Weight(sum(layer.parameters.values()), layer.macs) for name, layer in _layers(run).items()
    }


def weigh(model: nn.Module, example: Inputs) -> Weight:
    """Return all parameters of ``model`` and its MACs for one image.

    >>> weigh(nn.Conv2d(3, 8, 3, bias=False), torch.zeros(1, 3, 5, 5))
    Weight(parameters=216, macs=1944)
    """
    return whole_and_layers(model, example)[0]


def peak_activation_bytes(model: nn.Module, example: Inputs) -> int:
    """Return the bytes of the activations that are alive together at the worst moment of one image's pass.

    >>> peak_activation_bytes(nn.Conv2d(3, 8, 3), torch.zeros(1, 3, 5, 5)) == 4 * (3 * 5 * 5 + 8 * 3 * 3)
    True
    """
    return _peak(one_image(model, example))


def sparsity(model: nn.Module) -> float:
    """Return the share of exactly zero values among all weights."""
    weights = [p for p in model.parameters() if p.dim() > 1]
    zeros = sum(int((p == 0).sum()) for p in weights)
    return zeros / max(1, _count(weights))


@dataclass(slots=True)
class _Layer:
    parameters: dict[str, int] = field(default_factory=dict)
    macs: int = 0
    channels: int = 0


def _layers(run: Pass) -> dict[str, _Layer]:
    """Return the layers with weights, in forward order; one that runs twice counts its MACs twice."""
    static = _independent_of_the_image(run.graph)
    found: defaultdict[str, _Layer] = defaultdict(_Layer)
    for node, macs in run.macs.items():
        own = _parameters(run.graph, node, static)
        if not own:  # a product of two activations
            continue
        layer = found[str(node.target) if node.op == "call_module" else layer_name(own)]
        layer.channels += 0 if own.keys() <= layer.parameters.keys() else run.channels[node]
        layer.parameters |= {name: parameter.numel() for name, parameter in own.items()}
        layer.macs += macs
    return dict(found)


def _independent_of_the_image(graph: fx.GraphModule) -> frozenset[fx.Node]:
    static: set[fx.Node] = set()
    for node in graph.graph.nodes:
        if node.op != "placeholder" and all(n in static for n in node.all_input_nodes):
            static.add(node)
    return frozenset(static)


def _parameters(graph: fx.GraphModule, node: fx.Node, static: frozenset[fx.Node]) -> dict[str, Tensor]:
    """Return the parameters that a node reads, itself or through what is made of parameters alone."""
    if node.op == "call_module":
        return dict(graph.get_submodule(str(node.target)).named_parameters())
    found: dict[str, Tensor] = {}
    waiting = [n for n in node.all_input_nodes if n in static]
    while waiting:
        source = waiting.pop(0)
        waiting.extend(source.all_input_nodes)
        if source.op == "get_attr":
            module, _, name = str(source.target).rpartition(".")
            value = getattr(graph.get_submodule(module), name)
            found |= {str(source.target): value} if isinstance(value, nn.Parameter) else {}
    return found


def layer_name(parameters: Mapping[str, Tensor]) -> str:
    """Return the module that parameters belong to, for the first that is a matrix; without one, its own name.

    >>> layer_name({"stem.bias": torch.zeros(8), "stem.weight": torch.zeros(8, 3)}), layer_name({"w": torch.ones(2)})
    ('stem', 'w')
    """
    name = next((n for n, p in parameters.items() if p.dim() > 1), next(iter(parameters)))
    return name.rpartition(".")[0] or name


def _count(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() for t in tensors)


def _peak(run: Pass) -> int:
    """Return the largest sum of what is alive while a node runs."""
    nodes = list(run.graph.graph.nodes)
    position = {node: i for i, node in enumerate(nodes)}
    static = _independent_of_the_image(run.graph)
    lives: dict[int, tuple[int, int, int]] = {}
    folded = _folded(run)
    for i, node in enumerate(nodes):
        until = max((position[user] for user in node.users), default=i)
        for storage in () if node in static or node.op == "output" else run.storages[node]:
            kept = folded.get(storage._cdata, storage)
            begin, end, _ = lives.get(kept._cdata, (i, i, 0))
            lives[kept._cdata] = (begin, max(end, until), kept.nbytes())
    changes = [0] * (len(nodes) + 1)
    for begin, end, size in lives.values():
        changes[begin] += size
        changes[end + 1] -= size
    alive = peak = 0
    for change in changes:
        alive += change
        peak = max(peak, alive)
    return peak


def _folded(run: Pass) -> dict[int, torch.UntypedStorage]:
    """Return the memory that stands for another's: a folded batch norm writes into its convolution's result."""
    found: dict[int, torch.UntypedStorage] = {}
    for node, storages in run.storages.items():
        source = next(iter(node.all_input_nodes), None)
        if _is_batch_norm(run.graph, node) and source in run.macs and source is not None and len(source.users) == 1:
            found[storages[0]._cdata] = run.storages[source][0]
    return found


def _is_batch_norm(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), _BatchNorm)
    return node.target is functional.batch_norm
