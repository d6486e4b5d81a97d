"""Settings of the DQN."""

from __future__ import annotations

from pydantic import AliasChoices, Field

from pipeline.search.proposer_settings import ProposerSettings


class Settings(ProposerSettings):
    """The DQN's own settings; the defaults are what the benchmarks ran with."""

    hidden: int = Field(64, ge=1)
    """Width of the two hidden layers."""
    learning_rate: float = Field(1e-3, gt=0)
    """Adam's."""
    n_step: int = Field(1, ge=1)
    """Rewards summed before the bootstrap."""
    discount: float = Field(1.0, gt=0, le=1)
    """1: the rewards of the steps add up to the reward of the plan."""
    target_rate: float = Field(0.02, gt=0, le=1)
    """Polyak averaging of the target network."""
    batch_size: int = Field(128, ge=1)
    """Transitions an update."""
    replay_plans: int = Field(2000, ge=1)
    """Plans kept for replay; each gives one transition a group."""
    first_simulated_episodes: int = Field(
        2000, ge=0, validation_alias=AliasChoices("first_simulated_episodes", "first_imagined")
    )
    """Episodes simulated on the models before the first plan that the network picks."""
    simulated_episodes: int = Field(2000, ge=0, validation_alias=AliasChoices("simulated_episodes", "imagined"))
    """Simulated episodes in each later burst; 0 learns from measured episodes alone."""
    retrain_growth: float = Field(1.1, ge=1, validation_alias=AliasChoices("retrain_growth", "growth"))
    """The network is trained again when the number of measured plans has grown by this factor since the last time."""
    first_updates: int = Field(300, ge=0)
    """Gradient steps after the first simulated episodes."""
    updates: int = Field(300, ge=0)
    """Gradient steps after each later one; in mode direct after each episode."""
    exploration: float = Field(0.6, ge=0, le=1)
    """Share of random levels in the first simulated episodes; it falls to a quarter."""
    beam: int = Field(30, ge=1)
    """Plans of highest value that are kept while the network plays: width of the beam search; 1: greedy."""
