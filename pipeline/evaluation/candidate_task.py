"""Candidates as tasks of workers: what they are all made of, and the building of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import fx

from pipeline.evaluation.candidate_builder import Builder, Built
from pipeline.records import PruningPlan
from pipeline.training.accelerator import keep_freed_memory
from pipeline.workers.executor import Tell


@dataclass(frozen=True)
class RoundInputs:
    """What a round's candidates and finalists are made of: network, data, ranking, and the teacher."""

    builder: Builder
    teacher: fx.GraphModule


def set_up(threads: int) -> None:
    """Let this process compute with so many threads: sums are rounded by that."""
    torch.set_num_threads(threads)
    keep_freed_memory()


@dataclass(frozen=True, slots=True)
class BuildCandidate:
    """Cut, fit, evaluate and export one plan; raises CandidateError."""

    plan: PruningPlan
    threads: int
    trains: ClassVar[bool] = False

    def __call__(self, inputs: RoundInputs, tell: Tell) -> Built:
        """Return the candidate."""
        del tell
        set_up(self.threads)
        return inputs.builder.build(self.plan)
