"""Training of the learned policy: full information, no discount, differences of rightness.

A replay knows what every variant would have answered, so all actions of a frame are learnt at once, on roll-outs of the
present policy at random prices: neither exploration nor a replay memory is needed, and an action changes only what is
known next, which a discount would have to pay for. A mean of several networks of one hidden layer is one network of one
hidden layer, and is shipped as such.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deploy.controller import INPUTS, KEEP, OWN, Learned
from pipeline.adaptation.policies import Keep, RulePolicy, RuleSettings, _Keeps, in_time
from pipeline.adaptation.replay import Ints, Moment, replay
from pipeline.adaptation.streams import Streams

Net = dict[str, NDArray[np.float32]]
Array = NDArray[np.float32]
PRICES = (0.01, 0.02, 0.04, 0.06, 0.09, 0.13, 0.18, 0.25, 0.35, 0.5, 0.8)
"""Of one inference of the plain variant, in probabilities of a right answer."""
HYSTERESIS = 0.015
"""By how much another variant has to be worth more than the one that runs."""
EXPLORED = 0.15
"""Share of frames on which a roll-out acts at random."""
_NETS, _UNITS, _EPOCHS, _BATCH, _RATE = 2, 24, 3, 512, 3e-3
_FEWEST_STEPS = 200
"""However few frames there are, which are then passed over more often."""
_OUTSIDE = 0.25
"""By how much of its range an input may go beyond what training saw."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The learned policy's numbers, as controller.json has them, and how it was trained."""

    numbers: Mapping[str, Any]
    frames: int
    """Learnt from."""

    def learned(self, costs: Sequence[float]) -> Learned:
        """Return it as the controller reads it."""
        return Learned(self.numbers, costs)


class LearnedPolicy:
    """A learned policy at many prices, each with its own keep settings; outside of its inputs' range, a rule."""

    def __init__(
        self, trained: Trained, costs: Sequence[float], prices: Sequence[float], keeps: Sequence[Keep],
        fallback: RuleSettings,
    ) -> None:  # fmt: skip
        """Take a price and a keep setting for each setting."""
        self.settings = len(prices)
        self._net, self._variants = trained.learned(costs), len(costs)
        self._costs, self._prices = np.array(costs), np.array(prices)
        self._keeps, self._rule = _Keeps(keeps), RulePolicy([fallback] * len(prices))
        self._features: Array = np.zeros((0, 0), np.float32)
        self._inside: NDArray[np.bool_] = np.zeros(0, bool)

    def first(self, moment: Moment) -> Ints:
        """Return the variant of the highest worth, KEEP, or what the rule says."""
        memory = moment.memory
        inputs = memory.inputs(moment.difference)
        self._inside = np.asarray(((inputs >= self._net.low) & (inputs <= self._net.high)).all(1))
        self._features = features(inputs, memory.variant, self._variants, self._net.mean, self._net.std)
        price = self._prices[memory.setting]
        rows = np.concatenate([self._features, np.log(price + 0.01)[:, None].astype(np.float32)], 1)
        worth = self._net.first_net(rows) - price[:, None] * self._costs
        running = memory.variant >= 0
        worth[np.flatnonzero(running), memory.variant[running]] += self._net.hysteresis
        variant = np.where(moment.fits, worth, -np.inf).argmax(1)
        found = np.where(self._keeps.allow(memory, moment.difference), KEEP, variant)
        return np.where(self._inside, found, self._rule.first(moment))

    def second(self, moment: Moment, first: Ints, fits: NDArray[np.bool_]) -> Ints:
        """Return the variant whose answer is worth another inference, or the first."""
        by_rule = self._rule.second(moment, first, fits)
        if self._net.second_net is None:
            return np.where(self._inside, first, by_rule)
        rows = np.concatenate([self._features, own(moment, first, self._variants)], 1)
        price = self._prices[moment.memory.setting][:, None]
        worth = np.where(fits, self._net.second_net(rows) - price * self._costs, -np.inf)
        worth[np.arange(len(first)), first] = 0
        return np.where(self._inside, worth.argmax(1), by_rule)


def features(inputs: Array, variant: Ints, variants: int, mean: Array, std: Array) -> Array:
    """Return what both networks are told: inputs on one scale, and which variant answered last."""
    one_hot = np.zeros((len(inputs), variants), np.float32)
    known = variant >= 0
    one_hot[np.flatnonzero(known), variant[known]] = 1
    return np.concatenate([(inputs - mean) / std, one_hot], 1)


def own(moment: Moment, first: Ints, variants: int) -> Array:
    """Return what the second network is told beside: which variant answered, and how sure it was."""
    margin = moment.of(moment.streams.margins, first).astype(np.float64)
    same = moment.of(moment.streams.answers, first) == moment.memory.answer
    rows = np.stack([margin, -np.log(1 - margin + 1e-4) / 5, same], 1).astype(np.float32)
    return np.concatenate([np.eye(variants, dtype=np.float32)[first], rows], 1)


# ---------------------------------------------------------------- training


@dataclass(kw_only=True)
class _Seen:
    """What roll-outs met."""

    inputs: list[Array] = field(default_factory=list)
    variant: list[Ints] = field(default_factory=list)
    right: list[Array] = field(default_factory=list)
    own: list[list[Array]] = field(default_factory=list)
    """For each variant as the first."""


def train(
    streams: Streams, *, reference: int, two_stages: bool, seed: int, rounds: int = 2,
    on_round: Callable[[int], None] = lambda _: None,
) -> Trained:  # fmt: skip
    """Return a policy trained on streams.

    Args:
        streams: of images that no variant was trained on.
        reference: the variant whose rightness others' are compared with.
        two_stages: whether another variant may be asked once one has answered.
        seed: of weights and roll-outs.
        rounds: of roll-outs; the first acts at random.
        on_round: hears which is over.
    """
    random, costs = np.random.default_rng(seed), streams.ladder.costs.tolist()
    seen, trained = _Seen(), None
    for number in range(rounds):
        prices = np.exp(random.uniform(np.log(PRICES[0]), np.log(PRICES[-1]), streams.shape[0]))
        replay(streams, _RollOut(trained, costs, prices, seen, random))
        trained = _fitted(seen, costs, reference, two_stages, seed + 100 * number, random)
        on_round(number + 1)
    assert trained is not None
    return trained


class _RollOut:
    """The present policy, every stream at a price of its own, some frames at random; notes what it meets."""

    settings = 1

    def __init__(
        self, trained: Trained | None, costs: Sequence[float], prices: NDArray[np.float64], seen: _Seen,
        random: np.random.Generator,
    ) -> None:  # fmt: skip
        self._random, self._seen, self._variants = random, seen, len(costs)
        self._net = None if trained is None else trained.learned(costs)
        self._costs, self._prices = np.array(costs), prices
        self._features: Array = np.zeros((0, 0), np.float32)

    def first(self, moment: Moment) -> Ints:
        memory = moment.memory
        inputs = memory.inputs(moment.difference)
        if moment.at % 2 == 0:
            self._note(moment, inputs)
        drawn = self._random.integers(0, self._variants, len(inputs))
        if self._net is None:
            return in_time(drawn, moment.fits)
        self._features = features(inputs, memory.variant, self._variants, self._net.mean, self._net.std)
        rows = np.concatenate([self._features, np.log(self._prices + 0.01)[:, None].astype(np.float32)], 1)
        worth = self._net.first_net(rows) - self._prices[:, None] * self._costs
        best = np.where(moment.fits, worth, -np.inf).argmax(1)
        return np.where(self._random.random(len(best)) < EXPLORED, in_time(drawn, moment.fits), best)

    def second(self, moment: Moment, first: Ints, fits: NDArray[np.bool_]) -> Ints:
        if self._net is None or self._net.second_net is None:
            return first
        rows = np.concatenate([self._features, own(moment, first, self._variants)], 1)
        worth = np.where(fits, self._net.second_net(rows) - self._prices[:, None] * self._costs, -np.inf)
        worth[np.arange(len(first)), first] = 0
        return np.asarray(worth.argmax(1))

    def _note(self, moment: Moment, inputs: Array) -> None:
        memory, seen = moment.memory, self._seen
        seen.inputs.append(inputs)
        seen.variant.append(memory.variant.copy())
        seen.right.append(moment.streams.right[memory.stream, moment.at].astype(np.float32))
        count = len(inputs)
        seen.own.append([own(moment, np.full(count, variant), self._variants) for variant in range(self._variants)])


def _fitted(
    seen: _Seen, costs: Sequence[float], reference: int, two_stages: bool, seed: int, random: np.random.Generator
) -> Trained:
    inputs, right = np.concatenate(seen.inputs), np.concatenate(seen.right)
    variants, count = len(costs), len(inputs)
    mean, std = inputs.mean(0), inputs.std(0) + np.float32(1e-3)
    rows = features(inputs, np.concatenate(seen.variant), variants, mean, std)
    price = np.exp(random.uniform(np.log(PRICES[0]), np.log(PRICES[-1]), count)).astype(np.float32)[:, None]
    gains, second = np.zeros((count, variants), np.float32), None
    if two_stages:
        owns = [np.concatenate([part[variant] for part in seen.own]) for variant in range(variants)]
        drawn = random.integers(0, variants, count)
        chosen = np.stack(owns)[drawn, np.arange(count)]
        own_right = right[np.arange(count), drawn][:, None]
        second = _fit(np.concatenate([rows, chosen], 1), right - own_right, seed)
        for variant in range(variants):
            worth = _answers(second, np.concatenate([rows, owns[variant]], 1)) - price * np.array(costs, np.float32)
            worth[:, variant] = 0
            gains[:, variant] = worth.max(1)
    better = right - right[:, reference : reference + 1]
    first = _fit(np.concatenate([rows, np.log(price + np.float32(0.01))], 1), better + gains, seed + 1)
    low, high = np.quantile(inputs, (0.001, 0.999), axis=0)
    room = _OUTSIDE * (high - low)
    numbers = {
        "inputs": list(INPUTS), "own": list(OWN), "mean": _plain(mean), "std": _plain(std), "low": _plain(low - room),
        "high": _plain(high + room), "first": _as_json(first), "second": None if second is None else _as_json(second),
        "hysteresis": HYSTERESIS,
    }  # fmt: skip
    return Trained(numbers=numbers, frames=count)


def _fit(inputs: Array, targets: Array, seed: int) -> Net:
    """Return the mean of several networks, each trained by squared error, as one network."""
    nets = [_fit_one(torch.from_numpy(inputs), torch.from_numpy(targets), seed + 7 * i) for i in range(_NETS)]
    return {
        "hidden": np.concatenate([net["hidden"] for net in nets], 1),
        "bias": np.concatenate([net["bias"] for net in nets]),
        "out": np.concatenate([net["out"] for net in nets]).astype(np.float32) / np.float32(_NETS),
        "last": np.mean([net["last"] for net in nets], 0, dtype=np.float32),
    }


def _fit_one(inputs: torch.Tensor, targets: torch.Tensor, seed: int) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hidden, out = torch.nn.Linear(inputs.shape[1], _UNITS), torch.nn.Linear(_UNITS, targets.shape[1])
        network = torch.nn.Sequential(hidden, torch.nn.ReLU(), out)
        optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=1e-3)
        a_pass = -(-len(inputs) // _BATCH)
        passes = max(_EPOCHS, -(-_FEWEST_STEPS // a_pass))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=passes * a_pass)
        for _ in range(passes):
            for batch in torch.split(torch.randperm(len(inputs)), _BATCH):
                loss = torch.nn.functional.mse_loss(network(inputs[batch]), targets[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    weights = {"hidden": hidden.weight.T, "bias": hidden.bias, "out": out.weight.T, "last": out.bias}
    return {name: value.detach().numpy().copy() for name, value in weights.items()}


def _answers(net: Net, inputs: Array) -> Array:
    found: Array = np.maximum(inputs @ net["hidden"] + net["bias"], 0) @ net["out"] + net["last"]
    return found


def _as_json(net: Net) -> dict[str, Any]:
    return {name: _plain(values) for name, values in net.items()}


def _plain(values: NDArray[Any]) -> list[Any]:
    """Return numbers with the digits that a float32 has."""
    found: list[Any] = np.array([float(f"{value:.7g}") for value in values.ravel()]).reshape(values.shape).tolist()
    return found
