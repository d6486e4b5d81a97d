"""Training progress: the state that a checkpoint holds.

A state holds weights, momentum, the generators' states, the place in the shuffled pass, and what early stopping and the
cycles know; the learning rate is a function of the step and of where cycles end.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from pipeline.training.accelerator import Accelerator
from pipeline.training.checkpoint import State
from pipeline.training.cycles import Cycles
from pipeline.training.feed import Feed, Images, Place
from pipeline.training.patience import Patience
from pipeline.training.settings import FineTuning

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Progress:
    """What a training started from, and what it changes with each step."""

    model: nn.Module
    images: Images
    settings: FineTuning
    on: Accelerator
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    feed: Feed
    patience: Patience
    cycles: Cycles
    averaged: dict[str, Tensor] = field(default_factory=dict)
    """Exponential moving average of parameters and buffers; empty: none is kept."""
    step: int = 0
    """Gradient steps that were taken."""
    earlier_s: float = 0.0
    """Seconds that were spent before the training was begun again."""
    _began: float = field(default_factory=time.monotonic)

    @property
    def spent_s(self) -> float:
        """Seconds that it has taken."""
        return self.earlier_s + time.monotonic() - self._began

    def state(self) -> State:
        """Return everything that the next step depends on."""
        place, patience = self.feed.place(), self.patience
        known = [patience.best, patience.best_step, patience.misses, self.cycles.best] if patience.has_heard else None
        facts = {
            "of": self._identity(), "step": self.step, "taken": place.taken, "passes": place.passes,
            "scaler": self.scaler.state_dict(), "patience": known, "cycles": self.cycles.ends, "spent_s": self.spent_s,
        }  # fmt: skip
        parts = {
            "model": weights_of(self.model), "momentum": self._momentum(), "best": patience.weights,
            "averaged": self.averaged, "draws": self.on.draws(), "feed": {"start": place.start, "now": place.now},
        }  # fmt: skip
        return State(facts, {f"{part}/{name}": t for part, tensors in parts.items() for name, t in tensors.items()})

    def begin_again(self, data: bytes | None) -> int:
        """Go on from a written state; return its step, 0 where there is none or it is of another training."""
        if data is None:
            return 0
        try:
            state = State.from_bytes(data)
            self._require_same(state)
        except ValueError as error:
            _log.warning("the checkpoint is left aside, the training begins anew: %s", error)
            self.feed = feed_of(self.images, self.settings)
            return 0
        self._restore(state)
        return self.step

    def _require_same(self, state: State) -> None:
        """Raise ValueError where the state is of another training; else the feed stands at its place."""
        if state.facts["of"] != self._identity():
            raise ValueError("it is of a training with other settings, images or layers")
        feed = state.under("feed")
        if not self.feed.go_to(Place(feed["start"], feed["now"], state.facts["taken"], state.facts["passes"])):
            raise ValueError("the images are not those of then")

    def _restore(self, state: State) -> None:
        put_weights(state.under("model"), self.model)
        parameters = dict(self.model.named_parameters())
        for name, momentum in state.under("momentum").items():
            place = torch.empty_like(parameters[name])
            self.optimizer.state[parameters[name]]["momentum_buffer"] = place.copy_(momentum)
        self.on.draw_on(state.under("draws"))
        if state.facts["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state.facts["scaler"])
        self.step, self.earlier_s = state.facts["step"], state.facts["spent_s"]
        self.cycles.ends = list(state.facts["cycles"])
        self.averaged = {name: value.to(self.on.device) for name, value in state.under("averaged").items()}
        if state.facts["patience"]:
            patience = self.patience
            patience.best, patience.best_step, patience.misses, self.cycles.best = state.facts["patience"]
            patience.weights = {name: value.to(self.on.device) for name, value in state.under("best").items()}

    def _identity(self) -> dict[str, object]:
        """Return what must be alike for a state to be this training's."""
        return {
            "settings": asdict(self.settings), "images": len(self.images),
            "weights": {name: list(value.shape) for name, value in weights_of(self.model).items()},
        }  # fmt: skip

    def _momentum(self) -> dict[str, Tensor]:
        state = self.optimizer.state
        held = {n: state[p].get("momentum_buffer") for n, p in self.model.named_parameters() if p in state}
        return {name: value for name, value in held.items() if value is not None}


def feed_of(images: Images, settings: FineTuning) -> Feed:
    """Return the batches of a training from its beginning."""
    return Feed(images, settings.batch_size, settings.seed, settings.teacher_views)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers, those too that a state dict leaves out; what is tied is there once."""
    return {name: p.detach() for name, p in model.named_parameters()} | dict(model.named_buffers())


def put_weights(values: dict[str, Tensor], model: nn.Module) -> None:
    """Copy what ``weights_of`` returned into a network, in place."""
    places = weights_of(model)
    for name, value in values.items():
        places[name].copy_(value)
