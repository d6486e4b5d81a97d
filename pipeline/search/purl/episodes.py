"""PuRL's episodes: a DQN goes through a network once, picks a threshold at each step, and each step is a trial.

Gupta et al., Learning to Prune Deep Neural Networks via Reinforcement Learning, 2020 (arXiv 2007.04756; no code of
theirs is public, so that what the paper leaves open is chosen here).

- State: how far the episode is, the accuracy after the last step, how much of the wanted saving is reached.
- Action: one of 23 thresholds of magnitude; what a threshold means is the ``Environment``'s to say.
- Reward at every step: −β · (max(1 − A/T_A, 0) + max(1 − P/T_P, 0)), with the accuracy A after the step and T_A the
  base model's, with P what is saved so far and T_P what the target asks.

The accuracy after every step is what this costs: each plan on the way is an evaluation of its own, and most of them
are over the target by design; only an episode's last step meets it. Where the trials would not do for five episodes,
neighbouring places share a step and a threshold. Plans seen before are not evaluated again, and what no whole episode
fits into at the end goes to neighbours of the best plan.

With ``reward: last`` only the last step is rewarded, and only its plan is a trial: what the paper compares itself with.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from pipeline.records import PruningPlan, Trial
from pipeline.search.dqn.q_network import one_thread
from pipeline.search.planner import Array
from pipeline.search.strategy import Problem, StrategySettings, settings_of

ACTIONS = 23
BETA = 5.0
_LEAST_EPSILON = 0.05
_BATCH, _POLYAK = 32, 0.05
_STALE = 10
"""Episodes in a row that lead to nothing new, each with more random thresholds, until chance helps."""


class Settings(StrategySettings):
    """PuRL's own settings."""

    episodes: int = Field(5, ge=1)
    """Episodes for which the trials have to do; else neighbouring layers share a step."""
    exploration: float = Field(0.6, gt=0, le=1)
    """Share of the trials in which random thresholds become rare."""
    discount: float = Field(0.99, gt=0, le=1)
    """Of the rewards of later steps."""
    learning_rate: float = Field(3e-3, gt=0)
    """Adam's."""
    updates: int = Field(20, ge=0)
    """Gradient steps before each trial."""
    reward: Literal["every", "last"] = "every"
    """Which steps of an episode are rewarded: every one, each a trial; or the last, an episode a trial."""


Choices = tuple[int, ...]
"""A plan, as a number for each place; 0 everywhere prunes nothing."""


class Environment(Protocol):
    """What is pruned: the places that an episode goes through, and what a threshold does to them."""

    @property
    def places(self) -> int:
        """How many there are."""
        ...

    @property
    def first_action(self) -> int | None:
        """The action that the first episode takes at every step; None: it takes random ones."""
        ...

    def apply_threshold(self, before: Choices, places: Sequence[int], action: int) -> Choices:
        """Return the plan once a threshold is taken at these places, or the nearest that leaves the target in reach."""
        ...

    def saving_reached(self, plans: Sequence[Choices]) -> Array:
        """Return how much of the wanted saving plans reach, (plans,); 1: they meet the target."""
        ...

    def meets(self, choices: Choices) -> bool:
        """Return whether a plan meets the target, as planned."""
        ...

    def propose_new(self, near: Choices, asked: Collection[Choices]) -> Choices:
        """Return a plan near another that meets the target and was not asked for, while there is one."""
        ...

    def plan(self, choices: Choices) -> PruningPlan:
        """Return a plan to be tried."""
        ...

    def choices(self, plan: PruningPlan) -> Choices:
        """Return what ``plan`` was made of."""
        ...


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of an episode; rewarded when both plans' accuracies are known."""

    step: int
    before: Choices
    action: int
    after: Choices


class Episodes:
    """A strategy: episodes in an environment whose every step is a trial."""

    def __init__(self, problem: Problem, environment: Environment, rng: np.random.Generator) -> None:
        """Cut the environment's places into steps."""
        self._problem, self._environment, self._rng = problem, environment, rng
        self._settings = settings_of(problem, Settings)
        self._is_dense = self._settings.reward == "every"
        count = min(environment.places, max(1, problem.trials // self._settings.episodes))
        count = count if self._is_dense else environment.places
        self.steps: list[list[int]] = [part.tolist() for part in np.array_split(np.arange(environment.places), count)]
        """The places that are decided together, step by step."""
        self._episode: list[Transition] = []
        """What was decided since the last whole plan, where an episode is a trial."""
        self._through: dict[Choices, list[list[Transition]]] = {}
        """Whole plans, and the episodes that led to them, where an episode is a trial."""
        self.transitions: list[Transition] = []
        self._unpruned: Choices = (0,) * environment.places
        self._accuracy: dict[Choices, float] = {self._unpruned: problem.base_accuracy}
        """Of evaluated plans; 0 of those that failed."""
        self._asked: set[Choices] = set()
        self._step, self._current = 0, self._unpruned
        self._best: tuple[float, Choices] | None = None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.seed)
            self._online, self._target = _network(), _network()
        self._target.load_state_dict(self._online.state_dict())
        self._optimizer = torch.optim.Adam(self._online.parameters(), lr=self._settings.learning_rate)

    def ask(self) -> PruningPlan:
        """Return the plan after the episode's next step that leads to a new one."""
        with one_thread():
            self._learn()
            choices = self._next_new()
        self._asked.add(choices)
        return self._environment.plan(choices)

    def tell(self, trial: Trial) -> None:
        """Take in a plan's accuracy: that of the network after this step."""
        choices = self._environment.choices(trial.plan)
        failed = trial.reward is None or trial.candidate is None
        self._accuracy[choices] = 0.0 if failed or trial.candidate is None else trial.candidate.accuracy
        if trial.reward is not None and self._environment.meets(choices):
            self._best = max((trial.reward, choices), self._best or (trial.reward, choices))

    # ------------------------------------------------------------ act

    def _next_new(self) -> Choices:
        for played in range(_STALE * len(self.steps)):
            if self._step == 0 and self._is_dense and self._problem.trials - len(self._asked) < len(self.steps):
                break
            choices = self._played(least_epsilon=played / (_STALE * len(self.steps)))
            is_trial = self._is_dense or self._step == 0
            if is_trial and choices not in self._asked and any(choices):
                return choices
        near = self._best[1] if self._best else self._current
        return self._environment.propose_new(near, self._asked)

    def _played(self, least_epsilon: float) -> Choices:
        """Decide the episode's next places; return the plan so far."""
        before, step = self._current, self._step
        action = self._action(least_epsilon)
        after = self._environment.apply_threshold(before, self.steps[step], action)
        self.transitions.append(Transition(step, before, action, after))
        self._episode.append(self.transitions[-1])
        if step + 1 == len(self.steps):
            self._through.setdefault(after, []).append(self._episode)
            self._episode = []
        self._step = (step + 1) % len(self.steps)
        self._current = after if self._step else self._unpruned
        return after

    def _action(self, least_epsilon: float) -> int:
        if self._environment.first_action is not None and len(self.transitions) < len(self.steps):
            return self._environment.first_action
        gone = len(self._asked) / (self._settings.exploration * self._problem.trials)
        if self._rng.random() < max(_LEAST_EPSILON, least_epsilon, 1 - gone):
            return int(self._rng.integers(ACTIONS))
        with torch.no_grad():
            values: Tensor = self._online(torch.from_numpy(self._states([(self._step, self._current)])))
        return int(values[0].argmax())

    # ------------------------------------------------------------ learn

    def _learn(self) -> None:
        """Double Q-learning on all steps whose accuracies are known."""
        known = self._known()
        if not known:
            return
        state = torch.from_numpy(self._states([(m.step, m.before) for m in known]))
        following = torch.from_numpy(self._states([(m.step + 1, m.after) for m in known]))
        action = torch.tensor([m.action for m in known])
        is_last = [m.step + 1 == len(self.steps) for m in known]
        earned = [
            self._reward(m.after) if self._is_dense or last else 0.0 for m, last in zip(known, is_last, strict=True)
        ]
        reward = torch.tensor(earned, dtype=torch.float32)
        goes_on = torch.tensor([float(not last) for last in is_last])
        for _ in range(self._settings.updates):
            rows = torch.from_numpy(self._rng.integers(len(known), size=_BATCH))
            with torch.no_grad():
                best = self._online(following[rows]).argmax(1, keepdim=True)
                later = self._target(following[rows]).gather(1, best).squeeze(1)
            found = self._online(state[rows]).gather(1, action[rows, None]).squeeze(1)
            wanted = reward[rows] + self._settings.discount * goes_on[rows] * later
            loss = nn.functional.smooth_l1_loss(found, wanted)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(list(self._target.parameters()), list(self._online.parameters()), _POLYAK)

    def _known(self) -> list[Transition]:
        """Return the steps whose rewards are known, each once."""
        if self._is_dense:
            taken = dict.fromkeys(self.transitions)
            return [m for m in taken if m.before in self._accuracy and m.after in self._accuracy]
        ended = (of for plan, of in self._through.items() if plan in self._accuracy)
        return list(dict.fromkeys(step for episodes in ended for episode in episodes for step in episode))

    def _reward(self, choices: Choices) -> float:
        accuracy = self._accuracy[choices] / self._problem.base_accuracy
        return -BETA * (max(1 - accuracy, 0.0) + max(1 - float(self._environment.saving_reached([choices])[0]), 0.0))

    def _states(self, at: Sequence[tuple[int, Choices]]) -> NDArray[np.float32]:
        """Return states, (plans, 3); of a plan not evaluated yet, with the accuracy of the one before it."""
        steps = [step / len(self.steps) for step, _ in at]
        accuracies = [self._last_known(choices) / self._problem.base_accuracy for _, choices in at]
        reached = self._environment.saving_reached([choices for _, choices in at])
        return np.stack([steps, accuracies, reached], 1).astype(np.float32)

    def _last_known(self, choices: Choices) -> float:
        while choices not in self._accuracy:
            choices = next(m.before for m in reversed(self.transitions) if m.after == choices != m.before)
        return self._accuracy[choices]


def _network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, ACTIONS))
