"""Does the DQN learn? Toys whose best plan is known, because every plan was gone through; and what each part is worth.

    python benchmarks/learning.py [--seeds 100] [--ablation-seeds 20]

A toy is solved where the best plan asked for has at least 98 % of the best plan's reward; accuracies are given with a
noise of one point. The ablations leave out one part each; power is left out of the state on toys whose reward pays for
power, which does not follow latency there. ± is the standard error over the toys of a line; lines share their toys.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
from _common.results import mean
from _common.toys import QUICK, best_reward, play_for_reward, powered, problem

from pipeline import plugins
from pipeline.search.strategies import purl
from pipeline.search.strategy import Problem, StrategySettings
from pipeline.search.strategy_plugin import STRATEGIES

SOLVED = 0.98
BLOCKS = (1, 2, 1, 0, 1, 2)
"""2,550 plans."""
LIMIT = 0.7
TRIALS = 30
ABLATIONS: dict[str, dict[str, object]] = {
    "whole": {},
    "without the mask": {"ablate": ("mask",)},
    "without simulated episodes": {"first_simulated_episodes": 0, "simulated_episodes": 0},
    "without simulated targets": {"ablate": ("goals",)},
    "without warm start": {"ablate": ("warm_start",)},
    "3-step returns": {"n_step": 3},
}
POWER: dict[str, dict[str, object]] = {"whole": {}, "without power in the state": {"ablate": ("power",)}}


def main() -> None:
    args = _arguments()
    torch.set_num_threads(1)
    start = time.process_time()
    reached: list[float] = []
    for seed in range(args.seeds):
        reached.append(_reached(_toy(seed, QUICK), "dqn"))
        print(f"\r{seed + 1} of {args.seeds}", end="", file=sys.stderr, flush=True)
    print(f"\rdqn: {_line(reached)}; {(time.process_time() - start) / args.seeds:.1f} s CPU a toy", flush=True)
    for name in ("hybrid", "surrogate", "knapsack", "random"):
        others = [_reached(_toy(s, QUICK), name) for s in range(args.ablation_seeds)]
        print(f"{name}: {_line(others)}", flush=True)
    for reward, words in (("every", "every step, each a trial"), ("last", "the last step, an episode a trial")):
        settings = purl.Settings(reward=reward)
        others = [_reached(_toy(s, settings), "purl") for s in range(args.ablation_seeds)]
        print(f"purl, rewarded at {words}: {_line(others)}", flush=True)
    print("\nablations", flush=True)
    for name, changes in ABLATIONS.items():
        print(f"  {name}: {_line(_ablated(changes, args.ablation_seeds, power=False))}", flush=True)
    print("\nablations where power is paid for", flush=True)
    for name, changes in POWER.items():
        print(f"  {name}: {_line(_ablated(changes, args.ablation_seeds, power=True))}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, help="toys for the DQN")
    parser.add_argument("--ablation-seeds", type=int, default=20, help="toys for each line of the ablations")
    return parser.parse_args()


def _ablated(changes: dict[str, object], seeds: int, *, power: bool) -> list[float]:
    reached = []
    for seed in range(seeds):
        toy = _toy(seed, QUICK.model_copy(update=changes))
        reached.append(_reached(powered(toy) if power else toy, "dqn"))
    return reached


def _toy(seed: int, settings: StrategySettings) -> Problem:
    return problem(BLOCKS, seed=seed, trials=TRIALS, settings=settings, limits={"latency": LIMIT})


def _reached(toy: Problem, strategy: str) -> float:
    """Return the best reward asked for within the target over the best that there is."""
    return play_for_reward(toy, plugins.load(STRATEGIES, strategy).create(toy)) / best_reward(toy)


def _line(reached: list[float]) -> str:
    solved = sum(share >= SOLVED for share in reached)
    share = mean(reached, scale=100, digits=1, unit=" %")
    return f"solved {solved} of {len(reached)}; reached {share} of the best reward"


if __name__ == "__main__":
    main()
