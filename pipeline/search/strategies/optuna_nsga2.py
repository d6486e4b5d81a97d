"""Optuna's NSGA-II by the reward alone: whole generations, elitist selection, uniform crossover (Deb et al. 2002).

Rather than CMA-ES: that fits a normal distribution to real numbers, and a group has two to five levels; Optuna rounds
for it, which at so few levels makes most of its steps none, and it wants another library (cmaes).
"""

from __future__ import annotations

from optuna.samplers import NSGAIISampler

from pipeline.search.optuna_sampler import OptunaSearch
from pipeline.search.strategy import Problem

_GENERATIONS, _SMALLEST, _LARGEST = 6, 4, 50


def create(problem: Problem) -> OptunaSearch:
    """Return the strategy; the population is chosen so that there are a few generations."""
    size = min(_LARGEST, max(_SMALLEST, problem.trials // _GENERATIONS))
    return OptunaSearch(problem, NSGAIISampler(population_size=size, seed=problem.seed))
