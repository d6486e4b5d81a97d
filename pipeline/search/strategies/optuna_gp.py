"""Optuna's Gaussian process: the plan of the highest expected improvement (Jones et al. 1998)."""

from __future__ import annotations

from optuna.samplers import GPSampler

from pipeline.search.optuna_sampler import OptunaSearch, first_random
from pipeline.search.strategy import Problem


def create(problem: Problem) -> OptunaSearch:
    """Return the strategy."""
    return OptunaSearch(problem, GPSampler(seed=problem.seed, n_startup_trials=first_random(problem)))
