"""What a criterion may ask of a network: its weights, the loss's gradients, and what its layers answer to images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from pipeline import structures
from pipeline.errors import DataError, ModelError
from pipeline.objective.load import classification
from pipeline.objective.task import Task
from pipeline.pruning.dependency.channel_sets import Coupled, Role, Slice
from pipeline.pruning.importance.feature_maps import Statistic, observe
from pipeline.structures import Inputs

Batches = Iterable[tuple[Inputs, Any]]

_CHUNK = 32
"""Images that pass through the network at once: 224 × 224 ones need some 1 GB with all that is kept of them."""
MINIBATCH = 8
"""Images over whose mean loss gradients are taken. Fewer cancel out less, see ``criteria.taylor``, and take longer."""


class Evidence:
    """A network as a criterion sees it; all that it returns is float64, finite and detached.

    Nothing is computed before it is asked for, so that a criterion of weights alone reads no image. The network, its
    own ``.grad`` and its batch norms' statistics stay as they were.
    """

    def __init__(
        self,
        model: fx.GraphModule,
        groups: Iterable[Coupled],
        batches: Batches,
        *,
        seed: int = 0,
        task: Task | None = None,
    ) -> None:
        """Take a traced ``model``, the groups that will be ranked, and images with targets, which are read once.

        ``task``: whose loss gradients are of; None: classification.
        """
        self.seed = seed
        self._task = task or classification()
        self._model = model
        self._groups = tuple(groups)
        self._batches: Iterator[tuple[Inputs, Any]] = iter(batches)
        self._tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
        self._effects: dict[tuple[str, int], Tensor] = {}
        self._averages: dict[Statistic, dict[str, Tensor]] = {}

    def parameters(self, group: Coupled, *roles: Role) -> list[Slice]:
        """Return the group's slices of trained weights and biases that have one of ``roles``.

        Buffers, such as batch norm's statistics, do not count, nor do PReLU's slopes, whose size says nothing: a slope
        of zero is a ReLU.
        """
        trained = dict(self._model.named_parameters(remove_duplicate=False))
        parts = [part for part in group.slices if part.role in roles and part.tensor in trained]
        return [part for part in parts if not isinstance(self.layer(part), nn.PReLU)]

    def weights(self, group: Coupled, *roles: Role) -> list[Slice]:
        """Return ``parameters`` without the biases."""
        return [part for part in self.parameters(group, *roles) if part.tensor.rpartition(".")[2] != "bias"]

    def layer(self, part: Slice) -> nn.Module:
        """Return the module that holds a slice's tensor."""
        return self._model.get_submodule(part.tensor.rpartition(".")[0])

    def tensor(self, name: str) -> Tensor:
        """Return a parameter or buffer; raise ModelError where it is not finite."""
        return _finite(self._tensors[name].detach().to("cpu", torch.float64), name)

    @staticmethod
    def along(part: Slice, values: Tensor) -> Tensor:
        """Return values of the slice's tensor as one row a position along its axis; (positions, the rest)."""
        return values.movedim(part.axis, 0).reshape(values.shape[part.axis], -1)

    def effects(self, part: Slice) -> Tensor:
        """Return Σ w · ∂L/∂w over the weights at each position along a slice's axis, (mini-batches, positions).

        L is the task's mean loss over a mini-batch, in eval mode; each row is weighed by its share of the images.

        Args:
            part: of trained weights or biases that make or scale a group's channels.

        Raises:
            DataError: there are no images, or a label is none of the network's classes.
            ModelError: a gradient is not finite.
        """
        if not self._effects:
            self._effects = self._of_minibatches()
        return _finite(self._effects[part.tensor, part.axis], f"the gradient of {part.tensor}")

    def average(self, statistic: Statistic, part: Slice) -> Tensor:
        """Return the mean over all images of what ``statistic`` makes of a layer's feature maps; one a channel.

        Where a layer's maps are read: see ``feature_maps.settled``.

        Args:
            statistic: feature maps (N, C, H, W) to figures (N, C).
            part: the weights of a layer; where it is called more than once, the mean over its calls.

        Raises:
            DataError: there are no images.
            ModelError: the maps are not finite.
        """
        if statistic not in self._averages:
            self._require_finite()
            makers = {p.tensor for g in self._groups for p in self.weights(g, "makes")}
            with _evaluating(self._model):
                images = (images for images, _ in self._chunks())
                self._averages[statistic] = observe(self._model, makers, statistic, images)
        averages = self._averages[statistic][part.tensor]
        if len(averages) != self._tensors[part.tensor].shape[part.axis]:  # a transposed convolution in groups
            raise ModelError(
                f"{part.tensor} holds {self._tensors[part.tensor].shape[part.axis]} rows for {len(averages)} feature "
                "maps, so a map cannot be traced back to its weights; take a criterion of the weights, such as l1"
            )
        return averages

    def _of_minibatches(self) -> dict[tuple[str, int], Tensor]:
        self._require_finite()
        parts = {(p.tensor, p.axis): p for g in self._groups for p in self.parameters(g, "makes", "scales")}
        names = sorted({name for name, _ in parts})
        leaves = {name: self._tensors[name].detach().clone().requires_grad_() for name in names}
        rows: dict[tuple[str, int], list[Tensor]] = {key: [] for key in parts}
        seen = 0
        with _evaluating(self._model), torch.enable_grad():
            for images, labels in self._chunks(MINIBATCH):
                count = structures.count(images)
                outputs = structures.as_parts(functional_call(self._model, leaves, structures.arguments(images)))
                if self._task.puts_into_classes:
                    _require_classes(labels, classes=outputs.shape[1])
                loss = count * self._task.loss_of(outputs, labels)
                found = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
                products = {n: self.tensor(n) * g.to("cpu", torch.float64) for n, g in zip(names, found, strict=True)}
                for key, part in parts.items():
                    rows[key].append(self.along(part, products[part.tensor]).sum(1))
                seen += count
        return {key: torch.stack(each) / seen for key, each in rows.items()}

    def _require_finite(self) -> None:
        """Name a broken weight or statistic before all that it spoils."""
        for name, values in self._tensors.items():
            _finite(values, name)

    def _chunks(self, size: int = _CHUNK) -> Iterator[tuple[Inputs, Any]]:
        """Yield ``size`` images at a time, however they come, the last ones fewer; DataError where there are none."""
        left: Any = None
        empty = True
        for batch in self._batches:
            joined = structures.joined([left, batch]) if left is not None else batch
            count = structures.count(joined[0])
            empty = empty and count == 0
            whole = count // size * size
            for start in range(0, whole, size):
                yield structures.part(joined, start, start + size)
            left = structures.part(joined, whole, count)
        if empty:
            raise DataError(
                "the criterion needs images, and there are none left to read: give it at least one batch, or take one "
                "that looks at the weights alone, such as l1"
            )
        if structures.count(left[0]):
            yield left


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _finite(values: Tensor, name: str) -> Tensor:
    if bad := int((~torch.isfinite(values)).sum()):
        raise ModelError(
            f"{name}: {bad} of {values.numel()} values are NaN or infinite, so channels cannot be compared; look "
            "whether the weights' file is whole, its training did not diverge, and the images are numbers"
        )
    return values


def _require_classes(labels: Tensor, *, classes: int) -> None:
    if len(strange := labels[(labels < 0) | (labels >= classes)]):
        raise DataError(f"an image has label {int(strange[0])}, and the network knows classes 0 to {classes - 1}")
