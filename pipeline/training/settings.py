"""Training settings: every hyper-parameter that a result depends on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.config import BaseTrainingConfig, FineTuningConfig
from pipeline.errors import ConfigError

FIRST_CYCLE_PASSES = 2
"""Each later cycle is twice as long as the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning:
    """How to train: SGD with momentum, one-cycle cosine with warm-up."""

    epochs: float = 2.0
    """Passes over the images; a fraction ends within a pass. With ``restarts`` the most."""
    restarts: bool = False
    """Cycles of doubling length until one brings no gain, judged by a score, and averaged weights judged as well."""
    budget_s: float | None = None
    """Time at most; the last cycle ends with it."""
    teacher_views: int = 0
    """Passes after which augmented views repeat, so that the teacher's answers are known; 0: never."""
    min_steps: int = 1
    """Small data sets are passed over more often, until this many steps."""
    batch_size: int = 128
    learning_rate: float = 0.02
    momentum: float = 0.9
    """Nesterov's; 0 is plain SGD."""
    weight_decay: float = 5e-4
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises linearly."""
    teacher_mix: float = 0.5
    """Share of the distillation loss; 0 trains on the labels alone."""
    temperature: float = 2.0
    label_smoothing: float = 0.0
    l1: float = 0.0
    """L1 penalty; see ``pipeline.training.sparsity``."""
    l1_on: Literal["batch_norm", "weights"] = "batch_norm"
    patience: int = 0
    """Evaluations without a gain after which the training ends; 0 neither evaluates nor stops early."""
    evaluate_every: float = 1.0
    """Passes over the images between two evaluations."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ConfigError(
                f"batch_size is {self.batch_size}; batch norm cannot learn from one image: give 2 or more"
            )

    def steps(self, images: int) -> int:
        """Return the number of gradient steps over so many images."""
        return max(self.min_steps, round(self.epochs * self.steps_a_pass(images)))

    def first_cycle(self, images: int) -> int:
        """Return the gradient steps of the first cycle: all, unless there are restarts."""
        if not self.restarts:
            return self.steps(images)
        return max(self.min_steps, FIRST_CYCLE_PASSES * self.steps_a_pass(images))

    def evaluation_interval(self, images: int) -> int:
        """Return the number of gradient steps between two evaluations."""
        return max(1, round(self.evaluate_every * self.steps_a_pass(images)))

    def steps_a_pass(self, images: int) -> int:
        """Return the gradient steps of one pass over so many images."""
        return math.ceil(images / self.batch_size)


def settings_of(
    section: BaseTrainingConfig | FineTuningConfig, *, epochs: float, min_steps: int = 1, seed: int
) -> FineTuning:
    """Return the settings that a section of run.yaml means; a base model is trained without a teacher."""
    mix, temperature = (
        (section.teacher_mix, section.temperature) if isinstance(section, FineTuningConfig) else (0.0, 1.0)
    )
    return FineTuning(
        epochs=epochs, min_steps=min_steps, batch_size=section.batch_size, learning_rate=section.learning_rate,
        momentum=section.momentum, weight_decay=section.weight_decay, warmup=section.warmup,
        teacher_mix=mix, temperature=temperature, label_smoothing=section.label_smoothing,
        l1=section.sparsity.l1, l1_on=section.sparsity.on, patience=section.patience,
        evaluate_every=section.evaluate_every, seed=seed,
    )  # fmt: skip


def settings_in_full(section: FineTuningConfig, *, seed: int) -> FineTuning:
    """Return the settings by which the chosen network is trained in full."""
    is_auto = section.epochs == "auto"
    epochs = section.max_epochs if section.epochs == "auto" else section.epochs
    settings = settings_of(section, epochs=epochs, min_steps=section.min_steps, seed=seed)
    return replace(
        settings, restarts=is_auto, budget_s=section.budget, teacher_views=section.teacher_views,
        patience=0 if is_auto else section.patience,
    )  # fmt: skip
