"""Settings of the DQN."""

from __future__ import annotations

from pydantic import Field

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
    first_imagined: int = Field(2000, ge=0)
    """Imagined episodes before the first plan that the network picks."""
    imagined: int = Field(2000, ge=0)
    """Imagined episodes in each later burst; 0 learns from measured episodes alone."""
    growth: float = Field(1.25, ge=1)
    """A burst is due when so many times as many plans are measured as were at the last one."""
    first_updates: int = Field(300, ge=0)
    """Gradient steps after the first imagination."""
    updates: int = Field(150, ge=0)
    """Gradient steps after each later one; in mode direct after each episode."""
    exploration: float = Field(0.6, ge=0, le=1)
    """Share of random levels in the first imagined episodes; it falls to a quarter."""
