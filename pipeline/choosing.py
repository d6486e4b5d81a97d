"""After the search: which candidates become finalists, and which of these is deployed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from pipeline.errors import CandidateError
from pipeline.events import Note
from pipeline.finalists import Finals
from pipeline.learning import forget
from pipeline.records import FULL, Artifact, Trial
from pipeline.targets import Metric


def pick_finalists(trials: Sequence[Trial], limits: Mapping[Metric, float]) -> list[Trial]:
    """Return the feasible trials, the best first, no two of the same network.

    Those whose figures are in doubt come last. Among the others, first those that meet the latency target beyond
    doubt: with the upper end of the confidence interval too.
    """
    feasible = [t for t in trials if t.feasible and t.reward is not None]
    ranked = sorted(
        feasible, key=lambda t: (in_doubt(t), not _surely_fast(t, limits), -(t.reward or 0.0), t.index)
    )  # fmt: skip
    first: dict[str, Trial] = {}
    for trial in ranked:
        first.setdefault(trial.key, trial)
    return list(first.values())


def in_doubt(trial: Trial) -> bool:
    """Return whether the trial's figures may be wrong: throttled, noisy and the like, twice in a row."""
    return trial.measurement is not None and bool(trial.measurement.flags)


def choose(finals: Finals, ranked: Sequence[Trial], count: int) -> Artifact | None:
    """Return the artifact to deploy: of ``count`` finalists that meet the targets as whole files the most accurate.

    Finalists are fine-tuned briefly and compared on the validation split; the best is then fine-tuned in full. One
    that fails, because its training diverges or the device refuses its file, is left out. Only if none of them meets
    the targets do the next best candidates get their turn. None: no candidate does.

    Raises:
        CandidateError: none is left, and not only because of the targets.
    """
    failed: dict[str, CandidateError] = {}
    best = _best(finals, ranked, count, failed)
    if best is None and failed:
        raise _none_left(len(ranked), failed)
    for name in failed:  # only now: a run that ends here is resumed with what it has trained
        forget(finals.context, name)
    return best


def _best(finals: Finals, ranked: Sequence[Trial], count: int, failed: dict[str, CandidateError]) -> Artifact | None:
    for batch in batches(ranked, count):
        briefs: list[Artifact] = []
        for trial in batch:
            with _left_out(finals, finals.name(trial), failed):
                briefs.append(finals.brief(trial))
        scores = {brief.id: finals.validated(brief) for brief in briefs if finals.holds(brief)}
        for brief in sorted((b for b in briefs if b.id in scores), key=lambda b: -scores[b.id]):
            finals.announce(brief, scores)
            with _left_out(finals, f"{brief.id}{FULL}", failed):
                artifact = finals.full(brief)
                if finals.holds(artifact):
                    return artifact
    return None


@contextmanager
def _left_out(finals: Finals, name: str, failed: dict[str, CandidateError]) -> Iterator[None]:
    """Go on after a finalist's failure, which is said and put down."""
    try:
        yield
    except CandidateError as error:
        failed[name] = error
        finals.context.listen(Note(f"finalist {name} failed and is left out: {error}"))


def _none_left(count: int, failed: Mapping[str, CandidateError]) -> CandidateError:
    name, error = next(iter(failed.items()))
    missed = "" if len(failed) == count else "; the others miss a target as whole files"
    return CandidateError(
        f"no finalist is left: {len(failed)} of {count} failed{missed}; the first that failed was {name}: {error}"
    )


def batches(ranked: Sequence[Trial], count: int) -> Iterator[Sequence[Trial]]:
    """Yield finalists ``count`` at a time; no doubtful one stands beside one that is not in doubt."""
    for doubtful in (False, True):
        alike = [trial for trial in ranked if in_doubt(trial) == doubtful]
        yield from (alike[i : i + count] for i in range(0, len(alike), count))


def _surely_fast(trial: Trial, limits: Mapping[Metric, float]) -> bool:
    ratio = trial.measurement.ratio if trial.measurement else None
    return "latency" not in limits or (
        ratio is not None and bool(np.isfinite(ratio.high)) and ratio.high <= limits["latency"]
    )
