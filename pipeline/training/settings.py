"""Training settings: every hyper-parameter that a result depends on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pipeline.config import BaseTrainingConfig, FineTuningConfig
from pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning:
    """How to train: SGD with momentum, one-cycle cosine with warm-up."""

    epochs: float = 2.0
    """Passes over the images; a fraction ends within a pass."""
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
        return max(self.min_steps, round(self.epochs * self._steps_a_pass(images)))

    def evaluation_interval(self, images: int) -> int:
        """Return the number of gradient steps between two evaluations."""
        return max(1, round(self.evaluate_every * self._steps_a_pass(images)))

    def _steps_a_pass(self, images: int) -> int:
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
