"""Acquisition functions on the accuracy's logit: probability of improvement, expected improvement.

The accuracy model knows an accuracy by its logit's mean and deviation, so both are computed there. Carried over to
accuracies (delta method), a plan predicted at 50 % with a deviation of 0.6 was taken to beat 85 % with 1.0 % instead
of 0.2 %, and to gain 13 times as much: at both ends of the scale a normal distribution is wider than what is there.

So computed, the two are equally good on toys as far as 32 searches by the control tell (8 groups, 30 evaluations, 0.5x
and 0.7x, 16 seeds each): 27 by the probability and 24 by the expected gain end within 2 % of the best reward that there
is; the paired difference is 0.013 ± 0.031 of it at 0.5x and 0.006 ± 0.004 at 0.7x, in favour of the probability.

    Kushner 1964 (probability of improvement), Mockus et al. 1978 (expected improvement)
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_ndtr

from pipeline.predictors.accuracy import accuracy_of
from pipeline.search.planner import Array

_LEAST_SHARE = 1e-4
"""Accuracies nearer to 0 or 1 have no logit that means anything."""
_IMPOSSIBLE = 1e6
"""Standard deviations for each unit by which an accuracy would have to be above 1; so of impossible plans, too, the
nearer one counts more."""
_LEAST_GAIN = 1e-300
_FARTHEST = 6.0
"""Standard deviations above the mean, or above what is needed, beyond which nothing counts."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)


def log_probability(logit: Array, deviation: Array, needed: Array) -> Array:
    """Return the logarithm of the probability that accuracies are higher than the needed ones, (plans,).

    >>> np.exp(log_probability(np.array([0.0]), np.array([1.0]), np.array([0.85]))).round(3).tolist()
    [0.041]
    """
    share = np.clip(needed, _LEAST_SHARE, 1 - _LEAST_SHARE)
    above = (logit - np.log(share / (1 - share))) / deviation + (share - needed) * _IMPOSSIBLE
    probability: Array = log_ndtr(above)
    return probability


def log_expected_gain(logit: Array, deviation: Array, needed: Array) -> Array:
    """Return the logarithm of by how much accuracies are expected to be above the needed ones, (plans,).

    What is below counts as no gain. By Gauss and Legendre's rule of 20 points over what is above: four digits are
    right, where Gauss and Hermite's, half of whose points gain nothing, is up to a quarter off.

    >>> np.exp(log_expected_gain(np.array([0.0]), np.array([1.0]), np.array([0.85]))).round(5).tolist()
    [0.00167]
    """
    share = np.clip(needed, _LEAST_SHARE, 1 - _LEAST_SHARE)
    least = np.maximum((np.log(share / (1 - share)) - logit) / deviation, -_FARTHEST)
    nearest = np.maximum(least, 0.0)
    width = (nearest + _FARTHEST - least) / 2
    at = least[:, None] + (_NODES + 1) * width[:, None]
    density = np.exp((nearest[:, None] ** 2 - at**2) / 2) / np.sqrt(2 * np.pi)  # over the highest in this range
    gain = (accuracy_of(logit[:, None] + deviation[:, None] * at) - needed[:, None]) * density @ _WEIGHTS * width
    logarithm: Array = np.log(np.maximum(gain, _LEAST_GAIN)) - nearest**2 / 2
    return logarithm
