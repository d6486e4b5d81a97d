"""Selection: which candidates become finalists, and which finalist is deployed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from pipeline.events import Note
from pipeline.measurement.feasibility import possibly_meets
from pipeline.records import FULL, Artifact, Trial
from pipeline.run.failures import Failures
from pipeline.run.finalists import Finalists
from pipeline.run.successive_halving import Rung, cost, rungs_of
from pipeline.run.training_stage import discard_checkpoint
from pipeline.targets import Metric


def pick_finalists(trials: Sequence[Trial], limits: Mapping[Metric, float]) -> list[Trial]:
    """Return the trials that meet the targets, the best reward first, no two of the same network.

    And those that miss a target by less than their interval: the best networks press against it, and which side of it
    such a one was measured on is chance.
    """
    met = [
        t for t in trials
        if t.reward is not None and t.measurement and (t.feasible or possibly_meets(t.measurement, limits))
    ]  # fmt: skip
    first: dict[str, Trial] = {}
    for trial in sorted(met, key=lambda t: (-(t.reward or 0.0), t.index)):
        first.setdefault(trial.key, trial)
    return list(first.values())


def choose(finalists: Finalists, ranked: Sequence[Trial]) -> Artifact | None:
    """Return the artifact to deploy: of the finalists that meet the targets as whole files the most accurate.

    A candidate too near a target to tell is measured longer before it becomes a finalist.
    Finalists are fine-tuned by rungs (see ``successive_halving``) and compared on the validation split; whole files
    are measured of those in the last rung; the best of these is fine-tuned in full. One that fails, because its
    training diverges or the device refuses its file, is left out. Only if none of them meets the targets do the next
    best candidates get their turn. None: no candidate does.

    Raises:
        CandidateError: none is left, and not only because of the targets; or all that were tried fail alike.
    """
    if not ranked:
        return None
    context = finalists.context
    rungs = rungs_of(context.config.fine_tuning, len(ranked), context.config.seed)
    if len(rungs) > 1:
        context.listen(Note(cost(rungs, len(context.data.train))))
    failures = Failures(context.listen, len(ranked))
    best = _best(finalists, _confirmed(finalists, ranked, failures), rungs, 0, failures)
    if best is None and failures.found:
        raise failures.none_left()
    for name in failures.found:  # only now: a run that ends here is resumed with what it has trained
        discard_checkpoint(context, name)
    return best


def _best(
    finalists: Finalists, trials: Iterable[Trial], rungs: Sequence[Rung], number: int, failures: Failures
) -> Artifact | None:
    """Return the best of those that get through all rungs from ``number`` on."""
    last = number == len(rungs) - 1
    for batch in batches(trials, rungs[number].finalists):
        scores: dict[int, float] = {}
        for trial, score in finalists.climb(batch, rungs, number):
            with failures.left_out(finalists.training(trial, rungs, number)):
                scores[trial.index] = score()
        failures.stop_if_systematic(len(batch))
        promoted = sorted((t for t in batch if t.index in scores), key=lambda t: -scores[t.index])
        if len(scores) > 1:
            finalists.announce({finalists.name(t): scores[t.index] for t in promoted})
        best = (
            _fine_tune_best(finalists, promoted, failures)
            if last
            else _best(finalists, promoted, rungs, number + 1, failures)
        )
        if best is not None:
            return best
    return None


def _fine_tune_best(finalists: Finalists, promoted: Sequence[Trial], failures: Failures) -> Artifact | None:
    """Return the best of those that have climbed the last rung, and as whole files meet the targets."""
    briefs: list[Artifact] = []
    for trial in promoted:
        with failures.left_out(finalists.name(trial)):
            briefs.append(finalists.fine_tune_short(trial))
    failures.stop_if_systematic(len(promoted))
    for brief in filter(finalists.meets_targets, briefs):
        name = f"{brief.id}{FULL}"
        with failures.left_out(name):
            full = finalists.fine_tune_full(brief)
        if name not in failures.found:
            return full
        failures.stop_if_systematic(1)
    return None


def batches(trials: Iterable[Trial], count: int) -> Iterator[list[Trial]]:
    """Yield trials ``count`` at a time."""
    rest = iter(trials)
    while batch := list(islice(rest, count)):
        yield batch


def _confirmed(finalists: Finalists, ranked: Sequence[Trial], failures: Failures) -> Iterator[Trial]:
    """Yield the trials that meet the targets; one too near them to tell is measured longer when it has its turn."""
    for trial in ranked:
        name, confirmed = finalists.name(trial), None
        with failures.left_out(name, ends_a_row=False):
            confirmed = finalists.confirm(trial)
        if name in failures.found:
            failures.stop_if_systematic(1)
        elif confirmed is not None:
            yield confirmed
