"""How fast does the DQN simulate? Episodes played against the models, and updates, on one core of this machine.

    python benchmarks/simulated_episodes.py [--groups 12] [--episodes 10000]

The space is made up: blocks of one group that can be removed, latency as savings that add up, the accuracy model fitted
to 60 plans. CPU seconds are reported beside wall seconds, because a busy machine stretches the latter.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from _common.toys import problem, trial_of

from pipeline.search.dqn.settings import Settings
from pipeline.search.strategies.dqn import Dqn
from pipeline.search.strategies.random import RandomSearch

MEASURED = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=12)
    parser.add_argument("--episodes", type=int, default=10_000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    strategy = _taught(args.groups)
    settings = strategy.settings
    _timed(f"{args.episodes} simulated episodes", lambda: strategy.network.simulate(args.episodes))
    _timed(f"{len(strategy.network.replay.plans)} plans of the replay labelled anew", strategy.network.replay.label)
    _timed(f"{settings.updates} updates of {settings.batch_size}", lambda: strategy.network.update(settings.updates))


def _taught(groups: int) -> Dqn:
    """Return a DQN that has measured random plans; its network is hardly trained, which takes no part in time."""
    toy = problem((1,) * groups, trials=2, settings=Settings(first_simulated_episodes=2 * MEASURED, first_updates=1))
    strategy, drawn = Dqn(toy), RandomSearch(toy)
    for index in range(MEASURED):
        strategy.tell(trial_of(toy, index, drawn.ask()))
    strategy.ask()  # fits the models
    return strategy


def _timed(what: str, work: Callable[[], object]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    print(f"{what}: {time.perf_counter() - wall:.2f} s, of that {time.process_time() - cpu:.2f} s on the CPU")


if __name__ == "__main__":
    main()
