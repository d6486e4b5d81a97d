"""Settings of the proposer: what the DQN and its control have in common."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field

from pipeline.search.strategy import StrategySettings

Part = Literal["mask", "goals", "warm_start", "power", "input_statistics"]


class ProposerSettings(StrategySettings):
    """How the next plan is picked."""

    acquisition: Literal["probability", "expected"] = "probability"
    """What the next plan is picked by: probability of improvement, expected improvement."""
    single_cut_share: float = Field(1 / 3, ge=0, le=1)
    """Share of the trials that single cuts may take, which the models begin with; 0: none."""
    ablate: tuple[Part, ...] = Field((), validation_alias=AliasChoices("ablate", "without"))
    """Ablation: parts to leave out. The mask that keeps targets in reach; and of the DQN simulated targets other than
    the wanted one, the knapsack's and the best plans as examples, power in the state, the input's mean and variance
    there, by which conditions of the data are told apart."""
