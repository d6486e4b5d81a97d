"""Toy problems whose best plan is known, because every plan can be gone through."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.predictors.cost_model import CostModel, CostTable, owners, parents, size_savings, whole_blocks
from pipeline.predictors.cost_model import within as nesting
from pipeline.records import LEVELS, Candidate, Group, PruningPlan, SearchSpace, Trial
from pipeline.search.dqn.settings import Settings
from pipeline.search.reward import Weights
from pipeline.search.strategy import Problem, Strategy
from pipeline.targets import Metric

Levels = NDArray[np.int64]

QUICK = Settings(
    hidden=64, first_simulated_episodes=600, simulated_episodes=300, first_updates=150, updates=60, replay_plans=600
)
"""A small DQN: a toy needs no more, and a test no longer."""


def groups(blocks: Sequence[int], *, step: int = 16) -> tuple[Group, ...]:
    """Groups in blocks: a positive number is a removable block of so many groups, 0 a group without a bypass."""
    made = []
    for number, size in enumerate(blocks):
        channels = (16, 32, 64)[number % 3]
        kept = {0: channels}
        for level in LEVELS[1:-1]:
            count = -(-channels * (100 - level) // (100 * step)) * step
            if count not in kept.values():
                kept[level] = count
        for inner in range(max(1, size)):
            made.append(Group(
                name=f"block{number}.conv{inner}", layers=(f"block{number}.conv{inner}",), channels=channels,
                kept=kept | ({100: 0} if size else {}), macs=4_700_000, parameters=channels * channels * 18,
                bypass=f"add{number}" if size else None,
            ))  # fmt: skip
    return tuple(made)


def problem(
    blocks: Sequence[int] = (1,) * 6, *, within: Mapping[int, int] | None = None,
    limits: Mapping[Metric, float] | None = None, seed: int = 0, **changes: Any,
) -> Problem:  # fmt: skip
    """A problem over such blocks whose latency savings are additive and uneven.

    Args:
        within: a block that lies within another → that one, which stands before it.
    """
    made = groups(blocks)
    space = SearchSpace(
        groups=made, refused={}, macs=42_000_000, parameters=270_000, step=16, blocks=_nested(made, within or {}),
        layer_parameters={g.name: g.parameters for g in made} if within else {},
    )  # fmt: skip
    owner, parent, rng = owners(space), parents(space), np.random.default_rng(100 + seed)
    share = 0.94 / len(made) * rng.uniform(0.8, 1.2, len(made))
    savings = np.array([
        [(1 - g.kept[lv] / g.channels) * s if lv in g.kept else np.nan for lv in LEVELS]
        for g, s in zip(made, share, strict=True)
    ])  # fmt: skip
    for i, first in enumerate(owner):
        if first != i:  # the block's first group carries the block
            savings[first, -1] += savings[i, -1]
    for inner in sorted(nesting(owner, parent), reverse=True):
        savings[parent[inner], -1] += savings[inner, -1]
    n = len(made)
    fields: dict[str, Any] = {
        "space": space,
        "costs": CostModel({
            "latency": CostTable(savings, owner, parent=parent),
            "size": CostTable(size_savings(space), owner, parent=parent),
        }),
        "limits": {"latency": 0.5} if limits is None else limits,
        "weights": Weights([1.0] * n, [0.0] * n, [0.0] * n, [0.0] * n, latency=0.0, violation=2.0),
        "base_accuracy": 0.92, "images": 1000, "input_mean": (0.0,), "input_variance": (1.0,), "temperature_c": None,
        "criterion": "l1", "trials": 24, "seed": seed, "settings": QUICK,
    }  # fmt: skip
    return Problem(**{**fields, **changes})


def _nested(made: Sequence[Group], within: Mapping[int, int]) -> dict[str, tuple[str, ...]]:
    """Return each block's layers, with those of the blocks within it."""
    layers: dict[str, set[str]] = {}
    for group in made:
        if group.bypass is not None:
            layers.setdefault(group.bypass, set()).update(group.layers)
    for inner in sorted(within, reverse=True):
        layers[f"add{within[inner]}"] |= layers[f"add{inner}"]
    return {block: tuple(sorted(own)) for block, own in layers.items()} if within else {}


def truth(toy: Problem) -> Callable[[Levels], NDArray[np.float64]]:
    """The accuracy of plans, (plans, groups) → (plans,): each group has its own damage, and some share theirs."""
    rng = np.random.default_rng(200 + toy.seed)
    made = toy.space.groups
    depth = np.array([[1 - g.kept.get(lv, 0) / g.channels for lv in LEVELS] for g in made])
    damage = depth**1.5 * rng.uniform(0.1, 2.5, len(made))[:, None]
    shared = rng.uniform(0, 0.4, (len(made), len(made)))

    def accuracy(levels: Levels) -> NDArray[np.float64]:
        hurt = damage[np.arange(len(made)), levels]
        logit = 2.5 - hurt.sum(-1) - np.einsum("...i,...j,ij->...", hurt, hurt, shared) / 3
        return np.asarray(1 / (1 + np.exp(-logit)), np.float64)

    return accuracy


def all_plans(toy: Problem) -> Levels:
    """Every plan in which removed blocks are removed whole, (plans, groups)."""
    legal = [[LEVELS.index(lv) for lv in g.levels] for g in toy.space.groups]
    plans = np.array(list(itertools.product(*legal)))
    owner, parent = owners(toy.space), parents(toy.space)
    whole = (whole_blocks(plans, owner, parent) == plans).all(1)
    is_possible = whole & ((plans == 4) <= (plans[:, owner] == 4)).all(1)
    return np.asarray(plans[is_possible])


def optimum(toy: Problem) -> float:
    """The best accuracy within the latency limit."""
    plans = all_plans(toy)
    within = toy.costs.tables["latency"].predict(plans) <= toy.limits.get("latency", np.inf) + 1e-9
    return float(truth(toy)(plans[within]).max())


def powered(toy: Problem) -> Problem:
    """The same toy with a power sensor and a reward that pays for power, which goes its own way."""
    rng, latency = np.random.default_rng(300 + toy.seed), toy.costs.tables["latency"]
    savings = latency.savings * rng.uniform(0.1, 1.2, len(latency.savings))[:, None]
    n = len(toy.space.groups)
    return replace(
        toy,
        costs=CostModel({**toy.costs.tables, "power": CostTable(savings, latency.owner, parent=latency.parent)}),
        weights=Weights([1.0] * n, [1.0] * n, [0.0] * n, [0.0] * n, latency=0.0, violation=2.0),
    )


def rewards(toy: Problem, levels: Levels, noise: float = 0.0) -> NDArray[np.float64]:
    """What plans, (plans, groups), earn in the toy world, (plans,)."""
    value = np.clip(truth(toy)(levels) + noise, 0.0, 1.0) / toy.base_accuracy
    costs = toy.costs.predict(levels)
    if "power" in costs:
        value = value - toy.weights.beta[0] * costs["power"]
    return np.asarray(value - toy.weights.violation * _over(toy, levels))


def best_reward(toy: Problem) -> float:
    """What the best plan within the target earns above accuracy 0 at the power of the base."""
    plans = all_plans(toy)
    return float(rewards(toy, plans[_over(toy, plans) == 0]).max()) + toy.weights.beta[0]


def play_for_reward(toy: Problem, strategy: Strategy) -> float:
    """Ask and tell so often as there are trials; return the best true reward within the target, as ``best_reward``.

    The strategy's cost model learns what was measured, as in a run; afterwards it has forgotten that.
    """
    world, rng, best = _world(toy), np.random.default_rng(toy.seed), -toy.weights.beta[0]
    for index in range(toy.trials):
        plan = strategy.ask()
        levels = np.array([[LEVELS.index(lv) for lv in plan.levels]])
        noise = rng.normal() * 0.01
        strategy.tell(replace(trial_of(world, index, plan, noise), reward=float(rewards(world, levels, noise)[0])))
        _learn(toy, world, levels)
        if _over(world, levels)[0] == 0:
            best = max(best, float(rewards(world, levels)[0]))
    _forget(toy, world)
    return best + toy.weights.beta[0]


def _world(toy: Problem) -> Problem:
    """The same toy with costs that stay as they are: what is measured."""
    return replace(toy, costs=copy.deepcopy(toy.costs))


def _learn(toy: Problem, world: Problem, levels: Levels) -> None:
    measured = {metric: float(values[0]) for metric, values in world.costs.predict(levels).items()}
    toy.costs.learn(levels[0].tolist(), measured)


def _forget(toy: Problem, world: Problem) -> None:
    for metric, table in toy.costs.tables.items():
        table.correction = world.costs.tables[metric].correction


def _over(toy: Problem, levels: Levels) -> NDArray[np.float64]:
    over = toy.costs.tables["latency"].predict(levels) / toy.limits.get("latency", np.inf) - 1
    return np.where(over > 1e-9, over, 0.0)


def trial_of(toy: Problem, index: int, plan: PruningPlan, noise: float = 0.0) -> Trial:
    """What the toy world answers to a plan."""
    levels = np.array([LEVELS.index(lv) for lv in plan.levels])
    accuracy = float(np.clip(truth(toy)(levels) + noise, 0.0, 1.0))
    latency = float(toy.costs.tables["latency"].predict(levels[None])[0])
    over = max(0.0, latency / toy.limits["latency"] - 1) if "latency" in toy.limits else 0.0
    key = toy.space.key(plan.levels)
    built = Candidate(key=key, accuracy=accuracy, parameters=12_000, macs=400_000, size_bytes=50_000, probe_bytes=420)
    return Trial(
        index=index, plan=plan, key=key, candidate=built,
        reward=accuracy / toy.base_accuracy - 2 * over, feasible=over < 1e-9, terms={"violation": -2 * over},
    )  # fmt: skip


def play(toy: Problem, strategy: Strategy) -> tuple[list[PruningPlan], float]:
    """Ask and tell so often as there are trials; return the plans and the best true accuracy within the limit."""
    world, rng, plans, best = _world(toy), np.random.default_rng(toy.seed), [], 0.0
    for index in range(toy.trials):
        plans.append(strategy.ask())
        strategy.tell(trial_of(world, index, plans[-1], noise=rng.normal() * 0.01))
        _learn(toy, world, np.array([[LEVELS.index(lv) for lv in plans[-1].levels]]))
        clean = trial_of(world, index, plans[-1])
        if clean.feasible and clean.candidate is not None:
            best = max(best, clean.candidate.accuracy)
    _forget(toy, world)
    return plans, best
