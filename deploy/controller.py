"""The controller of an adaptive bundle: which of its networks answers a frame, or whether the last answer is kept.

    from controller import Controller

    adaptive = Controller.open("my-model")
    for frame in camera:
        answer = adaptive.step(frame)
        print(answer.label, answer.variant)

The networks are the variants of a ladder, the cheapest first, run by runtime.py beside this file; controller.json
holds the settings. The rule is a cascade: a variant starts, and where its softmax margin is small, another one answers;
while a frame is like the one that was answered last, that answer is kept. Where a learned policy ships, two small
networks choose the variants instead, and the rule takes over, and says why, as soon as their inputs are not what they
were trained on. Needs Python 3.6 and numpy. ``python controller.py IMAGE ...`` shows the decisions.
"""

import json
import math
import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

if __package__:  # in the package that writes bundles
    from deploy import runtime as bundles
else:
    import runtime as bundles  # type: ignore[no-redef]

SETTINGS = "controller.json"
KEEP = -1
"""In place of a variant: the last answer is kept."""
ROWS, CELLS = 16, 8
"""Rows of a frame that are looked at, and cells of its thumbnail along each side, at most."""
LONGEST_KEPT = 16
"""Frames for which an answer can be kept at most."""
STATISTICS_DECAY, SLOW_DECAY, FAST_DECAY = 0.9, 0.95, 0.7
"""A frame's averages: of its statistics and of disagreement; of margins, slowly and fast."""
SLOWDOWN_GAIN = 0.25
LATENESS_DEVIATIONS = 2.0
"""A variant fits into the deadline if it does with a slow-down so many mean deviations above the mean."""
STATISTICS = ("brightness", "log variance", "log difference of neighbours", "log second difference")
ANSWERS = ("log difference from the answered frame", "margin", "margin, fast average", "margin, slow average",
           "disagreement", "age")  # fmt: skip
INPUTS = STATISTICS + ANSWERS
"""Of the learned policy, before the variant that answered last."""
SENSOR_EVERY = 30
"""Frames between two looks at the sensors."""

Sensor = Callable[[], float]


class Frame(NamedTuple):
    """What is looked at of a frame before any network runs."""

    statistics: Tuple[float, float, float, float]
    thumbnail: np.ndarray


class Answer(NamedTuple):
    """The answer to one frame, and how it came about."""

    label: str
    probability: float
    probabilities: np.ndarray
    margin: float
    """Between the two highest probabilities."""
    variant: str
    """The network that gave it."""
    kept: bool
    """It is the answer to an earlier frame."""
    escalated: bool
    """A second network was asked."""
    late: bool
    """It took longer than the deadline."""
    ms: float
    by: str
    """``rule`` or ``learned``."""
    why: str
    """Why the rule decided where a learned policy ships; else empty."""


class Decision(NamedTuple):
    """One entry of the ring."""

    frame: int
    first: int
    last: int
    margin: float
    ms: float
    late: bool
    by: str


class _Shape:
    """What frames of one shape are summed up with: products with constants are the quickest that NumPy has."""

    def __init__(self, height: int, width: int) -> None:
        down, across = min(CELLS, height), min(CELLS, width)
        self.cell = float((height // down) * (width // across))
        self.rows, self.columns = _blocks(down, height), _blocks(across, width).T
        self.ones = np.ones(height * width, np.float32)
        self.first, self.second = _in_one_row(height, width, 1), _in_one_row(height, width, 2)


def _blocks(count: int, length: int) -> np.ndarray:
    """Return a matrix of ``count`` rows: 1 where a block of ``length // count`` lies."""
    found, each = np.zeros((count, length), np.float32), length // count
    for number in range(count):
        found[number, number * each : (number + 1) * each] = 1
    return found


def _in_one_row(height: int, width: int, apart: int) -> np.ndarray:
    """Return, of each pixel in reading order, 1 where the one so far behind it is of its row, else 0.

    Divided by the root of how many there are, so that a product's squares add up to a mean.
    """
    place = np.arange(height * width)[: max(0, height * width - apart)] % width
    found = (place < width - apart).astype(np.float32)
    return found / np.float32(math.sqrt(max(1.0, float(found.sum()))))


_SHAPES = {}  # type: Dict[Tuple[int, ...], _Shape]
_MOST_SHAPES = 16
_ONES = np.ones(CELLS * CELLS, np.float32)


def look(pixels: np.ndarray) -> Frame:
    """Return the statistics and the thumbnail of a frame, height x width x channels, 0 to 255.

    Of one channel, and of 16 to 31 of its rows, so that a large frame takes little more time than a small one.
    """
    step = max(1, pixels.shape[0] // ROWS)
    grey = pixels[step // 2 :: step, :, pixels.shape[2] // 2].astype(np.float32)
    shape = _SHAPES.get(grey.shape)
    if shape is None:
        if len(_SHAPES) >= _MOST_SHAPES:
            _SHAPES.clear()
        shape = _SHAPES[grey.shape] = _Shape(*grey.shape)
    flat = grey.ravel()
    mean = float(flat.dot(shape.ones)) / flat.size
    variance = max(0.0, float(flat.dot(flat)) / flat.size - mean * mean)
    change = flat[1:] - flat[:-1]
    bend = change[1:] - change[:-1]
    change *= shape.first
    bend *= shape.second
    thumbnail = shape.rows.dot(grey).dot(shape.columns)
    thumbnail /= shape.cell
    statistics = (
        mean / 255.0, math.log1p(variance), math.log1p(float(change.dot(change))), math.log1p(float(bend.dot(bend)))
    )  # fmt: skip
    return Frame(statistics, thumbnail)


def _mean_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean distance of two thumbnails."""
    apart = (one - other).ravel()
    np.abs(apart, out=apart)
    return float(apart.dot(_ONES[: len(apart)])) / len(apart)


def margin_of(probabilities: np.ndarray) -> float:
    """Return by how much the likeliest class leads."""
    if len(probabilities) < 2:
        return 1.0
    two = np.partition(probabilities, -2)[-2:]
    return float(two[1] - two[0])


class Slowdown:
    """How much slower than measured the board is now: a mean and a mean deviation, as TCP keeps its round trips.

    (V. Jacobson, "Congestion Avoidance and Control", 1988.)
    """

    def __init__(self) -> None:
        self.mean, self.deviation = 1.0, 0.05

    def observe(self, factor: float) -> None:
        error = factor - self.mean
        self.mean += SLOWDOWN_GAIN * error
        self.deviation += SLOWDOWN_GAIN * (abs(error) - self.deviation)

    @property
    def expected(self) -> float:
        """The factor by which a variant is taken to be slower where it must not be late."""
        return self.mean + LATENESS_DEVIATIONS * self.deviation


class State:
    """What the controller remembers from frame to frame; -1: nothing has been answered."""

    def __init__(self) -> None:
        self.answer = self.variant = -1
        self.age = 0
        self.margin = self.fast = self.slow = 0.8
        self.disagreement = 0.2
        self.statistics = None  # type: Optional[List[float]]
        self.thumbnail = None  # type: Optional[np.ndarray]
        self.slowdown = Slowdown()

    def see(self, frame: Frame) -> float:
        """Take in a frame's statistics; return the difference from the answered one: mean, of 255."""
        if self.statistics is None:
            self.statistics = list(frame.statistics)
        else:
            keep = STATISTICS_DECAY
            self.statistics = [keep * old + (1 - keep) * new for old, new in zip(self.statistics, frame.statistics)]
        if self.thumbnail is None:
            return 255.0
        return _mean_difference(frame.thumbnail, self.thumbnail)

    def inputs(self, difference: float) -> List[float]:
        """Return the learned policy's inputs, in the order of ``INPUTS``."""
        assert self.statistics is not None
        return self.statistics + [
            math.log(0.5 + difference), self.margin, self.fast, self.slow, self.disagreement, self.age / LONGEST_KEPT
        ]  # fmt: skip

    def take(self, frame: Frame, answers: Sequence[int], variants: Sequence[int], margins: Sequence[float]) -> None:
        """Take in what one variant answered, or two, one after the other."""
        self.fast = FAST_DECAY * self.fast + (1 - FAST_DECAY) * margins[0]
        self.slow = SLOW_DECAY * self.slow + (1 - SLOW_DECAY) * margins[0]
        if len(variants) > 1:
            differs = 1.0 if answers[0] != answers[1] else 0.0
            self.disagreement = STATISTICS_DECAY * self.disagreement + (1 - STATISTICS_DECAY) * differs
        self.answer, self.variant, self.margin, self.age = answers[-1], variants[-1], margins[-1], 0
        self.thumbnail = frame.thumbnail


class Keep:
    """When the last answer is kept: the frame is like the one that was answered, which was sure, not long ago."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.difference = float(settings["difference"])
        """Of thumbnails, mean, of 255."""
        self.margin = float(settings["margin"])
        self.frames = min(LONGEST_KEPT, int(settings["frames"]))

    def allows(self, state: State, difference: float) -> bool:
        return difference < self.difference and state.margin > self.margin and state.age < self.frames


class Rule:
    """A cascade that remembers."""

    def __init__(self, settings: Mapping[str, Any], variants: int) -> None:
        self.start = int(settings["start"])
        self.gate = float(settings["gate"])
        """Below this slow average of the margins, ``instead`` starts."""
        self.instead = int(settings["instead"])
        self.escalate_to = int(settings["escalate_to"])
        self.threshold = float(settings["threshold"])
        """Below this margin ``escalate_to`` answers as well."""
        self.sticky_difference = float(settings["sticky_difference"])
        """Of frames: while they differ by less, and the last answer was hardly sure, ``escalate_to`` starts."""
        self.keep = Keep(settings["keep"])
        for variant in (self.start, self.instead, self.escalate_to):
            if not 0 <= variant < variants:
                raise ValueError("the rule names variant %d of %d" % (variant, variants))

    def first(self, state: State, difference: float) -> int:
        variant = self.instead if state.slow < self.gate else self.start
        hardly = state.margin < 0.5 + 0.5 * self.threshold
        if state.variant == self.escalate_to and hardly and difference < self.sticky_difference:
            return self.escalate_to
        return variant

    def second(self, first: int, margin: float) -> int:
        return self.escalate_to if margin < self.threshold else first


class Net:
    """One hidden layer of ReLUs, its numbers in JSON."""

    def __init__(self, settings: Mapping[str, Any], inputs: int, outputs: int) -> None:
        self.hidden, self.bias, self.out, self.last = (
            np.array(settings[name], np.float32) for name in ("hidden", "bias", "out", "last")
        )
        shapes = self.hidden.shape, self.bias.shape, self.out.shape, self.last.shape
        units = len(self.bias)
        if shapes != ((inputs, units), (units,), (units, outputs), (outputs,)):
            raise ValueError("a network of shapes %s; expected %d inputs, %d outputs" % (shapes, inputs, outputs))
        if not all(np.isfinite(part).all() for part in (self.hidden, self.bias, self.out, self.last)):
            raise ValueError("a network with numbers that are not finite")

    def __call__(self, values: np.ndarray) -> np.ndarray:
        hidden = values.dot(self.hidden)
        hidden += self.bias
        return self.output(hidden)

    def output(self, hidden: np.ndarray) -> np.ndarray:
        """Return what comes of the hidden units before their ReLU, which is done in place."""
        np.maximum(hidden, 0, out=hidden)
        answer = hidden.dot(self.out)  # type: np.ndarray
        answer += self.last
        return answer


class _Folded:
    """A network for one frame at a time: scales, and inputs that take few values, are in its numbers already."""

    def __init__(self, net: Net, std: np.ndarray, variants: int) -> None:
        count = len(INPUTS)
        self.rest = net.hidden[count + variants :]
        """The weights of what follows the inputs and the variant that answered last."""
        self._weights = net.hidden[:count] / std[:, None]
        self._bias = [net.bias + net.hidden[count + variant] for variant in range(variants)] + [net.bias]

    def hidden(self, inputs: np.ndarray, variant: int) -> np.ndarray:
        """Return the hidden units before their ReLU, what follows left out; ``variant``: -1 for none.

        Args:
            inputs: less their means, which lose digits where they are subtracted later.
        """
        found = inputs.dot(self._weights)  # type: np.ndarray
        found += self._bias[variant]
        return found


class Learned:
    """Two networks that predict by how much each variant is likelier to be right; what that is worth, the price says.

    The first predicts the value of starting with a variant over that of the reference, escalation counted in; the
    second, once a variant has answered, how much likelier each other one is to be right. Their inputs are ``INPUTS``,
    scaled, which variant answered last, and the price's logarithm, or which one answered now and ``OWN``.
    """

    def __init__(self, settings: Mapping[str, Any], costs: Sequence[float]) -> None:
        variants = len(costs)
        self.mean, self.std, self.low, self.high = (
            np.array(settings[name], np.float32) for name in ("mean", "std", "low", "high")
        )
        if not all(len(part) == len(INPUTS) for part in (self.mean, self.std, self.low, self.high)):
            raise ValueError("it is of other inputs than %s" % ", ".join(INPUTS))
        self.first_net = Net(settings["first"], len(INPUTS) + variants + 1, variants)
        self._first = _Folded(self.first_net, self.std, variants)
        self.second_net = self._second = None  # type: Any
        if settings["second"] is not None:
            self.second_net = Net(settings["second"], len(INPUTS) + 2 * variants + len(OWN), variants)
            self._second = _Folded(self.second_net, self.std, variants)
        self.hysteresis = float(settings["hysteresis"])
        self._costs = [float(cost) for cost in costs]
        self._bounds = list(zip(self.low.tolist(), self.high.tolist()))

    def outside(self, inputs: Sequence[float]) -> int:
        """Return which input is outside of what training saw; -1: none."""
        for number, (low, high) in enumerate(self._bounds):
            if not low <= inputs[number] <= high:
                return number
        return -1

    def first(self, inputs: np.ndarray, price: float, variant: int, fits: Sequence[bool]) -> int:
        """Return the variant that starts, of those that fit; ``variant``: the one that answered last, or -1.

        Args:
            inputs: less their means.
        """
        hidden = self._first.hidden(inputs, variant)
        hidden += self._first.rest[0] * np.float32(math.log(price + 0.01))
        worth = self._worth(self.first_net.output(hidden), price)
        if variant >= 0:
            worth[variant] += self.hysteresis
        return _best(worth, fits)

    def second(
        self, inputs: np.ndarray, price: float, variant: int, first: int, own: Sequence[float], fits: Sequence[bool]
    ) -> int:
        """Return the variant that answers in the end; ``first`` has answered now, what ``own`` says."""
        if self._second is None:
            return first
        hidden, rest = self._second.hidden(inputs, variant), self._second.rest
        hidden += rest[first]
        hidden += np.array(own, np.float32).dot(rest[len(self._costs) :])
        worth = self._worth(self.second_net.output(hidden), price)
        worth[first] = 0.0
        return _best(worth, [fit or number == first for number, fit in enumerate(fits)])

    def _worth(self, values: np.ndarray, price: float) -> List[float]:
        return [value - price * cost for value, cost in zip(values.tolist(), self._costs)]


def _best(worth: Sequence[float], fits: Sequence[bool]) -> int:
    """Return the first of the largest, of those that fit; the first of all where none does."""
    found, most = 0, -math.inf
    for number, value in enumerate(worth):
        if fits[number] and value > most:
            found, most = number, value
    return found


OWN = ("margin", "log odds of the margin", "same class as before")
"""What the second network is told of the first variant's answer."""


def own_of(margin: float, same: bool) -> Tuple[float, float, float]:
    """Return it, in the order of ``OWN``."""
    return margin, -math.log(1.0 - margin + 1e-4) / 5.0, float(same)


class Point:
    """One operating point: the rule, and at which price and how long kept the learned policy works."""

    def __init__(self, settings: Mapping[str, Any], variants: int) -> None:
        self.rule = Rule(settings["rule"], variants)
        learned = settings["learned"] or {"price": 0.0, "keep": settings["rule"]["keep"]}
        self.price, self.keep = float(learned["price"]), Keep(learned["keep"])
        """Of one unit of cost, in probabilities of a right answer."""


class Policy:
    """Rule, learned policy and deadline together: decides frame by frame, runs nothing."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        variants = settings["variants"]
        self.latencies_ms = [float(variant["latency_ms"]) for variant in variants]
        self.costs = [float(variant["cost"]) for variant in variants]
        deadline = settings["deadline_ms"]
        self.deadline_ms = math.inf if deadline is None else float(deadline)
        self.points = {name: Point(point, len(variants)) for name, point in settings["points"].items()}
        self.state, self.point = State(), self.points["normal"]
        self.learned = None  # type: Optional[Learned]
        self.broken = self.sensor_fault = ""
        if settings["learned"] is not None:
            try:
                self.learned = Learned(settings["learned"], self.costs)
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                self.broken = "the learned policy cannot be read: %s" % error
        self.by, self.why = "rule", self.broken
        self._inputs = None  # type: Optional[np.ndarray]
        self._frame = Frame((0.0, 0.0, 0.0, 0.0), np.zeros((1, 1), np.float32))

    def first(self, frame: Frame, spent_ms: float = 0.0) -> int:
        """Return the variant that starts, or KEEP."""
        state = self.state
        difference = state.see(frame)
        self._frame, self._inputs = frame, self._learned_inputs(difference)
        self.by = "rule" if self._inputs is None else "learned"
        keep = self.point.rule.keep if self._inputs is None else self.point.keep
        if state.answer >= 0 and keep.allows(state, difference):
            state.age += 1
            return KEEP
        fits = self._fitting(spent_ms)
        if self._inputs is not None and self.learned is not None:
            return self.learned.first(self._inputs, self.point.price, state.variant, fits)
        variant = self.point.rule.first(state, difference)
        return variant if fits[variant] else max(number for number, fit in enumerate(fits) if fit)

    def second(self, first: int, answer: int, margin: float, spent_ms: float) -> int:
        """Return the variant that answers in the end; ``first``: no other is asked."""
        expected, wait_ms = self.state.slowdown.expected, self.deadline_ms - spent_ms
        fits = [expected * latency <= wait_ms for latency in self.latencies_ms]
        if self._inputs is not None and self.learned is not None:
            own = own_of(margin, answer == self.state.answer)
            return self.learned.second(self._inputs, self.point.price, self.state.variant, first, own, fits)
        variant = self.point.rule.second(first, margin)
        return variant if fits[variant] else first

    def done(self, answers: Sequence[int], variants: Sequence[int], margins: Sequence[float], ms: float) -> None:
        """Take in what the variants answered, and how long they took together."""
        self.state.take(self._frame, answers, variants, margins)
        self.state.slowdown.observe(ms / sum(self.latencies_ms[variant] for variant in variants))

    def _learned_inputs(self, difference: float) -> Optional[np.ndarray]:
        """Return what the learned policy goes by; None, and why, where the rule decides."""
        self.why = self.broken or self.sensor_fault
        if self.learned is None or self.why:
            return None
        found = np.array(self.state.inputs(difference), np.float32)
        outside = self.learned.outside(found.tolist())
        if outside >= 0:
            self.why = "%s is outside of what the learned policy was trained on" % INPUTS[outside]
            return None
        found -= self.learned.mean
        return found

    def _fitting(self, spent_ms: float) -> List[bool]:
        """Return which variants are in time; where none is, the cheapest has to do."""
        expected, wait_ms = self.state.slowdown.expected, self.deadline_ms - spent_ms
        fits = [expected * latency <= wait_ms for latency in self.latencies_ms]
        fits[0] = fits[0] or not any(fits)
        return fits


class Controller:
    """A ladder of open networks, and the policy that chooses among them."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        models: Sequence[Any],
        sensors: Optional[Mapping[str, Sensor]] = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Take settings and a runtime.Model for each variant; ``sensors``: see ``open``, but None is none."""
        self._settings, self.policy = settings, Policy(settings)
        self.names = [str(variant["name"]) for variant in settings["variants"]]
        self.limits = settings["limits"]  # type: Mapping[str, Sequence[Optional[float]]]
        self.ring: "deque[Decision]" = deque(maxlen=int(settings["ring"]))
        self.resident_bytes = 0
        self._models, self._clock, self._sensors = list(models), clock, dict(sensors or {})
        self._last = None  # type: Any
        self._count = 0
        unknown = sorted(set(self._sensors) - set(self.limits))
        if unknown:
            raise ValueError("there are no limits for %s; known: %s" % (", ".join(unknown), ", ".join(self.limits)))

    @classmethod
    def open(
        cls,
        folder: Any,
        runtime: Optional[str] = None,
        verify: bool = True,
        sensors: Optional[Mapping[str, Sensor]] = None,
    ) -> "Controller":
        """Open all networks of an adaptive bundle.

        ``sensors``: functions that return a number, by the names under ``limits`` in controller.json: temperature_c,
        throttled, battery; None: what the system tells of these (``system_sensors``). Beyond its limit, the policy
        saves; one that fails leaves the choice to the rule.
        ``runtime`` and ``verify`` as of runtime.Model.open; raises BundleError alike.
        """
        place = Path(os.path.realpath(str(folder)))
        manifest = bundles.verified(place) if verify else bundles.read_manifest(place)
        before = process_bytes()
        networks: Dict[str, Any] = {}
        try:
            settings = json.loads((place / SETTINGS).read_text(encoding="utf-8"))
            files = [bundles.plain_name(variant["file"]) for variant in settings["variants"]]
            Policy(settings)
        except (ArithmeticError, OSError, LookupError, TypeError, ValueError) as error:
            raise bundles.BundleError("%s has no %s that can be read (%s); pull it again" % (place, SETTINGS, error))
        for file in files:  # several variants may be one network
            if file not in networks:
                networks[file] = bundles.Model(manifest, bundles.opened(str(place / file), manifest, runtime))
        if sensors is None:
            known = system_sensors()
            sensors = {name: known[name] for name in known if name in settings["limits"]}
        found = cls(settings, [networks[file] for file in files], sensors)
        found.resident_bytes = max(0, process_bytes() - before)
        return found

    def step(self, image: Any) -> Answer:
        """Return the answer to the next frame: a path, a Pillow image or an array, as runtime.Model.predict takes."""
        start, policy, fed = self._clock(), self.policy, self._models[0].input
        if self._count % SENSOR_EVERY == 0 and self._sensors:
            self._read_sensors()
        self._count += 1
        is_pixels = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim in (2, 3)
        pixels = (
            np.atleast_3d(image) if is_pixels else bundles.as_input(image, fed)
        )  # pixels are looked at as they come
        first = policy.first(look(pixels), self._since(start))
        if first == KEEP:
            return self._note(start, [])
        batch = bundles.normalised(bundles.as_input(image, fed) if is_pixels else pixels, fed)
        variants, began = [first], self._clock()
        answers = [self._models[first].answer(batch)]
        margins = [margin_of(answers[0].probabilities)]
        second = policy.second(first, int(answers[0].probabilities.argmax()), margins[0], self._since(start))
        if second != first:
            variants.append(second)
            answers.append(self._models[second].answer(batch))
            margins.append(margin_of(answers[1].probabilities))
        ms = self._since(began)
        policy.done([int(answer.probabilities.argmax()) for answer in answers], variants, margins, ms)
        self._last = answers[-1]
        return self._note(start, variants)

    def _note(self, start: float, variants: Sequence[int]) -> Answer:
        policy, found, ms = self.policy, self._last, self._since(start)
        variant, margin, late = policy.state.variant, policy.state.margin, ms > policy.deadline_ms
        asked = (variants[0], variants[-1]) if variants else (KEEP, KEEP)
        self.ring.append(Decision(self._count - 1, asked[0], asked[1], margin, ms, late, policy.by))
        return Answer(
            found.label, found.probability, found.probabilities, margin, self.names[variant], not variants,
            len(variants) > 1, late, ms, policy.by, policy.why,
        )  # fmt: skip

    @property
    def decision_us(self) -> float:
        """What a decision takes here, networks left out; see the function of this name."""
        return decision_us(self._settings, self._models[0].input["shape"])

    @property
    def watched(self) -> List[str]:
        """The sensors that are looked at."""
        return sorted(self._sensors)

    def _read_sensors(self) -> None:
        """Save where a sensor is beyond its limits; leave the choice to the rule where one fails."""
        is_beyond, fault = False, ""
        for name, sensor in self._sensors.items():
            try:
                value = float(sensor())
                if not math.isfinite(value):
                    raise ValueError("it says %r" % value)
            except Exception as error:  # a user's function may raise anything
                fault = "sensor %s failed: %s" % (name, error)
                continue
            low, high = self.limits[name]
            is_beyond = is_beyond or (low is not None and value < low) or (high is not None and value > high)
        self.policy.point = self.policy.points["saving" if is_beyond else "normal"]
        self.policy.sensor_fault = fault

    def _since(self, start: float) -> float:
        return 1000.0 * (self._clock() - start)


def system_sensors(root: str = "/") -> Dict[str, Sensor]:
    """Return what Linux tells without a program or a right: the hottest thermal zone in degrees Celsius, whether a
    Raspberry Pi's firmware throttles now (0 or 1), and the share of a battery that is left (1 while it is charged)."""
    place = Path(root)
    zones = [zone for zone in sorted(place.glob("sys/class/thermal/thermal_zone*")) if _is_processors(zone)]
    batteries = [one for one in sorted(place.glob("sys/class/power_supply/*")) if _line(one / "type") == "Battery"]
    firmware = place / "sys/devices/platform/soc/soc:firmware/get_throttled"
    found = {}  # type: Dict[str, Sensor]
    if zones:
        found["temperature_c"] = lambda: max(float(_required(zone / "temp")) / 1000.0 for zone in zones)
    if _line(firmware):
        found["throttled"] = lambda: float(int(_required(firmware), 16) & _THROTTLED_NOW != 0)
    if batteries:
        found["battery"] = lambda: min(_charge(battery) for battery in batteries)
    return found


_THROTTLED_NOW = 0b1111
"""Of get_throttled's bits; those from 16 on are of the past."""
_ELSEWHERE = ("pmic", "wifi")
"""In the names of zones that are not the processor's: a Jetson's PMIC says 50 or 100 degrees for ever."""


def _is_processors(zone: Path) -> bool:
    kind = _line(zone / "type").lower()
    try:
        return not any(word in kind for word in _ELSEWHERE) and -40 < float(_line(zone / "temp")) / 1000.0 < 150
    except ValueError:
        return False


def _charge(battery: Path) -> float:
    return float(_required(battery / "capacity")) / 100.0 if _line(battery / "status") == "Discharging" else 1.0


def _required(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def _line(path: Path) -> str:
    """Return a file's text; empty where it cannot be read."""
    try:
        return _required(path)
    except (OSError, ValueError):
        return ""


def process_bytes() -> int:
    try:
        with open("/proc/self/statm") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def decision_us(settings: Mapping[str, Any], shape: Sequence[int], decisions: int = 300) -> float:
    """Return the median time of a decision in microseconds, here: what the controller itself takes of a frame.

    Args:
        settings: controller.json.
        shape: of a frame: channels, height, width; its pixels and the answers are random.
    """
    random, policy = np.random.RandomState(0), Policy(settings)
    channels, height, width = shape
    frames = random.randint(0, 256, (8, height, width, channels)).astype(np.uint8)
    taken = []
    for number in range(decisions):
        start = time.perf_counter()
        first = policy.first(look(frames[number % len(frames)]))
        if first != KEEP:
            margin = float(random.rand())
            second = policy.second(first, number % 3, margin, 0.0)
            variants = [first] if second == first else [first, second]
            policy.done([number % 3] * len(variants), variants, [margin] * len(variants), 1.0)
        taken.append(time.perf_counter() - start)
    return 1e6 * float(np.median(taken))


def main(paths: List[str]) -> None:
    folder = Path(__file__).resolve().parent
    try:
        adaptive = Controller.open(folder)
    except bundles.BundleError as error:
        raise SystemExit(str(error))
    print("%d networks are open, %.1f MB: %s" % (
        len(adaptive.names), adaptive.resident_bytes / 1e6, ", ".join(adaptive.names)
    ))  # fmt: skip
    print("sensors: %s" % (", ".join(adaptive.watched) or "none that this system tells"))
    print("a decision takes %.0f microseconds here, networks left out" % adaptive.decision_us)
    if not paths:
        print("no image given: these are random pixels, the answers mean nothing")
    frames: List[Any] = list(paths) or [bundles.random_input(adaptive._models[0].input)] * 3
    for frame in frames:
        found = adaptive.step(frame)
        how = "kept" if found.kept else "%s%s" % (found.variant, ", asked second" if found.escalated else "")
        shown = frame if isinstance(frame, str) else "random"
        print("%s  %s  %.1f%%  %.2f ms  (%s)" % (shown, found.label, 100 * found.probability, found.ms, how))


bundles.remove_bytecode(__file__, globals().get("__cached__"))

if __name__ == "__main__":
    main(sys.argv[1:])
