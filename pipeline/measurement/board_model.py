"""Board model: what network, board and a board's drift each have in latency ratios measured on several boards.

A linear mixed model of the logarithm of the ratio r to the base model, of network c on board b:

    log r_cb = network_c + board_b + drift_b x_cb + interaction_cb + noise_cb

``network_c`` is fixed: no estimate of one network is drawn towards others. ``board_b``, ``drift_b`` and
``interaction_cb`` are random with a variance each. x_cb is the logarithm of how much slower the base model ran beside
it than when the run began: what slows both alike leaves a ratio as it is, and what does not shows in ``drift_b``. The
noise of each measurement has the variance that its interval says. The base model itself has a ratio of 1 on every
board, so it tells nothing here.

Only networks that were measured on several boards tell boards apart; one that was measured on one takes its own effect
with it. The variances are those of the highest restricted likelihood (Patterson and Thompson, Biometrika 58, 1971); the
boards' effects are their best linear unbiased predictions, with their prediction error variances (Henderson, Biometrics
31, 1975). Textbook: Searle, Casella and McCulloch, Variance Components (1992), chapters 6 and 7. Of few networks on
several boards, what is of the board and what of the interaction cannot be told apart, and the two get equal parts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.measurement.intervals import NORMAL_95, student_t
from pipeline.records import Interval, Measurement, OverBoards, VarianceComponents

Floats = NDArray[np.float64]

_START = (0.02, 0.2, 0.02)
"""Standard deviations of board, drift and interaction from which the search for the likeliest begins."""
_MOST = (1.0, 2.0, 1.0)
"""The largest that are believed: boards of one kind are no more apart."""
_LEAST_NOISE = 1e-4
"""No ratio is known better."""
_UPPER_DECILE = 0.9


@dataclass(frozen=True, slots=True)
class Reading:
    """One network's latency ratio on one board, as logarithms."""

    network: str
    board: str
    log_ratio: float
    variance: float
    """Of ``log_ratio``, by its interval."""
    drift: float
    """Logarithm of how much slower the board had become."""


@dataclass(frozen=True, slots=True)
class Effect:
    """A random effect's prediction and the variance of its error."""

    value: float
    variance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardModel:
    """Boards' effects on logarithms of latency ratios, and how far they can be trusted."""

    components: VarianceComponents
    boards: Mapping[str, Effect]
    """Over the boards' mean; of each board that measured anything."""
    drifts: Mapping[str, Effect]
    """A ratio's change over a board's own."""

    def over_boards(self, measured: Interval, board: str, drift: float, over: OverBoards) -> Interval:
        """Return what a ratio measured on one board is over all of them.

        The interval holds the errors of the board's effects as well, and what the network may have of its own there.

        Args:
            measured: the ratio.
            board: which.
            drift: logarithm of how much slower it had become.
            over: which figure over the boards.
        """
        effect, slope = self.boards.get(board, Effect(0.0, self.components.board**2)), self._drift(board)
        shift = self.above_mean(over) - effect.value - slope.value * drift
        own = (_half_of_logarithm(measured) / student_t(measured.freedom)) ** 2
        added = effect.variance + slope.variance * drift**2 + self.components.interaction**2
        half = max(NORMAL_95 * math.sqrt(own + added), _half_of_logarithm(measured))
        value = measured.value * math.exp(shift)
        return Interval(value, value * math.exp(-half), value * math.exp(half))

    def factor(self, board: str, over: OverBoards) -> float:
        """Return what a ratio on a board that has not drifted is over that of all boards.

        A limit for all boards, times this, is the limit on that one.
        """
        effect = self.boards.get(board)
        return math.exp((0.0 if effect is None else effect.value) - self.above_mean(over))

    def above_mean(self, over: OverBoards) -> float:
        """Return how much higher that figure over the boards is than their mean, as a logarithm of ratios."""
        return figure_over([effect.value for effect in self.boards.values()], over)

    def effect(self, board: str) -> Interval | None:
        """Return ratios on a board over those of all boards, as a factor; None: it has measured nothing."""
        if (found := self.boards.get(board)) is None:
            return None
        half = NORMAL_95 * math.sqrt(found.variance)
        return Interval(math.exp(found.value), math.exp(found.value - half), math.exp(found.value + half))

    def _drift(self, board: str) -> Effect:
        return self.drifts.get(board, Effect(0.0, self.components.drift**2))


def figure_over(figures: Sequence[float], over: OverBoards) -> float:
    """Return the figure over boards that counts; quantiles are interpolated between boards.

    >>> figure_over([1.0, 2.0, 3.0], "mean"), figure_over([1.0, 2.0, 3.0], "worst"), figure_over([1.0, 2.0], "q90")
    (2.0, 3.0, 1.9)
    """
    if not figures:
        return 0.0
    if over == "worst":
        return max(figures)
    return float(np.mean(figures) if over == "mean" else np.quantile(figures, _UPPER_DECILE))


def reading(measured: Measurement) -> Reading | None:
    """Return a measurement that one of several boards took as the model takes it; None: it has no ratio."""
    board, ratio = measured.board, measured.ratio if measured.board is None else measured.board.ratio or measured.ratio
    if board is None or ratio is None:
        return None
    variance = (_half_of_logarithm(ratio) / student_t(ratio.freedom)) ** 2
    return Reading(board.network, board.name, math.log(ratio.value), variance, math.log1p(board.slowdown))


def fit(readings: Iterable[Reading]) -> BoardModel | None:
    """Return the model; None where no network was measured on two boards."""
    everything = list(readings)
    merged = _merged(everything)
    networks = sorted({one.network for one in merged})
    if not networks:
        return None
    boards = sorted({one.board for one in everything})
    design = _Design.of(merged, networks, boards)
    deviations = design.likeliest()
    return design.model(deviations, len(networks))


def _merged(readings: Sequence[Reading]) -> list[Reading]:
    """Return one reading of each network on each board, of the networks that were measured on several.

    Those of one network on one board share their interaction: they count by their precision, as one.
    """
    cells: dict[str, dict[str, list[Reading]]] = defaultdict(lambda: defaultdict(list))
    for one in readings:
        cells[one.network][one.board].append(one)
    return [_mean(found) for on in cells.values() if len(on) > 1 for found in on.values()]


def _mean(readings: Sequence[Reading]) -> Reading:
    weights = np.array([1 / max(_LEAST_NOISE**2, one.variance) for one in readings])
    ratio, drift = (float(np.average([getattr(one, name) for one in readings], weights=weights))
                    for name in ("log_ratio", "drift"))  # fmt: skip
    return Reading(readings[0].network, readings[0].board, ratio, float(1 / weights.sum()), drift)


@dataclass(frozen=True, slots=True)
class _Design:
    """The model's matrices; n readings, c networks, b boards."""

    boards: Sequence[str]
    y: Floats
    """Logarithms of ratios, (n,)."""
    fixed: Floats
    """Which network, (n, c)."""
    random: Floats
    """Which board, (n, b)."""
    slopes: Floats
    """The board's drift at its place, (n, b)."""
    noise: Floats
    """Variances, (n,)."""

    @classmethod
    def of(cls, readings: Sequence[Reading], networks: Sequence[str], boards: Sequence[str]) -> _Design:
        at = np.arange(len(readings))
        fixed, random = np.zeros((len(readings), len(networks))), np.zeros((len(readings), len(boards)))
        fixed[at, [networks.index(one.network) for one in readings]] = 1.0
        random[at, [boards.index(one.board) for one in readings]] = 1.0
        return cls(
            boards=boards,
            y=np.array([one.log_ratio for one in readings]),
            fixed=fixed,
            random=random,
            slopes=random * np.array([one.drift for one in readings])[:, None],
            noise=np.array([max(_LEAST_NOISE**2, one.variance) for one in readings]),
        )

    def likeliest(self) -> Floats:
        """Return the standard deviations of board, drift and interaction of the highest restricted likelihood."""
        from scipy.optimize import minimize  # takes its time to import

        bounds = [(0.0, most) for most in _MOST]
        found = minimize(self._minus_log_likelihood, _START, method="L-BFGS-B", bounds=bounds)
        return np.asarray(found.x)

    def model(self, deviations: Floats, networks: int) -> BoardModel:
        board, drift, interaction = (float(deviation) for deviation in deviations)
        projection = self._projection(deviations)
        boards = _predicted(self.random, projection, self.y, board**2, centred=True)
        return BoardModel(
            components=VarianceComponents(
                board=board, drift=drift, interaction=interaction, noise=math.sqrt(float(self.noise.mean())),
                networks=networks,
            ),
            boards=dict(zip(self.boards, boards, strict=True)),
            drifts=dict(zip(self.boards, _predicted(self.slopes, projection, self.y, drift**2), strict=True)),
        )  # fmt: skip

    def _variance(self, deviations: Floats) -> Floats:
        board, drift, interaction = np.square(deviations)
        grouped = board * self.random @ self.random.T + drift * self.slopes @ self.slopes.T
        return np.asarray(grouped + np.diag(self.noise + interaction))

    def _minus_log_likelihood(self, deviations: Floats) -> float:
        """Return the restricted log likelihood's negative, a constant left out (Searle et al., 6.66)."""
        variance = self._variance(deviations)
        inverse = np.asarray(np.linalg.inv(variance), dtype=np.float64)
        within = self.fixed.T @ inverse @ self.fixed
        explained = self.y @ self._projected(inverse, within) @ self.y
        return 0.5 * float(np.linalg.slogdet(variance)[1] + np.linalg.slogdet(within)[1] + explained)

    def _projection(self, deviations: Floats) -> Floats:
        inverse = np.asarray(np.linalg.inv(self._variance(deviations)), dtype=np.float64)
        return self._projected(inverse, self.fixed.T @ inverse @ self.fixed)

    def _projected(self, inverse: Floats, within: Floats) -> Floats:
        """Return the inverse variance with the fixed effects taken out, (n, n)."""
        along = inverse @ self.fixed
        return np.asarray(inverse - along @ np.linalg.solve(within, along.T))


def _predicted(
    design: Floats, projection: Floats, y: Floats, variance: float, *, centred: bool = False
) -> list[Effect]:
    """Return each random effect's best linear unbiased prediction and its prediction error variance.

    Args:
        centred: over their mean, so that what all have in common is in neither.
    """
    count = design.shape[1]
    about = np.eye(count) - (1 / count if centred else 0.0)
    values = about @ (variance * design.T @ projection @ y)
    errors = about @ (variance * np.eye(count) - variance**2 * design.T @ projection @ design) @ about.T
    return [Effect(float(value), max(0.0, float(error))) for value, error in zip(values, np.diag(errors), strict=True)]


def _half_of_logarithm(figure: Interval) -> float:
    """Return half the interval of a figure's logarithm."""
    return math.asinh(figure.half_width / figure.value)
