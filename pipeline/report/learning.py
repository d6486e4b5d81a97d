"""Whether a strategy's network has settled, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.records.learning import Burst

_SETTLED = 0.02
"""In units of the reward, 2 points of accuracy: by so much the values of the last third may differ."""


def settled(learnt: Sequence[Burst]) -> str:
    """Return whether the values of the same states still move, over the last third of the bursts.

    >>> bursts = [Burst(trial=n, updates=n, loss=0.1, value=v, exploration=0.2) for n, v in enumerate([.5, .1, .1, .1])]
    >>> settled(bursts)
    'the values have settled: they differ by 0.000 over the last third, by 0.400 over all'
    """
    values = [burst.value for burst in learnt]
    last = values[-max(2, len(values) // 3) :]
    moved, whole = max(last) - min(last), max(values) - min(values)
    state = "the values have settled" if moved <= _SETTLED else "the values still move"
    return f"{state}: they differ by {moved:.3f} over the last third, by {whole:.3f} over all"
