"""How often do the cost model's 95 % intervals hold what the search picks, one step ahead? On simulated boards.

    python benchmarks/picked_plans.py [--strategy surrogate] [--seeds 10] [--trials 60]

Twelve groups whose true latency is not the sum of its cuts: a part stays, pairs of groups save less together, widths
wave. A measurement differs from process to process, and by noise that it tells the width of; on a busy board both are
larger, and one in thirty is hit by a neighbour that its width does not show. Whatever is surely over the target stops
early. Before each trial the model's interval for it is noted; the strategy picks by the same model, which is what makes
picked plans worse predicted than random ones.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
from _common.toys import problem, trial_of
from numpy.typing import NDArray

from pipeline import plugins
from pipeline.measurement.intervals import NORMAL_95
from pipeline.search.planner import indices
from pipeline.search.strategy_plugin import STRATEGIES

BLOCKS = (1, 2, 0, 1, 2, 1, 0, 2, 1)
LIMIT = 0.5
EARLY = 1.02
"""Over the target by so much as measured, a candidate stops after a quarter of the time."""


@dataclass(frozen=True, slots=True)
class Board:
    """How measurements spread, as shares of the figure."""

    between: float
    within: float
    hit: float = 0.0
    """How much slower one in thirty is."""


BOARDS = {"idle": Board(0.004, 0.004), "usual": Board(0.008, 0.007), "busy": Board(0.016, 0.015, hit=0.06)}


class World:
    """True latencies of plans over the base model's, and what a board says of them."""

    def __init__(self, board: Board, seed: int) -> None:
        self.problem = problem(BLOCKS, seed=seed, limits={"latency": LIMIT * 0.99}, margin=0.01)
        self._line = problem(BLOCKS, seed=seed).costs.tables["latency"]
        self._board, self._rng = board, np.random.default_rng(seed)
        groups = len(self.problem.space.groups)
        self._pairs = self._rng.uniform(0, 0.08, (groups, groups)) * (self._rng.random((groups, groups)) < 0.15)
        self._waves = self._rng.normal(0, 1.5, groups)

    def true(self, levels: NDArray[np.int64]) -> float:
        """Return a plan's latency over the base model's."""
        depth = levels / 4
        line = float(self._line.predict(levels[None])[0])
        return float(0.05 + 0.95 * line + depth @ self._pairs @ depth / 2 + 0.02 * np.sin(self._waves @ levels))

    def measured(self, levels: NDArray[np.int64]) -> tuple[float, float]:
        """Return a measured share and its standard deviation as a measurement tells it."""
        true, board, rng = self.true(levels), self._board, self._rng
        process = true * (1 + rng.normal(0, board.between) + board.hit * (rng.random() < 1 / 30))
        quarter = process * (1 + rng.normal(0, 2 * board.within))
        if quarter * (1 - 3 * 2 * board.within) > LIMIT * EARLY:
            return quarter, 2 * (2 * board.within**2 + board.between**2) ** 0.5 * quarter
        within = board.within * np.sqrt(rng.chisquare(9) / 9)
        return process * (1 + rng.normal(0, board.within)), float(np.hypot(within, board.between)) * process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategy", default="surrogate")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=60)
    args = parser.parse_args()
    for name, board in BOARDS.items():
        off = np.concatenate([_surprises(World(board, seed), args.strategy, args.trials) for seed in range(args.seeds)])
        held, error = np.mean(np.abs(off) < NORMAL_95), np.sqrt(0.05 * 0.95 / len(off))
        print(
            f"{name}: {held:.1%} of {len(off)} picked plans held (a right interval: 95.0 ± {error:.1%}); "
            f"off by {off.mean():+.2f} ± {off.std():.2f} predicted deviations",
            flush=True,
        )


def _surprises(world: World, strategy: str, trials: int) -> NDArray[np.float64]:
    """Return by how many predicted deviations each picked plan was off, single cuts left out, (plans,)."""
    problem = replace(world.problem, trials=trials)
    picks, table, off = plugins.load(STRATEGIES, strategy).create(problem), problem.costs.tables["latency"], []
    for index in range(trials):
        plan = picks.ask()
        levels = np.array(indices(plan))
        expected = float(table.predict(levels[None])[0])
        deviation = float(table.uncertainty(levels[None])[0]) * expected
        share, width = world.measured(levels)
        if np.count_nonzero(levels) > 2:
            off.append((share - expected) / deviation)
        over = max(0.0, share / LIMIT - 1)
        trial = trial_of(problem, index, plan, noise=0.0)
        assert trial.candidate is not None
        reward = trial.candidate.accuracy / problem.base_accuracy - 2 * over
        picks.tell(replace(trial, reward=reward, feasible=over == 0))
        problem.costs.learn(levels.tolist(), {"latency": share}, {"latency": width})
    return np.array(off)


if __name__ == "__main__":
    main()
