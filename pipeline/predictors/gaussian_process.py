"""Gaussian process with a linear part: a cost as a sum over features plus a smooth residual.

Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), equations 2.25, 2.26 (prediction) and 5.8
(the scales are those of the highest marginal likelihood).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]

_SCALES = 4
_JITTER = 1e-10
_LEAST = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """Standard deviations, in the values' unit, before anything is measured."""

    linear: float
    """Of what one unit of a feature costs."""
    smooth: float
    """Of what features do together."""
    noise: float
    """Of one measurement."""
    length: float = 2.0
    """How far apart plans are, in features, that tell nothing of each other's smooth part."""


class CostProcess:
    """Learns values from features, (plans, features); the mean is 0 where all features are and nothing was learnt."""

    def __init__(self, prior: Scales, *, freedom: float = 10.0, tune_from: int = 10) -> None:
        """Take the scales believed in before anything is measured.

        Args:
            freedom: how many times larger or smaller the data may make each of them.
            tune_from: so many values are needed before the data may change them.
        """
        self.scales = prior
        self._prior = prior
        self._freedom, self._tune_from = freedom, tune_from
        self._features: Array = np.zeros((0, 0))
        self._weights: Array = np.zeros(0)
        self._factor: Array = np.zeros((0, 0))
        self._own: Array = np.zeros(0)
        """Variance that each measurement has by itself."""
        self._tuned_on = 0
        self._overfit = 1.0
        """By how much scales found from few values are too small: a degree of freedom is lost to each of them."""

    def fit(self, features: Array, values: Array, deviations: Array | None = None) -> None:
        """Learn ``values``, (plans,), from ``features``, (plans, features), in place of what was learnt before.

        Args:
            deviations: of each measurement by what it says itself, (plans,); the noise that all have comes on top.
        """
        self._own = np.zeros(len(values)) if deviations is None else deviations**2
        if len(values) >= max(self._tune_from, 1.2 * self._tuned_on):
            self.scales, self._tuned_on = self._likeliest(features, values), len(values)
            self._overfit = len(values) / (len(values) - _SCALES)
        self._features = features
        self._factor = np.asarray(np.linalg.cholesky(_noisy(features, self.scales, self._own)), dtype=np.float64)
        self._weights = cho_solve((self._factor, True), values)

    def mean(self, features: Array) -> Array:
        """Return the expected values, (plans,); several times cheaper than ``predict``."""
        if not len(self._features):
            return np.zeros(len(features))
        mean: Array = _likeness(features, self._features, self.scales) @ self._weights
        return mean

    def mean_of_pairs(self, rest: Array, own: Array, at: NDArray[np.bool_]) -> Array:
        """Return the expected values of all features put together of two parts, (plans, levels).

        As ``mean`` of plans · levels rows would, with plans + levels exponentials: the likeness of such features to a
        measured plan is the product of the likenesses of their parts.

        Args:
            rest: (plans, features), read where ``at`` is False.
            own: (levels, features), read where it is True.
            at: (features,).
        """
        if not len(self._features):
            return np.zeros((len(rest), len(own)))
        scales, slopes = self.scales, self._features.T @ self._weights
        linear = (rest[:, ~at] @ slopes[~at])[:, None] + own[:, at] @ slopes[at]
        of_rest = _nearness(rest[:, ~at], self._features[:, ~at], scales.length)
        of_own = _nearness(own[:, at], self._features[:, at], scales.length)
        mean: Array = scales.linear**2 * linear + scales.smooth**2 * (of_rest * self._weights) @ of_own.T
        return mean

    def predict(self, features: Array, deviation: float | None = None) -> tuple[Array, Array]:
        """Return the mean and the standard deviation of one measurement's value, (plans,) each.

        Args:
            deviation: the measurement's own; None: the median of those that were learnt from.
        """
        scales = self.scales
        typical = float(np.median(self._own)) if len(self._own) else 0.0
        own = typical if deviation is None else deviation**2
        variance = scales.linear**2 * (features**2).sum(1) + scales.smooth**2 + scales.noise**2
        if not len(self._features):
            return np.zeros(len(features)), np.sqrt(variance + own)
        likeness = _likeness(features, self._features, scales)
        known = solve_triangular(self._factor, likeness.T, lower=True)
        left = np.maximum(variance - (known**2).sum(0), scales.noise**2)
        return likeness @ self._weights, np.sqrt(left * self._overfit + own)

    def _likeliest(self, features: Array, values: Array) -> Scales:
        """Return the scales of the highest marginal likelihood within the freedom that they have."""
        prior = np.log([self._prior.linear, self._prior.smooth, self._prior.noise, self._prior.length])
        width = np.log([self._freedom, self._freedom, self._freedom, min(self._freedom, 3.0)])
        bounds = list(zip(prior - width, prior + width, strict=True))

        def unlikely(logs: Array) -> float:
            factor = np.linalg.cholesky(_noisy(features, _scales(logs), self._own))
            explained = solve_triangular(factor, values, lower=True)
            doubt = ((logs - prior) / width) ** 2  # the prior's own, half a unit at the bounds
            return float((explained**2).sum() / 2 + np.log(np.diag(factor)).sum() + doubt.sum() / 2)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a step beyond what is finite is taken back by the search
            found = minimize(unlikely, prior, method="L-BFGS-B", bounds=bounds)
        return _scales(found.x)


def _scales(logarithms: Array) -> Scales:
    linear, smooth, noise, length = (float(scale) for scale in np.exp(logarithms))
    return Scales(linear=linear, smooth=smooth, noise=noise, length=length)


def _likeness(one: Array, other: Array, scales: Scales) -> Array:
    """Return the covariance of two sets of plans, (plans, plans)."""
    nearness = _nearness(one, other, scales.length)
    likeness: Array = scales.linear**2 * (one @ other.T) + scales.smooth**2 * nearness
    return likeness


def _nearness(one: Array, other: Array, length: float) -> Array:
    """Return how near two sets of plans are, (plans, plans): 1 where they are the same, to 0."""
    distances = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
    nearness: Array = np.exp(-np.maximum(distances, 0.0) / (2 * length**2))
    return nearness


def _noisy(features: Array, scales: Scales, own: Array) -> Array:
    noise = max(scales.noise, _LEAST) ** 2 + _JITTER
    covariance: Array = _likeness(features, features, scales) + np.diag(noise + own)
    return covariance
