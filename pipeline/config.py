"""Run settings: run.yaml and the command line's options, typed, each with a sentence."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline import serialization, setting_keys, yaml_files
from pipeline.durations import parse_duration_s
from pipeline.errors import ConfigError
from pipeline.setting_keys import Where
from pipeline.targets import Target, parse_target
from pipeline.workers.spec import workers_of

_log = logging.getLogger(__name__)

_OPTIONS, _OLDER = "strategy_options", "dqn"
"""The older name of ``strategy_options``, of a time when one strategy alone had settings."""
_READ_OLDER: Mapping[str, tuple[str, ...] | None] = {"dqn": None, "surrogate": ("acquisition", "ablate")}
"""Strategies that read the older section then, and what of it, by current names; None: all."""
_RENAMED = {
    "first_imagined": "first_simulated_episodes",
    "imagined": "simulated_episodes",
    "growth": "retrain_growth",
    "without": "ablate",
}
"""Old names in the older section: stored runs have it, and are compared without their strategy being imported."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


def passes_of(value: object) -> float | Literal["auto"]:
    """Return how many passes over the images ``value`` asks for: a number from 0 on, or auto.

    >>> passes_of("auto"), passes_of(3), passes_of("0.5")
    ('auto', 3.0, 0.5)
    """
    if value == "auto":
        return "auto"
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError("should be a finite number from 0 on, or auto")
    return number


def _seconds_of(value: object) -> object:
    return parse_duration_s(value) if isinstance(value, str) else value


Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Passes = Annotated[float | Literal["auto"], BeforeValidator(passes_of)]
Seconds = Annotated[float, Field(gt=0), BeforeValidator(_seconds_of)]
"""In YAML also 90s, 30m, 2h, 1h30m."""


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


class CriterionConfig(_Section):
    """How the scores of a group's layers become one score a unit; the defaults are DepGraph's."""

    reduction: Literal["mean", "sum", "max"] = "mean"
    """Over the layers; sum orders as mean does, max lets a unit stay for one layer's sake."""
    normalise: Literal["none", "mean", "max", "sum"] = "none"
    """Each layer's scores over their own mean, maximum or sum, so that a large layer does not outvote a small one."""


class PruningConfig(_Section):
    """Constraints on what may be pruned, whatever the search finds."""

    protect: tuple[str, ...] = ()
    """Layers that stay whole, by name or pattern: layer1.*"""
    only: tuple[str, ...] = ()
    """Layers that alone may change, by name or pattern: backbone.*; every other keeps its channels, those that it reads
    too. Absent: all."""
    step: Literal["measure", "processor"] = "measure"
    """What kept channels are rounded up to, where the inventory does not say: the step that this network shows on the
    board, or the one that its processor's vectors suggest, unmeasured and some twenty seconds sooner."""
    min_channels: Mapping[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, validation_alias=AliasChoices("min_channels", "minimum")
    )
    """Pattern of a layer's name → channels that it keeps at least; a whole block may still go."""


class EvaluationConfig(_Section):
    """How a candidate's accuracy is read during the search: never on the test split."""

    batch_norm_images: int = Field(256, ge=1)
    """Training images over which batch norm's statistics are taken anew; where layers are fitted, the first 256."""
    reconstruction_samples: int = Field(
        2048, ge=0, validation_alias=AliasChoices("reconstruction_samples", "reconstruction_places")
    )
    """Layers behind a cut are fitted, without labels, to their activations before it, at so many positions of these
    images; 0: they are not, here nor for finalists, and batch norm alone is re-estimated."""
    search_images: int = Field(1000, ge=10)
    """Images of the search split; all of it if it is smaller."""
    ranking_images: int = Field(512, ge=1)
    """Training images for criteria that need gradients or feature maps."""


class SparsityConfig(_Section):
    """Network Slimming's L1 penalty: what the loss does not need goes to zero while it is trained."""

    l1: Weight = 0.0
    """λ, the constant pull towards zero; 1e-4 is usual, 0 is none."""
    on: Literal["batch_norm", "weights"] = "batch_norm"
    """Batch norm's scales, for criterion bn_scale; or the weights of convolutions and linear layers."""

    @model_validator(mode="before")
    @classmethod
    def _on_is_a_word(cls, value: Any) -> Any:
        """YAML 1.1 reads a bare ``on`` as true, even as a key."""
        return {"on" if key is True else key: v for key, v in value.items()} if isinstance(value, dict) else value


class TrainingConfig(_Section):
    """What base training and fine-tuning have in common."""

    batch_size: int = Field(128, ge=2)
    """Images a step."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Nesterov's; 0 is plain SGD."""
    weight_decay: Weight = 5e-4
    """Of weights; biases and batch norm do not decay."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises; then it falls by a cosine."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the label that is spread over all classes."""
    patience: int = Field(0, ge=0)
    """Evaluations on the search split without a gain, after which training ends with its best weights; 0: never."""
    evaluate_every: float = Field(1.0, gt=0)
    """Passes between two evaluations; without patience there are none."""
    sparsity: SparsityConfig = SparsityConfig()


class FineTuningConfig(TrainingConfig):
    """Fine-tuning after the search, with the base model as teacher."""

    finalists: int = Field(3, ge=1)
    """Best candidates that are fine-tuned briefly before one is chosen on the validation split."""
    reconstruction_images: int = Field(2048, ge=2)
    """Training images on which a finalist's layers are fitted to their activations before the cut, before it is
    trained; of large images fewer, 256 of 224 x 224."""
    reconstruction_samples: int = Field(
        32768, ge=0, validation_alias=AliasChoices("reconstruction_samples", "reconstruction_places")
    )
    """Positions of these images at which they are; 0: a finalist begins as its candidate was."""
    finalist_epochs: float = Field(0.3, ge=0)
    """Passes over the training split for each finalist, in its last rung."""
    reduction_factor: int = Field(3, ge=2, validation_alias=AliasChoices("reduction_factor", "halving"))
    """Successive halving: of so many finalists one is promoted to the next rung, with so many times the passes."""
    epochs: Passes = "auto"
    """Passes for the chosen one, over all images but the test split; auto: over the training split, in cycles that
    double in length, until one brings no gain on the search and validation splits."""
    max_epochs: float = Field(126.0, gt=0)
    """With `epochs: auto`: passes at most."""
    budget: Seconds | None = None
    """Time at most for training the chosen one: 30m, 2h; a plain number is seconds; absent: as long as it helps."""
    teacher_views: int = Field(8, ge=0)
    """Views of each image, shifted and mirrored at random, whose answers by the teacher are kept; passes after these
    repeat them. 0: every pass has views of its own, and asks the teacher."""
    trainer: str | None = None
    """A function of your own that trains the chosen one instead, file.py:fit: docs/extending/trainer.md."""
    min_steps: int = Field(150, ge=0)
    """Gradient steps at least; half of it in a finalist's last rung. Small data sets are passed over more often."""
    learning_rate: float = Field(0.03, gt=0)
    """Highest learning rate."""
    teacher_mix: Share = 0.5
    """Share of the distillation loss; 0 trains on the labels alone."""
    temperature: float = Field(2.0, gt=0)
    """Softens the teacher's answers."""
    verify_images: int = Field(500, ge=1)
    """Real images that the device answers with the whole file; compared with the host's answers."""


class BaseTrainingConfig(TrainingConfig):
    """Training of the base model where no weights are given, or with ``head: new``."""

    epochs: float = Field(20.0, gt=0)
    """Passes over the training split."""
    learning_rate: float = Field(0.1, gt=0)
    """Highest learning rate."""
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    """Share of the label that is spread over all classes."""
    head_epochs: float = Field(2.0, ge=0)
    """With ``head: new``: passes in which the new last layer is trained alone, before the whole."""
    head_learning_rate: float = Field(0.05, gt=0)
    """Highest learning rate of these."""
    whole_epochs: float = Field(8.0, ge=0)
    """With ``head: new``: passes in which the whole network is trained, after the new last layer."""
    whole_learning_rate: float = Field(0.01, gt=0)
    """Highest learning rate of these."""
    min_steps: int = Field(150, ge=0)
    """With ``head: new``: gradient steps at least, in both. Small data sets are passed over more often."""


DEFAULT_STRATEGY = "dqn"


class RunConfig(_Section):
    """A whole run."""

    model: str | None = None
    """Name, or package.module:factory, or file.py:factory, or net.onnx with its weights; absent: what suits the data
    set."""
    weights: Path | None = None
    """State dict of the trained model; absent: a base model is trained first, unless the model is an ONNX file."""
    weights_key: str | None = None
    """Which of several sets of weights in that file: model_ema; absent: the only one that fits."""
    head: Literal["new"] | None = None
    """new: the weights are of other classes; a new last layer is trained on the data, then the whole."""
    data: str = "digits"
    """A file of pipeline/data/sources, its argument behind a colon: digits, cifar10:DIR, imagefolder:DIR, csv:FILE."""
    conditions: tuple[str, ...] = ()
    """Under which the images are seen: clean, fog:3, night:2, …; each gets a plan of its own, of one search. Absent: as
    they are."""
    image_size: int | None = Field(None, ge=8)
    """Side in pixels to which image files and PIL images are scaled, and cut at their centre."""
    resize: int | None = Field(None, ge=8)
    """Shorter side to which they are scaled before that, as torchvision's Resize does: 256; absent: as for weights of
    torchvision's where these are given, else they just cover the side."""
    crop: int | None = Field(None, ge=8)
    """Another name of image_size, as torchvision's CenterCrop: 224."""
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest"] | None = None
    """Of the scaling, over all pixels that one is made of (antialias); absent: as for weights of torchvision's where
    these are given, else bilinear."""
    mean: tuple[float, ...] | None = None
    """Of each channel, of pixels in [0, 1], as the network was trained with; absent: the data set's usual."""
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """The same."""
    max_unreadable: float = Field(0, ge=0, validation_alias=AliasChoices("max_unreadable", "max_corrupt"))
    """Images that may be skipped because they cannot be read: a number, or below 1 a share."""
    target: tuple[str, ...] = ("latency=0.5x",)
    """Constraints, all of them met: latency=20ms, latency=0.5x, energy=…, power=…, size=…; or density=0.2x alone, with
    strategy purl: single weights become zero, channels stay."""
    task: str = "classification"
    """What the network is trained by and judged by: a file of pipeline/objective/tasks, or file.py:TASK of your own."""
    over_boards: Literal["mean", "worst", "q90"] = "mean"
    """Where several boards measure side by side: whose latency has to meet the target, all boards' geometric mean, the
    slowest board's, or their 0.9 quantile."""
    trials: int = Field(30, ge=1)
    """Candidates that are evaluated and measured in each round."""
    strategy: str = DEFAULT_STRATEGY
    """Who picks the levels: a file of pipeline/search/strategies, or a file.py of your own."""
    strategy_options: Mapping[str, Any] = Field(default_factory=dict)
    """The strategy's own settings, listed below for each; `dqn` is the older name of this section."""
    mode: Literal["imagined", "direct"] = "imagined"
    """imagined: the DQN learns mostly from episodes simulated on models; direct: from measured candidates alone."""
    criterion: str = "l1"
    """Who ranks the channels: a file of pipeline/pruning/criteria."""
    criterion_options: CriterionConfig = CriterionConfig()
    pruning: PruningConfig = Field(PruningConfig(), validation_alias=AliasChoices("pruning", "cuts"))
    precision: Literal["auto", "float32", "int8", "fp16"] = "auto"
    """In which networks compute on the device, decided before anything is cut: auto is int8, or with TensorRT fp16,
    where that is measured to be faster and answers as well, else float32."""
    float_blocks: Literal["measure", "accuracy"] = "measure"
    """Which layers stay float32 in INT8: those by which it answers better, and blocks by which the device is measured
    to be faster; accuracy: the first alone, some twenty seconds sooner."""
    warm_start: str | None = None
    """A run of before, by its id or `latest`, whose learnt policy the DQN begins with: of the same architecture, with
    another checkpoint, target or board if you like; with `:federated` behind it that of its federation of sites."""
    seed: int = Field(0, ge=0)
    """Same seed, same plans on the same measurements."""
    rounds: int = Field(1, ge=1)
    """Prune and fine-tune in turns, each round towards a share of the target."""
    threads: int | None = Field(None, ge=1)
    """Host threads of torch; absent: one a core. With workers each has so many; absent: the cores are shared out."""
    workers: Annotated[int | str | None, BeforeValidator(workers_of)] = None
    """Where candidates are built and finalists fine-tuned: so many processes of this machine, or ray, or ray://HOST;
    absent: in the run's own process. Plans and weights do not depend on it, where the number of threads is the same."""
    lookahead: int | None = Field(None, ge=0)
    """Candidates that are begun before the last one is told to the strategy: more keep more workers busy, and the
    strategy learns of each later; absent: 1 where building disturbs no measurement, else 0."""
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """What trains: auto is a GPU where torch finds one; all else is computed on the CPU."""
    training_precision: Literal["auto", "float32"] = "auto"
    """In which training computes: auto is half precision where the accelerator has it, on a CPU only where a trial of
    a second finds it faster; weights, losses and updates are float32 in either."""
    checkpoint_s: float = Field(30.0, ge=0)
    """Seconds between two notes of how far a training has come, from which a killed run goes on."""
    reward: RewardConfig = RewardConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    fine_tuning: FineTuningConfig = Field(FineTuningConfig(), validation_alias=AliasChoices("fine_tuning", "recovery"))
    base_training: BaseTrainingConfig = BaseTrainingConfig()

    @model_validator(mode="before")
    @classmethod
    def _older_section(cls, value: Any) -> Any:
        """Read ``dqn``: of that section a strategy takes what it took then, all others nothing."""
        if not isinstance(value, dict) or _OLDER not in value:
            return value
        section = value[_OLDER]
        if not isinstance(section, Mapping):
            raise ValueError(f"dqn: expected a section of settings, found {section!r}; write strategy_options: {{…}}")
        if value.get(_OPTIONS):
            raise ValueError("dqn is the older name of strategy_options, and both are there; leave dqn out")
        strategy = value.get("strategy", DEFAULT_STRATEGY)
        taken = _READ_OLDER.get(strategy, ()) if isinstance(strategy, str) else ()
        named = {_RENAMED.get(key, key): setting for key, setting in section.items()}
        options = {key: setting for key, setting in named.items() if taken is None or key in taken}
        return {**{key: setting for key, setting in value.items() if key != _OLDER}, _OPTIONS: options}

    @field_validator("strategy_options")
    @classmethod
    def _can_be_stored(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """Refuse what JSON has no word for; what each setting has to be, its strategy knows."""
        serialization.to_text(dict(value))
        return value

    @field_validator("target", "conditions", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return tuple(v for v in value.replace(",", " ").split() if v) if isinstance(value, str) else value

    @field_validator("target")
    @classmethod
    def _parses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            parsed = [parse_target(text) for text in value]
        except ConfigError as error:  # pydantic adds where it stands only to ValueErrors
            raise ValueError(str(error)) from error
        known = [f"{target.metric}{target.on and f' on {target.on}'}" for target in parsed]
        if twice := {one for one in known if known.count(one) > 1}:
            raise ValueError(f"two targets for {', '.join(sorted(twice))}")
        return value

    @model_validator(mode="after")
    def _sizes_fit(self) -> RunConfig:
        if self.image_size and self.crop and self.image_size != self.crop:
            raise ValueError(
                f"image_size is {self.image_size}, crop {self.crop}, and they mean the same; leave one out"
            )
        if self.resize and self.side and self.resize < self.side:
            raise ValueError(
                f"resize is {self.resize}, less than the side that is cut, {self.side}; give at least that, or leave "
                "it out"
            )
        return self

    @property
    def side(self) -> int | None:
        """Side in pixels of the network's images, where it is said."""
        return self.crop or self.image_size

    @model_validator(mode="after")
    def _density_fits(self) -> RunConfig:
        density = next((t for t in self.targets if t.metric == "density"), None)
        if density is None:
            return self
        if others := ", ".join(str(t) for t in self.targets if t.metric != "density"):
            raise ValueError(
                f"target {density} cannot be combined with {others}; zeros make no dense runtime faster or cooler and "
                f"no uncompressed file smaller: leave {density} out to cut channels, or {others} to set single weights "
                "to zero"
            )
        if self.criterion != type(self).model_fields["criterion"].default:
            raise ValueError(
                f"criterion {self.criterion} ranks channels; with target {density} the smallest single weights become "
                "zero: leave criterion out"
            )
        return self

    @property
    def is_trained(self) -> bool:
        """Whether the model's weights are given: in a file of their own, or in the model's."""
        return self.weights is not None or is_model_file(self.model)

    @property
    def sets_zeros(self) -> bool:
        """Whether single weights become zero, and no channel is cut."""
        return any(target.metric == "density" for target in self.targets)

    @property
    def targets(self) -> tuple[Target, ...]:
        """The parsed constraints."""
        return tuple(parse_target(text) for text in self.target)


def is_model_file(model: str | None) -> bool:
    """Return whether a model is named by a file that holds the network and its weights.

    >>> is_model_file("nets/net.onnx"), is_model_file("net.py:make"), is_model_file(None)
    (True, False, False)
    """
    return model is not None and model.lower().endswith(".onnx")


QUICK: Mapping[str, Any] = {
    "trials": 10,
    "pruning": {"step": "processor"},
    "float_blocks": "accuracy",
    "base_training": {"epochs": 8.0},
    "fine_tuning": {"finalists": 1, "epochs": 1.0, "min_steps": 60},
}
"""What ``--quick`` puts below run.yaml and the options: a first look in minutes, not the best that can be had."""


def load_config(path: Path | None, options: Mapping[str, Any], *, quick: bool = False) -> RunConfig:
    """Return run.yaml with the command line's ``options`` (None: not given) over it.

    Args:
        quick: ``QUICK`` lies below both.

    Raises:
        ConfigError: unreadable, unknown key or unfit value, with file, line and the nearest known key.
    """
    given = {key: value for key, value in options.items() if value is not None and value != ()}
    setting_keys.say_old_keys(RunConfig, given, lambda _: "settings")
    document = yaml_files.read(path, ConfigError) if path else None
    _say_older_section(given, lambda _: "settings")
    if document:
        yaml_files.say_old_keys(document, RunConfig)
        _say_older_section(document.data, document.source)
    try:
        written = _of_the_strategy(document.data if document else {}, given)
        config = _merged(written, given)
        return RunConfig.model_validate(_over(QUICK, config) if quick else config)
    except ValidationError as error:
        if document:
            yaml_files.validate(document, RunConfig)  # says where in the file, if it is the file's
        first = error.errors(include_url=False)[0]
        where = "".join(f"--{option}: " for option in first["loc"][:1]).replace("_", "-")
        problem = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
        found = "" if first["type"] == "value_error" else f", found {first['input']!r}"
        raise ConfigError(f"{where}{problem}{found}") from error


def _say_older_section(data: Mapping[str, Any], source: Callable[[Where], str]) -> None:
    """Log what the section ``dqn`` and its settings are called now, where ``data`` has it."""
    if _OLDER not in data:
        return
    section = data[_OLDER]
    setting_keys.say_renamed(source((_OLDER,)), (_OLDER,), (_OPTIONS,))
    for key in section if isinstance(section, Mapping) else ():
        if key in _RENAMED:
            old = (_OLDER, key)
            setting_keys.say_renamed(source(old), old, (_OPTIONS, _RENAMED[key]))


def _of_the_strategy(written: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a file's settings without those of its strategy where the command line names another strategy."""
    own, asked = str(written.get("strategy", DEFAULT_STRATEGY)), str(given.get("strategy") or "")
    same = not asked or asked.replace("-", "_") == own.replace("-", "_")
    if same or not written.get(_OPTIONS) or _OPTIONS in given:
        return written
    _log.warning("strategy_options are strategy %s's and do not count for %s", own, asked)
    return {key: setting for key, setting in written.items() if key != _OPTIONS}


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``below`` with what ``above`` says in its place, sections setting by setting.

    >>> _over({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}})
    {'a': {'b': 4, 'c': 2}, 'd': 3}
    """
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], Mapping) and isinstance(above[key], Mapping):
            merged[key] = _over(below[key], above[key])
    return merged


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    below, above = (setting_keys.with_current_names(RunConfig, data) for data in (below, above))
    return {**below, **above}
