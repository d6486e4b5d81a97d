"""What a run is told: run.yaml and the command line's options, typed, each with a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipeline import typed_yaml
from pipeline.errors import ConfigError
from pipeline.targets import Target, parse_target


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class LayerWeights(_Section):
    """One layer's own weights; what is absent is as for the whole network."""

    alpha: Weight | None = None
    beta: Weight | None = None
    gamma: Weight | None = None
    lambda_: Weight | None = Field(None, alias="lambda")


class RewardConfig(_Section):
    """R = α·accuracy − β·power − γ·pruning intensity − λ·level − latency, each relative to the base model."""

    alpha: Weight = 1.0
    """Accuracy on the search split over the base model's."""
    beta: Weight = 0.05
    """Mean power over the base model's; without a sensor this term is absent."""
    gamma: Weight = 0.02
    """Pruning intensity: the share of each group's channels that is gone, mean over groups."""
    lambda_: Weight = Field(0.0, alias="lambda")
    """The levels themselves, mean over groups, as AKPERL's λ·|a|."""
    latency: Weight = 0.05
    """Median latency over the base model's."""
    violation: Weight = 2.0
    """By how much a target is missed, relative to the target."""
    layers: Mapping[str, LayerWeights] = Field(default_factory=dict)
    """A group's own α, β, γ, λ by the name that `pipeline runs show` prints."""


class EvaluationConfig(_Section):
    """How a candidate's accuracy is read during the search: never on the test split."""

    batch_norm_images: int = Field(256, ge=1)
    """Training images over which batch norm's statistics are taken anew."""
    search_images: int = Field(1000, ge=10)
    """Images of the search split; all of it if it is smaller."""
    ranking_images: int = Field(512, ge=1)
    """Training images for criteria that need gradients."""


class DqnConfig(_Section):
    """The DQN's own settings; the defaults are what the benchmarks ran with."""

    hidden: int = Field(128, ge=1)
    """Width of the two hidden layers."""
    learning_rate: float = Field(1e-3, gt=0)
    """Adam's."""
    n_step: int = Field(3, ge=1)
    """Rewards summed before the bootstrap."""
    discount: float = Field(1.0, gt=0, le=1)
    """1: the rewards of the steps add up to the reward of the plan."""
    target_rate: float = Field(0.02, gt=0, le=1)
    """Polyak averaging of the target network."""
    batch_size: int = Field(128, ge=1)
    """Transitions an update."""
    replay_plans: int = Field(2000, ge=1)
    """Plans kept for replay; each gives one transition a group."""
    priority: float = Field(0.6, ge=0, le=1)
    """Exponent of prioritised replay; 0 draws uniformly."""
    first_imagined: int = Field(4000, ge=0)
    """Imagined episodes before the first plan that the network picks."""
    imagined: int = Field(800, ge=0)
    """Imagined episodes before each later plan; 0 learns from measured episodes alone."""
    first_updates: int = Field(800, ge=0)
    """Gradient steps after the first imagination."""
    updates: int = Field(200, ge=0)
    """Gradient steps after each later one."""
    exploration: float = Field(0.6, ge=0, le=1)
    """Share of random levels in the first imagined episodes; it falls to a quarter."""


class RecoveryConfig(_Section):
    """Fine-tuning after the search, with the base model as teacher."""

    finalists: int = Field(3, ge=1)
    """Best candidates that are fine-tuned briefly before one is chosen on the validation split."""
    finalist_epochs: float = Field(0.3, ge=0)
    """Passes over the training split for each finalist."""
    epochs: float = Field(3.0, ge=0)
    """Passes over all images but the test split for the chosen one."""
    min_steps: int = Field(150, ge=0)
    """Gradient steps at least; a finalist gets half of it. Small data sets are passed over more often."""
    learning_rate: float = Field(0.03, gt=0)
    """Highest learning rate; it rises over the first tenth and falls by a cosine."""
    batch_size: int = Field(128, ge=2)
    """Images a step."""
    teacher_mix: Share = 0.5
    """Share of the distillation loss; 0 trains on the labels alone."""
    temperature: float = Field(2.0, gt=0)
    """Softens the teacher's answers."""
    verify_images: int = Field(500, ge=1)
    """Real images that the device answers with the whole file; compared with the host's answers."""


class BaseTrainingConfig(_Section):
    """Training of the base model where no weights are given."""

    epochs: float = Field(20.0, gt=0)
    """Passes over the training split."""
    learning_rate: float = Field(0.1, gt=0)
    """Highest learning rate."""


class RunConfig(_Section):
    """A whole run."""

    model: str | None = None
    """Name, or package.module:factory, or file.py:factory; absent: what suits the data set."""
    weights: Path | None = None
    """State dict of the trained model; absent: a base model is trained first."""
    data: str = "digits"
    """digits, fashion-mnist, cifar10:DIR or imagefolder:DIR."""
    image_size: int | None = Field(None, ge=8)
    """Side of the square images of an image folder."""
    target: tuple[str, ...] = ("latency=0.5x",)
    """Constraints, all of them met: latency=20ms, latency=0.5x, energy=…, power=…, size=…"""
    trials: int = Field(30, ge=1)
    """Candidates that are evaluated and measured in each round."""
    strategy: str = "dqn"
    """Who picks the levels: a file of pipeline/search/strategies."""
    criterion: str = "l1"
    """Who ranks the channels: a file of pipeline/pruning/criteria."""
    seed: int = Field(0, ge=0)
    """Same seed, same plans on the same measurements."""
    rounds: int = Field(1, ge=1)
    """Prune and fine-tune in turns, each round towards a share of the target."""
    threads: int | None = Field(None, ge=1)
    """Host threads of torch; absent: one a core."""
    reward: RewardConfig = RewardConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    dqn: DqnConfig = DqnConfig()
    recovery: RecoveryConfig = RecoveryConfig()
    base_training: BaseTrainingConfig = BaseTrainingConfig()

    @field_validator("target", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return tuple(v for v in value.replace(",", " ").split() if v) if isinstance(value, str) else value

    @field_validator("target")
    @classmethod
    def _parses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            metrics = [parse_target(text).metric for text in value]
        except ConfigError as error:  # pydantic adds where it stands only to ValueErrors
            raise ValueError(str(error)) from error
        if twice := {m for m in metrics if metrics.count(m) > 1}:
            raise ValueError(f"two targets for {', '.join(sorted(twice))}")
        return value

    @property
    def targets(self) -> tuple[Target, ...]:
        """The parsed constraints."""
        return tuple(parse_target(text) for text in self.target)


def load_config(path: Path | None, options: Mapping[str, Any]) -> RunConfig:
    """Return run.yaml with the command line's ``options`` (None: not given) over it.

    Raises:
        ConfigError: unreadable, unknown key or unfit value, with file, line and the nearest known key.
    """
    given = {key: value for key, value in options.items() if value is not None and value != ()}
    document = typed_yaml.read(path, ConfigError) if path else None
    config = typed_yaml.validate(document, RunConfig) if document else RunConfig()
    try:
        return RunConfig.model_validate({**config.model_dump(by_alias=True), **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "--" + "-".join(map(str, first["loc"][:1])).replace("_", "-")
        problem = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
        found = "" if first["type"] == "value_error" else f", found {first['input']!r}"
        raise ConfigError(f"{where}: {problem}{found}") from error
