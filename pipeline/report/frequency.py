"""Whether a search pruned its layers by what they cost and by what they lose, in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.store.pruning_frequency import Correlation, PruningFrequency


def correlations(found: PruningFrequency) -> str:
    """Return how the mean levels go with what each layer saves and loses when it is cut alone; empty: not known.

    >>> from pipeline.store.pruning_frequency import Correlation, PruningFrequency
    >>> known = Correlation(rho=0.71, p=0.032, groups=9)
    >>> correlations(PruningFrequency(layers=(), with_saving=known, with_loss=None))
    'Mean levels go with the latency that a layer alone saves: rank correlation 0.71 over 9 layers, p 0.032.'
    """
    parts = [
        f"with the {what} that a layer alone {does}: rank correlation {of.rho:.2f} over {of.groups} layers, {_p(of)}"
        for of, what, does in ((found.with_saving, "latency", "saves"), (found.with_loss, "accuracy", "loses"))
        if of is not None
    ]
    return f"Mean levels go {'; '.join(parts)}." if parts else ""


def _p(of: Correlation) -> str:
    return "p < 0.001" if of.p < 0.001 else f"p {of.p:.2g}"
