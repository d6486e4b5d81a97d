"""Layer-wise least-squares reconstruction after a cut, without labels (He et al. 2017).

Layer by layer, in forward order, on a few images without labels: what a layer reads has changed, so its weights are
fitted by least squares to the answers that it gave before, in the channels that are left. A layer that ends a residual
branch is fitted to the sum, so that it makes up for what the branches before it lost (He et al., Channel Pruning for
Accelerating Very Deep Neural Networks, 2017, section 3.2). Batch norm's statistics are taken anew on the way, and its
scale and shift carry the fit, so that no parameter is added. Layers of other kinds, and those that are called twice,
keep their weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline import structures
from pipeline.errors import DataError
from pipeline.pruning.dependency.channel_sets import owner
from pipeline.pruning.dependency.sums import is_addition
from pipeline.pruning.reconstruction.batch_norm import Batch, take_statistics
from pipeline.pruning.reconstruction.layer_matrix import Layer, as_weights, at, by_place, is_matrix, read, weights_of
from pipeline.pruning.reconstruction.least_squares import change
from pipeline.structures import Inputs
from pipeline.training.accelerator import channels_last

_MOST_PIXELS = 256 * 224 * 224
"""Of all images together: a layer's answers to all of them are in memory at once."""
_MOST_READ = 2**24
"""Numbers that one layer reads at all its places together, and so also the time that its fit takes."""
_MOST_KEPT = 2**27
"""Numbers that the whole network's layers answer at their places, half a gigabyte."""


class TargetActivations:
    """What a whole network's layers answer to some images, at places that are drawn at random and stay the same."""

    def __init__(self, network: fx.GraphModule, batches: Iterable[Batch], places: int) -> None:
        """Run the network once.

        Args:
            batches: normalised images, (N, C, H, W), whose labels are not looked at. Of large ones the first are taken,
                no more than have as many pixels as 256 images of 224 x 224, but two.
            places: of all images together that are looked at of each layer, where it has more. Of a layer that reads
                much at each place, and of a network that answers much, they are fewer.
        """
        self.images = _within_memory(batches)
        layers = {fit.end: fit.layer for fit in _fits(network).values()}
        self._most = min(places, _MOST_KEPT // max(1, sum(len(layer.weight) for layer in layers.values())))
        self.inputs = {node.name: _inputs(node) for node in network.graph.nodes}
        self.shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
        self.places: dict[str, Tensor] = {}
        """Node that a layer is fitted to → which of its places are looked at, (images, places)."""
        self.values: dict[str, Tensor] = {}
        """The same → what it holds there, (images · places, channels)."""
        with torch.no_grad():
            _Recorder(network, layers, self._take).run(*structures.arguments(self.images))

    def _take(self, node: fx.Node, layer: Layer, values: Tensor) -> None:
        """Draw places and keep values, (images, places, channels), there, to which a layer is fitted."""
        images, count = values.shape[:2]
        most = min(self._most, _MOST_READ // layer.weight[0].numel())
        each = max(1, -(-most // images))
        places, draw = torch.arange(count).expand(images, count), torch.Generator().manual_seed(len(self.places))
        if count > each:
            places = torch.randint(count, (images, each), generator=draw)
        self.places[node.name], self.values[node.name] = places, at(values, places)


def reconstruct(network: fx.GraphModule, answers: TargetActivations, kept: Mapping[str, Tensor]) -> None:
    """Fit the layers of a cut network behind the cuts, in place.

    Args:
        network: cut; its weights and batch norms are as they were.
        answers: of the network before the cut.
        kept: which of a layer's channels are left, by its name; all of those that are absent.

    Raises:
        DataError: a single image, where a norm sees one value a channel and so no variance.
    """
    channels_last(network).eval()
    with torch.no_grad():
        _Reconstruction(network, answers, kept).run(*structures.arguments(answers.images))


@dataclass(frozen=True, slots=True)
class _Fit:
    """What a layer can be fitted to."""

    layer: Layer
    norm: fx.Node | None
    """The batch norm behind it."""
    end: fx.Node
    """Whose values are to be what they were: the layer's own, its norm's, or those of the sum that it goes into."""
    beside: fx.Node | None
    """The sum's other side."""


class _Recorder(fx.Interpreter):
    """Runs a network and lets what some of its nodes hold be taken, as the layer beside each of them answers."""

    def __init__(
        self, network: fx.GraphModule, layers: Mapping[fx.Node, Layer], take: Callable[[fx.Node, Layer, Tensor], None]
    ) -> None:
        super().__init__(network)
        self._layers, self._take = layers, take

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        values = super().run_node(n)
        if (layer := self._layers.get(n)) is not None:
            self._take(n, layer, by_place(values, layer))
        return values


class _Reconstruction(fx.Interpreter):
    """Runs a cut network; a layer that reads something else than it did is fitted before it runs."""

    def __init__(self, network: fx.GraphModule, answers: TargetActivations, kept: Mapping[str, Tensor]) -> None:
        super().__init__(network)
        self.extra_traceback = False  # else it writes the node into our messages
        self._answers, self._kept = answers, kept
        self._fits = _fits(network)
        smaller = {name for name, tensor in network.state_dict().items() if tensor.shape != answers.shapes[name]}
        self._cut = smaller | {owner(name) for name in smaller}
        self._changed: set[fx.Node] = set()
        """Nodes that were run and answer otherwise than in the whole network."""
        self._carried: dict[fx.Node, tuple[Tensor, Tensor]] = {}
        """Norm → by what its layer's weights were multiplied, and the intercept of the fit, (channels,) each."""

    def run_node(self, n: fx.Node) -> Any:
        """Fit what is to be fitted before one node runs, and run it."""
        reads_otherwise = _inputs(n) != self._answers.inputs.get(n.name) or self._has_changed(*n.all_input_nodes)
        fit = self._fits.get(n)
        if fit is not None and (reads_otherwise or self._has_changed(fit.beside)):
            self._fit(n, fit)
            self._changed.add(n)
        if reads_otherwise or str(n.target) in self._cut:
            self._take_statistics(n)
            self._changed.add(n)
        return super().run_node(n)

    def _has_changed(self, *nodes: fx.Node | None) -> bool:
        return not self._changed.isdisjoint(nodes)

    def _fit(self, n: fx.Node, fit: _Fit) -> None:
        """Fit one layer; where nothing finite comes of it, or the whole network knew no such sum, it stays."""
        if fit.end.name not in self._answers.values:
            return
        with torch.autocast(structures.arguments(self._answers.images)[0].device.type, enabled=False):
            found = self._found(n, fit)
        if found is None:
            return
        weights, intercept = found
        if fit.norm is not None:  # the weights stay as long as they were, which fine-tuning's decay goes by
            factor = _lengths(fit.layer.weight) / _lengths(weights)
            weights = weights * factor.reshape(-1, *[1] * (weights.dim() - 1))
            self._carried[fit.norm] = factor, intercept
            intercept = torch.zeros_like(intercept)
        _put(fit.layer, "weight", weights)
        if fit.layer.bias is not None:
            _put(fit.layer, "bias", intercept)

    def _found(self, n: fx.Node, fit: _Fit) -> tuple[Tensor, Tensor] | None:
        """Return the weights of a layer, in its own shape, and the intercepts, (outputs,), that fit best."""
        layer, places = fit.layer, self._answers.places[fit.end.name]
        reads = read(self.env[n.all_input_nodes[0]], layer, places).float()
        weights, intercept, answers = self._as_is(fit, reads)
        wanted = self._wanted(n, fit).reshape(answers.shape[1], len(answers), -1).transpose(0, 1)
        found = change(reads, wanted - answers, intercept=fit.norm is not None or layer.bias is not None)
        return None if found is None else (as_weights(weights + found[0], layer), (intercept + found[1]).flatten())

    def _wanted(self, n: fx.Node, fit: _Fit) -> Tensor:
        """Return what a layer's channels that are left should answer, (places, channels)."""
        end = fit.end.name
        wanted = self._answers.values[end].float()
        if (kept := self._kept.get(str(n.target))) is not None:
            wanted = wanted[:, kept]
        if fit.beside is None:
            return wanted
        return wanted - at(by_place(self.env[fit.beside], fit.layer), self._answers.places[end]).float()

    def _as_is(self, fit: _Fit, reads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a layer's weights, intercepts, (groups, outputs), and answers, as its norm scales them.

        What a norm takes off and adds is not among them: the fit's intercept takes its place.
        """
        weights = weights_of(fit.layer).float()
        answers = reads @ weights.mT
        bias = torch.zeros_like(answers[:, 0])
        if fit.norm is not None:
            norm = self.module.get_submodule(str(fit.norm.target))
            assert isinstance(norm, _BatchNorm)
            scale = norm.weight.float().reshape(bias.shape) / (answers.var(1, correction=0) + norm.eps).sqrt()
            return weights * scale[..., None], bias, answers * scale[:, None]
        if fit.layer.bias is not None:
            bias = fit.layer.bias.float().reshape(bias.shape)
        return weights, bias, answers + bias[:, None]

    def _take_statistics(self, n: fx.Node) -> None:
        """Take a batch norm's statistics anew; where its layer was fitted, scale and shift become the fit's."""
        norm = self.module.get_submodule(str(n.target)) if n.op == "call_module" else None
        if not isinstance(norm, _BatchNorm) or not norm.track_running_stats:
            return
        take_statistics(norm, self.env[n.all_input_nodes[0]])
        if n in self._carried:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            factor, intercept = self._carried[n]
            _put(norm, "weight", (norm.running_var + norm.eps).sqrt() / factor)
            _put(norm, "bias", norm.running_mean / factor + intercept)


def _within_memory(batches: Iterable[Batch]) -> Inputs:
    """Return the first images, as many as may be in memory at once, and two at least."""
    taken: list[Inputs] = []
    most = 0
    for images, _ in batches:
        taken.append(images)
        most = max(2, _MOST_PIXELS // sum(part[0, 0].numel() for part in structures.arguments(images)))
        if sum(map(structures.count, taken)) >= most:
            break
    if not taken:
        raise DataError("layers cannot be fitted to a cut without images; give at least two")
    together: Inputs = structures.part(structures.joined(taken), 0, most)
    return together


def _fits(network: fx.GraphModule) -> dict[fx.Node, _Fit]:
    """Return what each layer can be fitted to, in forward order."""
    order = {node: place for place, node in enumerate(network.graph.nodes)}
    alone = _called_once(network)
    fits = {}
    for node, module in alone.items():
        if is_matrix(module):
            behind = _only_reader(node)
            norm = behind if behind is not None and _carries_a_fit(alone.get(behind)) else None
            last = norm or node
            sum_, beside = _addition_behind(last)
            known = beside is not None and order[beside] < order[node]
            end = sum_ if sum_ is not None and known else last
            fits[node] = _Fit(module, norm, end, beside if known else None)
    return fits


def _called_once(network: fx.GraphModule) -> dict[fx.Node, nn.Module]:
    """Return the modules that are called at one node alone and share no parameter with others, by that node."""
    calls = [node for node in network.graph.nodes if node.op == "call_module"]
    times = Counter(node.target for node in calls)
    modules = {node: network.get_submodule(str(node.target)) for node in calls if times[node.target] == 1}
    holders = Counter(id(p) for module in network.modules() for p in module.parameters(recurse=False))
    return {node: module for node, module in modules.items() if all(holders[id(p)] == 1 for p in module.parameters())}


def _carries_a_fit(module: nn.Module | None) -> bool:
    return isinstance(module, _BatchNorm) and module.affine and module.track_running_stats


def _addition_behind(node: fx.Node) -> tuple[fx.Node | None, fx.Node | None]:
    """Return the addition that alone reads a node, and its other side."""
    reader = _only_reader(node)
    if reader is None or not is_addition(reader):
        return None, None
    return reader, next(side for side in reader.all_input_nodes if side is not node)


def _only_reader(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _inputs(node: fx.Node) -> list[str]:
    return [source.name for source in node.all_input_nodes]


def _lengths(weights: Tensor) -> Tensor:
    """Return the length of each output's weights, (outputs,), never 0."""
    lengths: Tensor = weights.flatten(1).norm(dim=1)
    return lengths.clamp_min(torch.finfo(weights.dtype).eps)


def _put(module: nn.Module, name: str, values: Tensor) -> None:
    """Put values in as a new parameter: autocast remembers an old one in half precision."""
    old = getattr(module, name)
    layout = torch.channels_last if values.dim() == 4 else torch.contiguous_format
    new = values.to(old.dtype).contiguous(memory_format=layout)
    setattr(module, name, nn.Parameter(new, requires_grad=old.requires_grad))
