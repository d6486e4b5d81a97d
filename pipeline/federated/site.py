"""Site: a run's Q-network, its replay and its models, which learn for a federation; what they measured stays there."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import StoreError, UserError
from pipeline.federated.messages import MOST_TRIALS, Hello, Learnt
from pipeline.federated.structure import Structure, structure_of
from pipeline.federated.weights import unpacked
from pipeline.run.replanning import last_round, taught_dqn
from pipeline.search.strategies.dqn import Dqn
from pipeline.store import Store
from pipeline.store.facts import FEDERATED, PLANNED_FOR, POLICY, FederatedPolicy


@dataclass(frozen=True, slots=True)
class LocalTraining:
    """A DQN that goes on from the federation's network in each round."""

    strategy: Dqn
    structure: Structure
    trials: int
    """Measured, behind its models."""

    @classmethod
    def of(cls, strategy: Dqn) -> LocalTraining:
        """Return it for a DQN that was told its trials."""
        return cls(strategy, structure_of(strategy.policy(), strategy.space), min(strategy.measured, MOST_TRIALS))

    def train(self, policy: bytes, updates: int) -> tuple[bytes, Learnt]:
        """Return what comes of so many gradient steps from the federation's network on, and how it learnt.

        Raises:
            ValueError: that network cannot be used, or what was learnt is not finite.
        """
        unpacked(policy, self.structure)
        burst = self.strategy.learn_from(policy, updates)
        learnt = self.strategy.policy()
        unpacked(learnt, self.structure)
        return learnt, Learnt(loss=float(burst.loss), updates=updates)


class Site:
    """A run that takes part in a federation, and keeps what comes of it."""

    def __init__(self, store: Store, name: str, identity: str) -> None:
        """Fit the run's models to its trials.

        Args:
            store: the run's, open for writing.
            name: by which the federation knows it.
            identity: 32 hexadecimal digits, drawn for this process.

        Raises:
            UserError: the run did not come so far, or made plans of single weights.
            StoreError: it is damaged.
        """
        number = last_round(store)
        if "density" in store.required(PLANNED_FOR.of(number))["limits"]:
            raise UserError(f"run {store.id} has a target of density: it has no Q-network that others could share")
        blob = store.get(POLICY.of(number))
        policy = None if blob is None else store.blob(blob).read_bytes()
        try:
            self._local = LocalTraining.of(taught_dqn(store, number, policy).strategy)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise StoreError(f"run {store.id} is damaged: its network cannot be trained ({error})") from error
        if not self._local.trials:
            raise UserError(f"run {store.id} has measured nothing yet: a site learns from its own trials; search first")
        self._store, self._updates = store, 0
        self.hello = Hello(site=name, identity=identity, trials=self._local.trials, structure=self._local.structure)

    @property
    def run(self) -> str:
        """The run's id."""
        return self._store.id

    def policy(self) -> bytes:
        """Return the network as it is now."""
        return self._local.strategy.policy()

    def train(self, policy: bytes, updates: int) -> tuple[bytes, Learnt]:
        """Return what ``LocalTraining.train`` does."""
        learnt, how = self._local.train(policy, updates)
        self._updates += how.updates
        return learnt, how

    def keep(self, policy: bytes, number: int, of: int) -> None:
        """Store the federation's network after a round as the run's federated policy.

        Raises:
            ValueError: it cannot be used.
            StoreError: it cannot be written.
        """
        unpacked(policy, self.hello.structure)
        kept = FederatedPolicy(
            policy=self._store.put_blob(policy), site=self.hello.site, round=number, rounds=of, updates=self._updates
        )
        self._store.set(FEDERATED, kept)
