"""Goal-conditioned Q-network on simulated episodes: trained in bursts, played greedily, exploring, or by beam search.

A real evaluation costs seconds, a simulated one microseconds. So plans that come back measured refit two models
(accuracy: a Gaussian process; cost: the board's tables), and the network plays bursts of episodes against them. The
target is an input, so one network plays for all of them.

    Sutton 1990 (Dyna: simulated episodes), Schaul et al. 2015 (universal value functions: the target as an input),
    van Hasselt et al. 2016 (double Q-learning), Ng et al. 1999 (potential-based rewards)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load

from pipeline.errors import ConfigError
from pipeline.models.safetensors_io import about_of, tensors_bytes
from pipeline.records import LEVELS, Trial
from pipeline.records.learning import Burst
from pipeline.search.dqn.policy_file import GROUPS, groups_text
from pipeline.search.dqn.q_network import Learner
from pipeline.search.dqn.replay_buffer import Replay
from pipeline.search.dqn.settings import Settings
from pipeline.search.planner import Array, Indices, Limits, Planner, indices
from pipeline.search.proposer import Proposer
from pipeline.search.random_plans import draw

_PARALLEL = 1000
"""Episodes that are simulated side by side."""
_TARGETS = (0.35, 0.95)
"""Simulated targets are drawn between these shares of the base model's figure."""
_NEIGHBOURS = (-0.2, 1.2)
"""And about the wanted one: in units of what plans may be predicted to miss it by."""
_PROBED = 256
"""States whose values are followed."""
_COOLING = 8
"""Bursts over which exploration falls to a quarter."""


class GoalConditionedDqn:
    """A Q-network, its replay, and the models that it plays against."""

    def __init__(self, proposer: Proposer, settings: Settings, beside: GoalConditionedDqn | None = None) -> None:
        """Build network and replay over the models of ``proposer``; nothing is trained yet.

        Args:
            proposer: under one condition of the data.
            settings: of network and training.
            beside: under another condition, whose network this one shares: the state tells which it is.
        """
        self.settings, self._proposer, self._planner = settings, proposer, proposer.planner
        self._rng = proposer.rng
        size = self._planner.observation_size
        self._learner: Learner = (
            Learner(size, settings, self._planner.problem.seed) if beside is None else beside._learner
        )
        self.replay = Replay(self._planner, settings)
        self._bursts, self._measured_before = 0, 0
        self.learnt: list[Burst] = []
        """What stood after each burst."""
        self._probed: Array | None = None
        """States whose values are followed from burst to burst."""
        if self._planner.problem.policy is not None and beside is None:
            self.begin_with(self._planner.problem.policy)

    def tell(self, trial: Trial) -> None:
        """Take in a measured plan; one that failed teaches nothing."""
        if trial.candidate is not None and trial.reward is not None:
            self.replay.add_measured(indices(trial.plan), trial.reward, is_feasible=trial.feasible)

    @property
    def planner(self) -> Planner:
        """The rules by which it plays, and its models."""
        return self._planner

    # ------------------------------------------------------------ learn

    def is_due(self) -> bool:
        """Return whether enough was measured since the last burst that another one has something to learn."""
        return self._bursts == 0 or len(self.replay.measured) >= self.settings.retrain_growth * self._measured_before

    def train(self) -> None:
        """Play a burst of episodes against the models, then learn from them."""
        train_beside([self])

    def play(self, share: float = 1.0) -> None:
        """Put a burst of episodes into the replay, played against the models as they are now.

        Args:
            share: of the episodes that the settings say.
        """
        settings = self.settings
        first = self._bursts == 0
        if first and settings.first_simulated_episodes:
            self._add_episodes(round(share * settings.first_simulated_episodes) // 2, at_random=True)
        episodes = settings.first_simulated_episodes // 2 if first else settings.simulated_episodes
        self.simulate(round(share * episodes))
        if "warm_start" not in settings.ablate:
            examples = np.concatenate([self._proposer.knapsack(), self._proposer.mutate_incumbents()])
            self.replay.add(examples, self.replay.goals(len(examples)))
        if len(self.replay.plans) == 0:  # nothing simulated, nothing measured
            self._add_episodes(_PARALLEL, at_random=True)
        self.replay.label()

    @property
    def updates_due(self) -> int:
        """Gradient steps of the burst that is due."""
        return self.settings.updates if self._bursts else self.settings.first_updates

    def end_burst(self, losses: Sequence[float]) -> None:
        """Note what stands after a burst, by the losses of its steps."""
        self._note(losses)
        self._bursts, self._measured_before = self._bursts + 1, max(1, len(self.replay.measured))

    def simulate(self, episodes: int) -> None:
        """Play episodes against the models, with fewer random levels as the search goes on."""
        for start in range(0, episodes, _PARALLEL):
            self._add_episodes(min(_PARALLEL, episodes - start), self._exploration)

    def update(self, times: int) -> list[float]:
        """Take gradient steps on what the replay holds; return their losses."""
        return [self._learner.update(self.replay.sample(self._rng)) for _ in range(times)]

    @property
    def _exploration(self) -> float:
        """Share of random levels in the episodes that are played now."""
        return self.settings.exploration * (1 - 0.75 * min(1.0, self._bursts / _COOLING))

    def _note(self, losses: Sequence[float]) -> None:
        """Remember what stands after a burst."""
        if self._probed is None:
            drawn = np.random.default_rng(self._planner.problem.seed)
            self._probed = self.replay.states(_PROBED, drawn)
        self.learnt.append(
            Burst(
                trial=len(self.replay.measured),
                updates=(self.learnt[-1].updates if self.learnt else 0) + len(losses),
                loss=float(np.mean(losses[len(losses) // 2 :])) if losses else 0.0,
                value=float(self._learner.values(self._probed).max(1).mean()),
                exploration=self._exploration,
            )
        )

    # ------------------------------------------------------------ kept

    def policy(self) -> bytes:
        """Return the network as a safetensors file, with the groups of layers that it decides on."""
        return tensors_bytes(self._learner.weights(), {GROUPS: self._groups()})

    def _groups(self) -> str:
        return groups_text([group.name for group in self._planner.problem.space.groups])

    def begin_with(self, policy: bytes) -> None:
        """Go on with another network: of a run of before, or of a federation.

        Raises:
            ConfigError: it decides on other groups of layers, or is of another shape.
        """
        if about_of(policy).get(GROUPS) != self._groups():
            raise ConfigError(
                "warm_start: that run's policy decides on other groups of layers; name a run of the same architecture, "
                "with the same pruning settings, or leave it out"
            )
        try:
            self._learner.load(load(policy))
        except (RuntimeError, SafetensorError) as error:
            raise ConfigError(
                "warm_start: that run's policy is of another shape; its run had other strategy_options (hidden), or is "
                "of another version"
            ) from error

    def _add_episodes(self, plans: int, epsilon: float = 1.0, *, at_random: bool = False) -> None:
        """Put episodes into the replay: the network's, or plans drawn at random."""
        goals = self._goals(plans)
        limits = self.replay.limits(goals)
        played = draw(self._planner, plans, self._rng, limits) if at_random else self.rollout(plans, limits, epsilon)
        self.replay.add(played, goals)

    def _goals(self, plans: int) -> Array:
        """Return targets to simulate plans for: every other one about the wanted one, the others anywhere."""
        goals = self.replay.goals(plans)
        if "goals" not in self.settings.ablate:
            goals[::2] *= 1 + self._rng.uniform(*_NEIGHBOURS, (len(goals[::2]), 1)) * (self._planner.slack - 1)
            goals[1::2] = self._rng.uniform(*_TARGETS, goals[1::2].shape)
        return goals

    # ------------------------------------------------------------ act

    def rollout(
        self,
        plans: int,
        limits: Limits | None = None,
        epsilon: float | Array = 0.0,
        temperature: float | Array = 0.0,
    ) -> Indices:
        """Return plans played by the network, (plans, groups); settings are one for all plans, or (plans,).

        Args:
            limits: the targets; None: the problem's.
            epsilon: share of the levels that are drawn at random.
            temperature: of Boltzmann's draws among the others, by Gumbel's trick; 0 is greedy.
        """
        levels = self._planner.empty_plans(plans)
        epsilon, temperature = np.reshape(epsilon, (-1, 1)), np.reshape(temperature, (-1, 1))
        for step in range(self._planner.groups):
            mask = self._planner.mask(levels, step, limits)
            values: Array = self._learner.values(self._planner.observe(levels, step, limits=limits)).astype(float)
            if temperature.any():
                values = values + temperature * self._rng.gumbel(size=values.shape)
            if epsilon.any():
                noise = self._rng.random((plans, len(LEVELS)))
                values = np.where(self._rng.random((plans, 1)) < epsilon, noise, values)
            levels[:, step] = np.where(mask, values, -np.inf).argmax(1)
        return levels

    def beam_search(self, width: int, limits: Limits) -> Indices:
        """Return the plans of highest value, at most ``width``, (plans, groups): beam search on the Q-values.

        A beginning of a plan is worth what its steps have earned, which is its potential, and the value of the step
        that follows. Width 1 is the greedy plan.

        Args:
            limits: the targets, one for all plans.
        """
        planner, levels = self._planner, self._planner.empty_plans(1)
        for step in range(planner.groups):
            predicted = planner.predictions(levels, limits)
            values = self._learner.values(planner.observe(levels, step, predicted, limits)).astype(float)
            worth = planner.potential(levels, predicted)[:, None] + values
            worth = np.where(planner.mask(levels, step, limits), worth, -np.inf)
            best = worth.argsort(axis=None)[::-1][: min(width, int(np.isfinite(worth).sum()))]
            rows, chosen = np.divmod(best, worth.shape[1])
            levels = levels[rows]
            levels[:, step] = chosen
        return levels


def train_beside(networks: Sequence[GoalConditionedDqn], updates: int | None = None) -> None:
    """Train the network that several conditions of the data share, a burst; of one alone, its own.

    Each condition plays its share of the episodes, and the gradient steps are taken in turns from each one's replay.

    Args:
        updates: gradient steps of the burst; None: as the settings say.
    """
    for one in networks:
        one.play(1 / len(networks))
    losses: list[list[float]] = [[] for _ in networks]
    due = networks[0].updates_due if updates is None else updates
    turns = due if len(networks) > 1 else 1
    for _ in range(turns):
        for one, own in zip(networks, losses, strict=True):
            own += one.update(due // turns)
    for one, own in zip(networks, losses, strict=True):
        one.end_burst(own)


def learnt_beside(networks: Sequence[GoalConditionedDqn]) -> tuple[Burst, ...]:
    """Return what stood after each burst of the shared network: means over the conditions, steps of all of them."""
    return tuple(
        Burst(
            trial=bursts[0].trial,
            updates=sum(one.updates for one in bursts),
            loss=float(np.mean([one.loss for one in bursts])),
            value=float(np.mean([one.value for one in bursts])),
            exploration=bursts[0].exploration,
        )
        for bursts in zip(*(one.learnt for one in networks), strict=True)
    )
