"""After the search: which candidates become finalists, and which of these is deployed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.events import Note
from pipeline.failures import Failures
from pipeline.finalists import Finals
from pipeline.halving import Rung, cost, rungs_of
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


def choose(finals: Finals, ranked: Sequence[Trial]) -> Artifact | None:
    """Return the artifact to deploy: of the finalists that meet the targets as whole files the most accurate.

    Finalists are fine-tuned by rungs (see ``halving``) and compared on the validation split; whole files are measured
    of those in the last rung; the best of these is fine-tuned in full. One that fails, because its training diverges
    or the device refuses its file, is left out. Only if none of them meets the targets do the next best candidates get
    their turn. None: no candidate does.

    Raises:
        CandidateError: none is left, and not only because of the targets; or all that were tried fail alike.
    """
    if not ranked:
        return None
    context = finals.context
    rungs = rungs_of(context.config.recovery, len(ranked), context.config.seed)
    if len(rungs) > 1:
        context.listen(Note(cost(rungs, len(context.data.train))))
    failures = Failures(context.listen, len(ranked))
    best = _best(finals, ranked, rungs, 0, failures)
    if best is None and failures.found:
        raise failures.none_left()
    for name in failures.found:  # only now: a run that ends here is resumed with what it has trained
        forget(context, name)
    return best


def _best(
    finals: Finals, ranked: Sequence[Trial], rungs: Sequence[Rung], number: int, failures: Failures
) -> Artifact | None:
    """Return the best of those that get through all rungs from ``number`` on."""
    last = number == len(rungs) - 1
    for batch in batches(ranked, rungs[number].finalists):
        scores: dict[int, float] = {}
        for trial in batch:
            with failures.left_out(finals.training(trial, rungs, number)):
                scores[trial.index] = finals.climb(trial, rungs, number)
        failures.stop_if_systematic(len(batch))
        through = sorted((t for t in batch if t.index in scores), key=lambda t: -scores[t.index])
        if len(scores) > 1:
            finals.announce({finals.name(t): scores[t.index] for t in through})
        best = _in_full(finals, through, failures) if last else _best(finals, through, rungs, number + 1, failures)
        if best is not None:
            return best
    return None


def _in_full(finals: Finals, through: Sequence[Trial], failures: Failures) -> Artifact | None:
    """Return the best of those that have climbed the last rung, and as whole files meet the targets."""
    briefs: list[Artifact] = []
    for trial in through:
        with failures.left_out(finals.name(trial)):
            briefs.append(finals.brief(trial))
    failures.stop_if_systematic(len(through))
    for brief in filter(finals.holds, briefs):
        with failures.left_out(f"{brief.id}{FULL}"):
            artifact = finals.full(brief)
            if finals.holds(artifact):
                return artifact
        failures.stop_if_systematic(1)
    return None


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
