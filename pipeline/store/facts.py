"""Facts: every key of a run's store, with the type of what stands there. Nobody else makes one up.

A stored run is a file like any other, and may be damaged or somebody else's: a fact is checked as it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Generic, NotRequired, TypeAlias, TypeVar

from pydantic import ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, TypeAdapter, with_config
from pydantic_core import PydanticSerializationError
from typing_extensions import TypedDict

from pipeline.measurement.between_processes import Spread
from pipeline.measurement.calibration import Calibration
from pipeline.records import Baseline, DeviceFacts, Figures, Fleet, PrecisionDecision, SearchSpace, VerifiedAccuracy
from pipeline.records.adaptation import Adaptation
from pipeline.records.learning import Burst
from pipeline.store.device_usage import Usage
from pipeline.targets import Metric

T = TypeVar("T")

MOST_ROUNDS = 10_000
_OTHERS_TOO = ConfigDict(extra="allow")


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """One key, and the type of its value; absent reads as None.

    >>> SECONDS.read(12.5), WINNER.of(2).key
    (12.5, 'winner 2')
    >>> SECONDS.read("long")
    Traceback (most recent call last):
    pydantic_core._pydantic_core.ValidationError: ...
    """

    key: str
    kind: type[T]

    def of(self, which: object) -> Fact[T]:
        """Return the fact of one round, one training or one file."""
        return Fact(f"{self.key} {which}", self.kind)

    def read(self, plain: object) -> T:
        """Return the value that ``plain`` JSON stands for; raise ValueError where it is none of this fact."""
        value: T = _adapter_of(self.kind).validate_python(plain)
        return value

    def plain(self, value: T) -> Any:
        """Return a value as plain JSON; raise ValueError where it is not of the fact's type."""
        try:
            return _adapter_of(self.kind).dump_python(value, mode="json", warnings="error")
        except PydanticSerializationError as error:
            raise ValueError(str(error)) from error


def _adapter_of(kind: Any) -> TypeAdapter[Any]:
    return _adapter(kind)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Building one takes milliseconds. Text stays text and a number a number; records read what JSON has of them."""
    return TypeAdapter(kind, config=ConfigDict(strict=True)) if kind in (str, int, float) else TypeAdapter(kind)


# ---------------------------------------------------------------- values of several fields

InputFigures: TypeAlias = tuple[StrictFloat | StrictInt, ...] | StrictFloat | StrictInt
"""Of a network's input, by channel; a plain number is over all of its values."""


@with_config(_OTHERS_TOO)
class Config(TypedDict):
    """A run's settings as they were written, of whatever version: ``RunConfig`` reads them."""

    data: NotRequired[StrictStr]
    conditions: NotRequired[list[StrictStr]]
    model: NotRequired[StrictStr | None]
    weights: NotRequired[StrictStr | None]
    target: NotRequired[list[StrictStr] | StrictStr]
    rounds: NotRequired[Annotated[StrictInt, Field(ge=1, le=MOST_ROUNDS)]]


@with_config(_OTHERS_TOO)
class NamedDevice(TypedDict):
    """The device as the inventory names it, and the sensor that it was measured with."""

    name: StrictStr
    kind: NotRequired[StrictStr]
    power: NotRequired[StrictStr | None]
    runtime: NotRequired[StrictStr]
    """As it was named, or chosen when the run began."""
    boards: NotRequired[list[StrictStr]]
    """Those that measure side by side; absent: the device is one board."""


@with_config(_OTHERS_TOO)
class Input(TypedDict):
    """What the network takes: its input's name, the shape without the batch, how it is normalised and fitted."""

    name: StrictStr
    shape: list[StrictInt]
    mean: list[StrictFloat | StrictInt]
    std: list[StrictFloat | StrictInt]
    fitting: NotRequired[dict[str, Any] | None]


class NamedShape(TypedDict):
    """An input or output of a network's file, and its shape without the batch."""

    name: StrictStr
    shape: list[StrictInt]


@with_config(_OTHERS_TOO)
class StoredTask(TypedDict):
    """What the network is trained by and judged by, and what its file takes and answers."""

    name: StrictStr
    metric: StrictStr
    """What every figure that is stored as an accuracy is called."""
    puts_into_classes: StrictBool
    inputs: list[NamedShape]
    outputs: list[NamedShape]


@with_config(_OTHERS_TOO)
class StoredSplits(TypedDict):
    """Where the splits lie, of how many images they are, and how many each has."""

    blob: NotRequired[StrictStr]
    images: NotRequired[StrictInt]
    checksum: NotRequired[StrictStr]
    train: NotRequired[StrictInt]
    search: NotRequired[StrictInt]
    val: NotRequired[StrictInt]
    test: NotRequired[StrictInt]


@with_config(_OTHERS_TOO)
class Tuning(TypedDict):
    """Which tuning a run belongs to, what it tried, and whether the run may read the test split."""

    of: StrictStr
    settings: dict[str, StrictFloat | StrictInt]
    judged: StrictBool


class PlannedUnder(TypedDict):
    """What a round's strategy was told of one condition of the data."""

    name: StrictStr
    base_accuracy: Annotated[StrictFloat | StrictInt, Field(ge=0, le=1)]
    input_mean: InputFigures
    input_variance: InputFigures


class PlannedFor(TypedDict):
    """What a round's strategy was told that stands nowhere else in the store."""

    limits: dict[Metric, Annotated[StrictFloat | StrictInt, Field(gt=0)]]
    """What plans were made for: each target as a share of the base model's figure, tightened by ``margin``."""
    margin: Annotated[StrictFloat | StrictInt, Field(ge=0, lt=1)]
    images: Annotated[StrictInt, Field(ge=1)]
    """Behind one accuracy."""
    input_mean: InputFigures
    input_variance: InputFigures
    conditions: NotRequired[list[PlannedUnder]]


class FederatedPolicy(TypedDict):
    """What sites have learnt together, as this run's site got it."""

    policy: StrictStr
    """Blob of the network."""
    site: StrictStr
    """Name of this run's site there."""
    round: Annotated[StrictInt, Field(ge=1)]
    """Of the federation, after which it stood so."""
    rounds: Annotated[StrictInt, Field(ge=1)]
    updates: Annotated[StrictInt, Field(ge=0)]
    """Gradient steps that this site took for it."""


class TrainedRung(TypedDict):
    """A finalist's weights after a rung of training, and its accuracy on the validation split."""

    weights: StrictStr
    validation_accuracy: StrictFloat | StrictInt


class TrainedInFull(TypedDict):
    """How long a network was trained in full."""

    passes: Annotated[StrictFloat | StrictInt, Field(ge=0)]
    """Over its images."""
    seconds: Annotated[StrictFloat | StrictInt, Field(ge=0)]


# ---------------------------------------------------------------- what a run began with

STARTED = Fact("started", str)
"""ISO time."""
FINISHED_AT = Fact("finished", str)
"""ISO time; absent while the run can go on."""
STATUS = Fact("status", str)
FAILURE = Fact("failure", str)
"""Why the run cannot go on, in a sentence."""
SECONDS = Fact("seconds", float)
"""Of work, pauses taken off."""
CONFIG = Fact("config", Config)
FOLDER = Fact("folder", str)
"""In which the run was started."""
INVENTORY = Fact("inventory", str)
"""The file that was named; absent: the default one."""
RECORDING = Fact("recording", str)
"""Name of the file of the board's answers, in the run's folder."""
TUNING = Fact("tuning", Tuning)
CODE = Fact("code", dict[str, str])
"""The user's files that were imported, and the model's own file → their SHA-256."""
WEIGHTS_FILE = Fact("weights file", dict[str, str | None])
"""The user's checkpoint → its SHA-256."""
SEED = Fact("seed", int)
VERSIONS = Fact("versions", dict[str, str])
GIT = Fact("git", str)
"""Commit of the folder in which the run was started."""

# ---------------------------------------------------------------- data and device

SPLITS = Fact("splits", StoredSplits)
SKIPPED = Fact("skipped", list[str])
"""Images that could not be read."""
CLASSES = Fact("classes", list[str])
TASK = Fact("task", StoredTask)
"""Absent: classification, as of a run of an older version."""
INPUT = Fact("input", Input)
FORMAT = Fact("format", str)
"""Of the model files, as the device names it; a file of the user's own by its name alone."""
DEVICE = Fact("device", NamedDevice)
DEVICE_FACTS = Fact("facts", DeviceFacts)
MODES = Fact("modes", dict[str, Any])
"""Power modes that the board was put into, and those that it refused."""
CALIBRATION = Fact("calibration", Calibration)
SPREADS = Fact("spreads", dict[str, Spread])
"""How far processes differ, by metric, as the base model against itself showed."""
CHANNEL_STEP = Fact("channel step", int)
FLEET = Fact("fleet", Fleet)
"""Which boards measure, and by what they differ; absent: the run has one board."""

# ---------------------------------------------------------------- what came of it

BASE = Fact("base", Figures)
"""By itself with the mean accuracy over the conditions of the data; ``of(condition)`` with that under one of them."""
BASE_WEIGHTS = Fact("base_weights", str)
"""Blob of the base model's weights."""
PRECISION = Fact("precision", PrecisionDecision)
DECISIONS: tuple[Fact[Any], ...] = (PRECISION,)
"""What was decided for the whole network, in that order: each kind's record says ``why``, whether it ``changes`` the
network's files at all, and holds ``base``, the figures of the uncut network that is made so."""
SPACE = Fact("space", SearchSpace)
"""``of(number)`` a round's; by itself the last round's, which holds the chosen network."""
PLANNED_FOR = Fact("planned for", PlannedFor)
"""``of(number)`` a round's."""
POLICY = Fact("policy", str)
"""``of(number)`` a round's: blob of the network that its strategy has learnt. By itself: that of another run, which the
search began with."""
FEDERATED = Fact("federated policy", FederatedPolicy)
"""Of the federation of sites that the run took part in last; its own policy stays as it is."""
CARRIED = Fact("carried", dict[str, float])
"""``of(number)`` what a round's strategy hands to that of the next one: group → figure."""
LEARNT = Fact("learnt", list[Burst])
"""``of(number)`` how that network learnt."""
USAGE = Fact("usage", Usage)
"""``of(number)`` a round's search."""
RUNG = Fact("rung", TrainedRung)
"""``of(name)`` a finalist's training."""
TRAINED_IN_FULL = Fact("trained in full", TrainedInFull)
"""``of(name)`` an artifact's training."""
HALF_PRECISION = Fact("training in half precision", bool)
"""Whether trainings compute in it, as was found before the first of them."""
TRAINER = Fact("trainer", dict[str, str])
"""The user's file that trained the chosen network → its SHA-256."""
WINNER = Fact("winner", str)
"""``of(number)`` a round's artifact; of several conditions ``of("number condition")``."""
VERIFIED = Fact("verified", VerifiedAccuracy)
"""``of(sha256)`` a model file."""
CHOSEN = Fact("chosen", str)
"""The artifact to deploy; of several conditions that of the first."""
BASELINE = Fact("baseline", Baseline)
"""``of(name)`` a static baseline."""
RIVALS = Fact("rivals", list[Baseline])
"""Networks that the user might have taken instead, measured and scored as the run's own."""
TRAINED_BASELINE = Fact("baseline-weights", str)
"""``of(stage)`` a baseline's training: the blob of its weights."""
ADAPTATION = Fact("adaptation", Adaptation)
"""The last ladder and controller that were made of the run."""
