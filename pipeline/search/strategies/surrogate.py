"""Control of the DQN: the same models, evolution and acquisition, without the network.

What it finds as well as the DQN is the models' merit; what the DQN finds beyond it is the DQN's.
"""

from __future__ import annotations

from pipeline.records import PruningPlan, Trial
from pipeline.search.dqn.q_network import one_thread
from pipeline.search.proposer import Proposer
from pipeline.search.proposer_settings import ProposerSettings
from pipeline.search.strategy import Problem, settings_of


class Settings(ProposerSettings):
    """How the control picks the next plan."""


class Surrogate:
    """Single cuts first, then evolution on the models, picked by the acquisition function."""

    def __init__(self, problem: Problem) -> None:
        """Know nothing yet."""
        self._proposer = Proposer(problem, settings_of(problem, ProposerSettings))
        self._planner = self._proposer.planner

    def ask(self) -> PruningPlan:
        """Return the next plan."""
        with one_thread():
            levels = self._proposer.ask_single_cut()
            if levels is None:
                self._proposer.learn()
                levels = self._proposer.pick(self._proposer.initial_population())
        return self._planner.plan(levels)

    def tell(self, trial: Trial) -> None:
        """Take in a trial; one that failed teaches only not to ask for it again."""
        self._proposer.tell(trial)


def create(problem: Problem) -> Surrogate:
    """Return the strategy."""
    return Surrogate(problem)
