"""Accuracy model: a Gaussian process on the logit of evaluated plans' accuracies.

How sure an evaluation is depends on what it found: of n images a share p is right, so the logit's variance is about
1 / (n p (1 − p)) (delta method), at 99 % twenty-five times that at 50 %. With one noise for all, single cuts of a good
network, which lie near 100 %, made every prediction three times less sure than it was.

That chance is counted anew for each plan, though all are read on the same images and mostly err on the same ones. So
what was predicted of a ResNet-32 came out twice as unsure as it was; how far past plans were off scales it.

Beside each group's level it sees how much goes in all: of the groups, of the MACs, of the parameters. That more goes is
worse is so learnt from every plan at once, before each group's own part is known.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.predictors.cost_model import goes_along, owners, parents
from pipeline.predictors.error_scaling import Surprise
from pipeline.records import LEVELS, SearchSpace

if TYPE_CHECKING:  # scikit-learn takes a second to import
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Kernel

Array = NDArray[np.float64]

_REMOVED = len(LEVELS) - 1
_SHARES = np.array(LEVELS) / 100
_TUNE_AGAIN = 1.15
"""The kernel's parameters are found anew when there are so many times more plans."""
_IN_ALL = 2.0
"""How many groups' worth a sum over all groups counts. With 30 real evaluations on CIFAR-10, the cost model's latency
taken for the truth, the DQN's best net at 0.5x has 97.4 ± 0.2 % on ResNet-56 and 90.0 ± 0.0 % on ResNet-20 with the
sums, 93.8 ± 1.9 % and 89.4 ± 0.3 % without; at 0.7x ResNet-20 shows no difference (3 seeds, before fine-tuning)."""


_LEAST_SURPRISE = 0.5
_LEAST_DEVIATION = 1e-3
"""Of a logit: where nothing is left to be unsure of, any error is no surprise without end."""


class AccuracyModel:
    """Predicts the logit of a plan's accuracy; an additive part plus a smooth one (the plans' likeness)."""

    def __init__(self, space: SearchSpace, base_accuracy: float, images: int) -> None:
        """Believe the base network's accuracy and nothing else yet.

        Args:
            space: whose plans are to be predicted.
            base_accuracy: a known point.
            images: how many one accuracy is read on, which sets how noisy it is.
        """
        self._images = images
        self._owner, self._parent = owners(space), parents(space)
        self._weights = _weights(space)
        self._base = base_accuracy
        self._process: GaussianProcessRegressor | None = None
        self._tuned_on = 0
        self._mean = 0.0
        self._believed: GaussianProcessRegressor | None = None
        """The process with pending plans as predicted."""
        self._known = 0
        self.surprise = Surprise(_LEAST_SURPRISE)
        """How far plans were off what was predicted of them."""

    def fit(self, levels: Sequence[Sequence[int]], accuracies: Sequence[float]) -> None:
        """Learn from level indices (plans, groups) and accuracies (plans,): the last time's, then new ones."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor

        groups = len(levels[0])
        features = self._features(np.array([[0] * groups, *levels]))
        targets, noise = self._logit(np.array([self._base, *accuracies]))
        self._be_surprised(features[self._known + 1 :], targets[self._known + 1 :])
        self._mean = float(targets.mean())
        if self._process is None or len(targets) > _TUNE_AGAIN * self._tuned_on:
            self._process = GaussianProcessRegressor(_kernel(), alpha=noise, random_state=0)
            self._tuned_on = len(targets)
        else:  # the kernel's parameters hardly change by one point more, and finding them is what takes the time
            self._process = GaussianProcessRegressor(self._process.kernel_, alpha=noise, optimizer=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length scale at its bound is a fair answer
            self._process.fit(features, targets - self._mean)
        self._known, self._believed = len(levels), None

    def believe(self, levels: Sequence[Sequence[int]]) -> None:
        """Take pending plans for what is predicted of them, until the next fit.

        What is expected of any plan stays; what is near them is no longer worth as much as if they were not begun
        (Ginsbourger et al. 2010, kriging believer).
        """
        from sklearn.gaussian_process import GaussianProcessRegressor

        if self._process is None or not len(levels):
            return
        mean = self.mean(np.array(levels))
        noise = self._logit(accuracy_of(mean))[1]
        features = np.concatenate([self._process.X_train_, self._features(np.array(levels))])
        targets = np.concatenate([self._process.y_train_, mean - self._mean])
        alpha = np.concatenate([self._process.alpha, noise])
        self._believed = GaussianProcessRegressor(self._process.kernel_, alpha=alpha, optimizer=None)
        self._believed.fit(features, targets)

    def _be_surprised(self, features: Array, targets: Array) -> None:
        """Compare new plans with what the process predicted before it saw them."""
        if self._process is None or not len(targets):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a variance of -1e-16 set to 0
            mean, deviation = self._process.predict(features, return_std=True)
        for off in (targets - self._mean - mean) / np.maximum(deviation, _LEAST_DEVIATION):
            self.surprise.note(float(off))

    def predict(self, levels: NDArray[np.int64]) -> tuple[Array, Array]:
        """Return mean and standard deviation of the logit, (plans,) each."""
        if self._process is None:
            base = np.full(len(levels), self._logit(np.array([self._base]))[0][0])
            return base - sum(part.sum(1) for part in self._cuts(levels)) * 0.3, np.ones(len(levels))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a variance of -1e-16 set to 0
            process = self._believed or self._process
            mean, deviation = process.predict(self._features(levels), return_std=True)
        return mean + self._mean, deviation * self.surprise.scale

    def expected(self, levels: NDArray[np.int64]) -> Array:
        """Return the expected accuracy (the mean's), (plans,)."""
        return accuracy_of(self.mean(levels))

    def mean(self, levels: NDArray[np.int64]) -> Array:
        """Return the logit's mean, (plans,); many times cheaper than ``predict``."""
        process = self._process
        if process is None:
            return self.predict(levels)[0]
        linear, smooth, length, _ = np.exp(process.kernel_.theta)
        seen, weights, plans = process.X_train_, process.alpha_, self._features(levels)
        distances = (plans**2).sum(1)[:, None] + (seen**2).sum(1) - 2 * plans @ seen.T
        mean = linear * (weights.sum() + plans @ (seen.T @ weights))
        mean = mean + smooth * np.exp(distances / (-2 * length**2)) @ weights
        logit: Array = mean + self._mean
        return logit

    def _logit(self, accuracies: Array) -> tuple[Array, Array]:
        """Return the logit and its variance by chance alone, (plans,) each."""
        margin = 0.5 / self._images
        share = np.clip(accuracies, margin, 1 - margin)
        return np.log(share / (1 - share)), 1 / (self._images * share * (1 - share))

    def _features(self, levels: NDArray[np.int64]) -> Array:
        """Return what plans do to each group, and to all of them, (plans, features)."""
        cuts = self._cuts(levels)
        return np.concatenate([*cuts, *(part @ self._weights for part in cuts)], 1)

    def _cuts(self, levels: NDArray[np.int64]) -> tuple[Array, Array]:
        """Return each group's level as a share, and whether its block is gone, (plans, groups) each."""
        gone = levels == _REMOVED
        # What follows a block that goes is no change of its own.
        follows = gone & ((self._owner != np.arange(levels.shape[1])) | goes_along(levels, self._parent))
        return np.where(follows, 0.0, _SHARES[levels]), (gone & ~follows).astype(float)


def _weights(space: SearchSpace) -> Array:
    """Return how much each group counts in all: as every other, by its MACs, by its parameters, (groups, 3)."""
    parts = np.array([[1.0, group.macs, group.parameters] for group in space.groups])
    weights: Array = _IN_ALL * np.sqrt(len(parts)) * parts / parts.sum(0)
    return weights


def _kernel() -> Kernel:
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

    return (
        ConstantKernel(1.0, (1e-3, 1e3)) * DotProduct(1.0, "fixed")
        + ConstantKernel(1.0, (1e-3, 1e3)) * RBF(1.5, (0.3, 10.0))
        + WhiteKernel(0.01, (1e-4, 1.0))
    )


def accuracy_of(logit: Array) -> Array:
    """Return the accuracy of a logit."""
    return 1 / (1 + np.exp(-logit))
