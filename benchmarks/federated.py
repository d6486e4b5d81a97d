"""What is a federated policy worth beside each site's own, and beside one that learns from everybody's measurements?

    python benchmarks/federated.py [--seeds 5] [--trials 12] [--rounds 10]

Three sites prune the same network, each for a board of its own: one's latency follows the MACs, one's the memory that
layers move, one's falls in steps of 32 channels. Data may differ as well: ``--differ 0.15`` has layers matter by 15 %
more or less at each site.
Boards, latency and accuracy are made up (a plan saves what its layers do; accuracy falls with each cut, more where
cuts meet), so that the best plan of all is known. Each site measures as many plans as any other, by a search of its
own with the strategy ``dqn``; then all take the same number of gradient steps:

local       each goes on alone
federated   federated averaging, by the very functions of ``pipeline federate``; only weights are shared
pooled      one network that learns at all three sites, and each site's model of the accuracy knows all measurements

Then each plans for the target that it searched, and for others that nobody did, as ``pipeline plan`` does: of the
thirty plans that the network values most, the one that the site's models predict to earn most. ``network alone`` is its
greedy plan, for all of these targets. ``newcomer`` is the same at a fourth site, whose board is known and which has
measured no plan; ``nothing`` is a network of its own there, which has learnt as long by what it has.
Figures are the plan's true reward less that of the best plan there is, in points; 0 is best. Mean ± standard error over
the seeds; differences to local are paired by seed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from _common.results import Results, Row, mean, table
from _common.toys import QUICK, Levels, all_plans, problem
from numpy.typing import NDArray

from pipeline.federated.averaging import Update, average
from pipeline.federated.site import LocalTraining
from pipeline.federated.weights import packed, unpacked
from pipeline.predictors.cost_model import CostModel, CostTable, owners, parents
from pipeline.records import LEVELS, Candidate, PruningPlan, SearchSpace, Trial
from pipeline.search.dqn.goal_conditioned import GoalConditionedDqn, train_beside
from pipeline.search.dqn.q_network import one_thread
from pipeline.search.planner import indices
from pipeline.search.proposer import Proposer
from pipeline.search.strategies.dqn import Dqn
from pipeline.search.strategy import Problem
from pipeline.targets import Metric

Array = NDArray[np.float64]

BOARDS = ("MACs", "memory", "steps", "launches")
"""The last one is the newcomer's."""
WANTED, OTHERS = 0.5, (0.35, 0.42, 0.58, 0.65)
_MOST_SAVED = 0.94
_NOISE = 0.01
_BEAM = 30


@dataclass(frozen=True)
class World:
    """A site: its problem, and what is true there."""

    problem: Problem
    damage: Array
    """(groups, levels)."""
    shared: Array
    """By how much two groups' cuts hurt more together, (groups, groups)."""

    @classmethod
    def of(cls, board: str, seed: int, trials: int, differ: float) -> World:
        """Return a site with a board of a kind, where layers matter by so much more or less than elsewhere."""
        toy = problem((1,) * 6, seed=seed, trials=trials, limits={"latency": WANTED})
        space, rng = toy.space, np.random.default_rng([seed, BOARDS.index(board)])
        common = np.random.default_rng(200 + seed)
        depth = np.array([[1 - g.kept.get(level, 0) / g.channels for level in LEVELS] for g in space.groups])
        damage = depth**1.5 * common.uniform(0.1, 2.5, len(depth))[:, None]
        shared = common.uniform(0, 0.4, (len(depth), len(depth)))
        table = CostTable(_savings(board, space), owners(space), parent=parents(space))
        own = replace(toy, costs=CostModel({"latency": table}), seed=100 * seed + BOARDS.index(board))
        return cls(own, damage * np.exp(differ * rng.normal(size=(len(depth), 1))), shared)

    def accuracy(self, levels: Levels) -> Array:
        """Return what plans, (plans, groups), truly answer right."""
        hurt = self.damage[np.arange(len(self.damage)), levels]
        together = np.einsum("...i,...j,ij->...", hurt, hurt, self.shared) / 3
        found: Array = 1 / (1 + np.exp(-(2.5 - hurt.sum(-1) - together)))
        return found

    def reward(self, levels: Levels, limit: float, noise: float = 0.0) -> Array:
        """Return what plans earn towards a target."""
        over = self.problem.costs.tables["latency"].predict(levels) / limit - 1
        accuracy = np.clip(self.accuracy(levels) + noise, 0.0, 1.0) / self.problem.base_accuracy
        earned: Array = accuracy - self.problem.weights.violation * np.where(over > 1e-9, over, 0.0)
        return earned

    def best(self, limit: float) -> float:
        """Return the highest reward that there is."""
        return float(self.reward(all_plans(self.problem), limit).max())

    def trial(self, index: int, plan: PruningPlan, rng: np.random.Generator) -> Trial:
        """Return what measuring a plan here comes to."""
        levels = np.array([indices(plan)])
        noise = float(rng.normal() * _NOISE)
        accuracy = float(np.clip(self.accuracy(levels)[0] + noise, 0.0, 1.0))
        key = self.problem.space.key(plan.levels)
        built = Candidate(key=key, accuracy=accuracy, parameters=1, macs=1, size_bytes=1, probe_bytes=1)
        reward = float(self.reward(levels, WANTED, noise)[0])
        feasible = bool(self.problem.costs.tables["latency"].predict(levels)[0] <= WANTED + 1e-9)
        return Trial(index=index, plan=plan, key=key, candidate=built, reward=reward, feasible=feasible)


def _savings(board: str, space: SearchSpace) -> Array:
    """Return what each group's levels save of a board's latency."""
    groups = space.groups
    gone = np.array([[1 - g.kept[lv] / g.channels if lv in g.kept else np.nan for lv in LEVELS] for g in groups])
    channels = np.array([g.channels for g in groups], dtype=float)
    share = np.ones(len(groups))
    if board == "memory":  # early layers have few channels of many pixels
        share = 1 / channels
    elif board == "steps":
        kept = np.array([[g.kept.get(lv, np.nan) for lv in LEVELS] for g in groups])
        gone = 1 - np.ceil(kept / 32) * 32 / (np.ceil(channels / 32) * 32)[:, None]
        share = np.sqrt(channels)
    elif board == "launches":  # half of a layer's time is there whatever its width
        gone = np.where(gone == 1, 1.0, gone / 2)
    saved: Array = _MOST_SAVED * gone * (share / share.sum())[:, None]
    return saved


# ---------------------------------------------------------------- the three ways to learn


@dataclass(frozen=True)
class Searched:
    """A site after its search."""

    world: World
    policy: bytes
    trials: Sequence[Trial]

    def taught(self) -> Dqn:
        """Return a DQN that knows the site's trials and begins with its policy."""
        strategy = Dqn(replace(self.world.problem, policy=self.policy, settings=QUICK))
        for trial in self.trials:
            strategy.tell(trial)
        return strategy


def search(world: World, seed: int) -> Searched:
    """Return a site whose DQN has measured so many plans as its problem says."""
    strategy, rng, trials = Dqn(replace(world.problem, settings=QUICK)), np.random.default_rng(seed), []
    for index in range(world.problem.trials):
        trials.append(world.trial(index, strategy.ask(), rng))
        strategy.tell(trials[-1])
    return Searched(world, strategy.policy(), trials)


def learn_locally(sites: Sequence[Searched], rounds: int, updates: int) -> list[GoalConditionedDqn]:
    """Return each site's network after so many rounds alone."""
    networks = []
    for site in sites:
        local, policy = LocalTraining.of(site.taught()), site.policy
        for _ in range(rounds):
            policy, _how = local.train(policy, updates)
        networks.append(local.strategy.network)
    return networks


def learn_federated(sites: Sequence[Searched], rounds: int, updates: int) -> list[GoalConditionedDqn]:
    """Return the network of federated averaging, with each site's replay and models."""
    learners = [LocalTraining.of(site.taught()) for site in sites]
    structure, shared = learners[0].structure, sites[0].policy
    for _ in range(rounds):
        before = unpacked(shared, structure)
        sent = [local.train(shared, updates)[0] for local in learners]
        found = [
            Update(site=str(number), weights=unpacked(policy, structure), trials=local.trials)
            for number, (local, policy) in enumerate(zip(learners, sent, strict=True))
        ]
        shared = packed(average(before, found).weights, structure)
    for local in learners:
        local.strategy.network.begin_with(shared)
    return [local.strategy.network for local in learners]


def learn_pooled(sites: Sequence[Searched], rounds: int, updates: int) -> list[GoalConditionedDqn]:
    """Return the shared network, with each site's replay and models, which know the accuracy of all plans."""
    networks: list[GoalConditionedDqn] = []
    proposers: list[Proposer] = []
    for number, site in enumerate(sites):
        proposers.append(Proposer(site.world.problem, QUICK))
        networks.append(GoalConditionedDqn(proposers[-1], QUICK, networks[0] if networks else None))
        for other, their in enumerate(sites):
            for trial in their.trials:
                seen = trial if other == number else replace(trial, reward=None)  # measured on another board
                proposers[-1].tell(seen)
                networks[-1].tell(seen)
    networks[0].begin_with(sites[0].policy)
    with one_thread():
        for proposer in proposers:
            proposer.learn()
        for _ in range(rounds):
            train_beside(networks, updates)
    return networks


LEARN = {"local": learn_locally, "federated": learn_federated, "pooled": learn_pooled}


# ---------------------------------------------------------------- what their plans are worth


def worth(world: World, network: GoalConditionedDqn, limit: float, width: int) -> float:
    """Return the true reward of a network's plan for a target, less the best there is."""
    planner = network.planner
    limits: Mapping[Metric, float] = {"latency": limit}
    with one_thread():
        plans = network.beam_search(width, limits)
        predicted = planner.predicted_reward(plans, limits=limits) - 1e3 * planner.excess(plans, limits)
    return float(world.reward(plans[[predicted.argmax()]], limit)[0]) - world.best(limit)


def judged(world: World, network: GoalConditionedDqn) -> dict[str, float]:
    """Return what a network is worth at a site."""
    return {
        "wanted": worth(world, network, WANTED, _BEAM),
        "others": float(np.mean([worth(world, network, limit, _BEAM) for limit in OTHERS])),
        "alone": float(np.mean([worth(world, network, limit, 1) for limit in (WANTED, *OTHERS)])),
    }


def newcomer(world: World, policy: bytes) -> float:
    """Return what a policy is worth at a fourth site that has measured no plan: its greedy plans for all targets."""
    network = Dqn(replace(world.problem, policy=policy, settings=QUICK)).network
    return float(np.mean([worth(world, network, limit, 1) for limit in (WANTED, *OTHERS)]))


def compare(seed: int, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return what each method comes to with one seed: means over the sites."""
    worlds = [World.of(board, seed, args.trials, args.differ) for board in BOARDS[:-1]]

    sites = [search(world, 10 * seed + number) for number, world in enumerate(worlds)]
    fourth = World.of(BOARDS[-1], seed, args.trials, args.differ)
    found: dict[str, dict[str, float]] = {}
    for method, learn in LEARN.items():
        networks = learn(sites, args.rounds, args.updates)
        found[method] = _mean([judged(world, network) for world, network in zip(worlds, networks, strict=True)])
        policies = dict.fromkeys(network.policy() for network in networks)
        found[method]["newcomer"] = float(np.mean([newcomer(fourth, policy) for policy in policies]))
    knows_nothing = Searched(fourth, Dqn(replace(fourth.problem, settings=QUICK)).policy(), ())
    (network,) = learn_locally([knows_nothing], args.rounds, args.updates)
    found["nothing"] = {"newcomer": newcomer(fourth, network.policy())}
    return found


def _mean(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in each])) for name in each[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=12, help="plans that each site measures")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--updates", type=int, default=100, help="gradient steps of a site in a round")
    parser.add_argument("--differ", type=float, default=0.0, help="by which layers matter more or less at each site")
    parser.add_argument("--out", type=Path, default=Path("federated.jsonl"))
    args = parser.parse_args()
    names = ("trials", "rounds", "updates", "differ")
    results = Results(args.out, {name: str(getattr(args, name)) for name in names})
    rows = []
    for seed in range(args.seeds):
        start, row = time.perf_counter(), results.find(seed=seed)
        rows.append(row or results.append(seed=seed, found=compare(seed, args)))
        print(f"  seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
    _print(rows, args)


def _print(rows: Sequence[Row], args: argparse.Namespace) -> None:
    what = {
        "wanted": f"target {WANTED:g}x",
        "others": "other targets",
        "alone": "network alone",
        "newcomer": "newcomer",
    }
    lines = []
    for method in (*LEARN, "nothing"):
        cells = []
        for name in what:
            found = [row["found"][method].get(name) for row in rows]
            known = [value for value in found if value is not None]
            over = [row["found"][method][name] - row["found"]["local"][name] for row in rows] if known else []
            cells += [mean(known, scale=100), mean(over, scale=100) if any(over) else ""]
        lines.append([method, *cells])
    data = f"data that differ by {args.differ:.0%}" if args.differ else "alike data"
    learning = f"{args.rounds} rounds of {args.updates} updates, {len(rows)} seeds"
    print(f"\n3 sites, {args.trials} measured plans each, {data}, {learning}")
    print("reward of the plan less the best there is, in points, and the difference to local")
    print(table(["", *(cell for name in what.values() for cell in (name, "− local"))], lines))


if __name__ == "__main__":
    main()
