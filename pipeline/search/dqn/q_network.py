"""Q-network: double and dueling, with a Polyak-averaged target network.

van Hasselt et al. 2016 (double), Wang et al. 2016 (dueling), Lillicrap et al. 2016 (Polyak averaging)
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from pipeline.records import LEVELS
from pipeline.search.dqn.settings import Settings


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: a second one brings nothing to matrices this small, and on busy cores waits for ever."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


class QNetwork(nn.Module):
    """State → value of each level: V + A − mean(A), two hidden layers."""

    def __init__(self, observation: int, hidden: int) -> None:
        """Build for observations of a size."""
        super().__init__()
        self.body = nn.Sequential(nn.Linear(observation, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.value = nn.Linear(hidden, 1)
        self.advantage = nn.Linear(hidden, len(LEVELS))

    def forward(self, observation: Tensor) -> Tensor:
        """Return Q, (batch, levels)."""
        features = self.body(observation)
        advantage: Tensor = self.advantage(features)
        value: Tensor = self.value(features)
        return value + advantage - advantage.mean(1, keepdim=True)


class Learner:
    """A Q network, its slow copy, and its optimiser."""

    def __init__(self, observation: int, settings: Settings, seed: int) -> None:
        """Draw the first weights from ``seed``; torch's global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._online = QNetwork(observation, settings.hidden)
        self._target = copy.deepcopy(self._online)
        self._optimizer = torch.optim.Adam(self._online.parameters(), lr=settings.learning_rate, fused=True)
        self._rate = settings.target_rate

    def values(self, states: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the value of each level in states, (plans, features) → (plans, levels)."""
        with torch.no_grad():
            found: NDArray[np.float32] = self._online(torch.from_numpy(states.astype(np.float32))).numpy()
        return found

    def update(self, batch: Mapping[str, Tensor]) -> float:
        """Take one step of double Q-learning; return the loss before it.

        Args:
            batch: state, action, return, next, mask (of next), bootstrap (0 at the end).
        """
        with torch.no_grad():
            following = self._online(batch["next"]).masked_fill(~batch["mask"], -torch.inf).argmax(1, keepdim=True)
            bootstrap = self._target(batch["next"]).gather(1, following).squeeze(1)
            wanted = batch["return"] + batch["bootstrap"] * bootstrap
        found = self._online(batch["state"]).gather(1, batch["action"][:, None]).squeeze(1)
        loss = nn.functional.smooth_l1_loss(found, wanted)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(self._target.parameters()), list(self._online.parameters()), self._rate)
        return float(loss.detach())

    def weights(self) -> dict[str, Tensor]:
        """Return the network's weights by their names."""
        return {name: value.clone() for name, value in self._online.state_dict().items()}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Begin with these weights, in the slow copy too.

        Raises:
            RuntimeError: they are of a network of another shape.
        """
        self._online.load_state_dict(dict(weights))
        self._target.load_state_dict(dict(weights))
