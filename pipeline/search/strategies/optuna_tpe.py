"""Optuna's tree-structured Parzen estimator: where good plans are dense and bad ones are not (Bergstra et al. 2011).

Multivariate, so that what goes well together is drawn together (Falkner et al., BOHB, 2018).
"""

from __future__ import annotations

from optuna.samplers import TPESampler

from pipeline.search.optuna_sampler import OptunaSearch, first_random
from pipeline.search.strategy import Problem


def create(problem: Problem) -> OptunaSearch:
    """Return the strategy."""
    sampler = TPESampler(seed=problem.seed, n_startup_trials=first_random(problem), multivariate=True)
    return OptunaSearch(problem, sampler)
