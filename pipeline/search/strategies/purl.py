"""PuRL: a DQN that picks thresholds of magnitude and is rewarded after every layer (see ``search.episodes``).

With a target of density it prunes single weights, as the paper does; with any other target whole filters, because zeros
within a layer make no dense runtime faster.
"""

from __future__ import annotations

import numpy as np

from pipeline.config import RunConfig
from pipeline.search.purl.episodes import Environment, Episodes, Settings
from pipeline.search.purl.filter_thresholds import Filters
from pipeline.search.purl.weight_thresholds import SingleWeights
from pipeline.search.strategy import Problem

__all__ = ["SETS_ZEROS", "Settings", "create", "note"]

SETS_ZEROS = True


def note(config: RunConfig) -> str:
    """Return what a user of PuRL has to know: which form this is, and what it does not do."""
    if config.sets_zeros:
        return (
            "PuRL: single weights become zero, layer after layer; each step is a trial, of which an episode's last one "
            "meets the target. Zeros make no dense runtime faster or cooler and no uncompressed file smaller: for "
            "that, --target latency=0.5x cuts channels"
        )
    return (
        "PuRL in its structured form: whole filters go, by a threshold of their norm. PuRL itself sets single weights "
        "to zero, which makes no dense runtime faster; for that, --target density=0.2x"
    )


def create(problem: Problem) -> Episodes:
    """Return the strategy in the form that the target asks for."""
    rng = np.random.default_rng(problem.seed)
    environment: Environment = SingleWeights(problem, rng) if "density" in problem.limits else Filters(problem, rng)
    return Episodes(problem, environment, rng)
