"""Settings of the proposer: what the DQN and its control have in common."""

from __future__ import annotations

from typing import Literal

from pipeline.search.strategy import StrategySettings

Part = Literal["mask", "goals", "warm_start", "power"]


class ProposerSettings(StrategySettings):
    """How the next plan is picked."""

    acquisition: Literal["probability", "expected"] = "probability"
    """What the next plan is picked by: probability of improvement, expected improvement."""
    without: tuple[Part, ...] = ()
    """Parts to leave out, to learn what they are worth: the mask that keeps targets in reach; and of the DQN imagined
    targets other than the wanted one, the knapsack's and the best plans as examples, power in the state."""
