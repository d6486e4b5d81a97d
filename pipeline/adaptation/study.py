"""Study of a ladder: answers, variants that earn their place, settings, judgement, in this order.

Half of the images that no variant was trained on tunes, the other half selects, under kinds of corruption that tuning
has not seen; the test split judges, and is read only once all is chosen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.adaptation.choice import Choice, choose
from pipeline.adaptation.frames import Frames, Scores, answer_frames, conditions_of
from pipeline.adaptation.judgement import decisions_of, judge
from pipeline.adaptation.streams import Ladder, Streams, compose
from pipeline.adaptation.variants import chosen_variants
from pipeline.data.conditions import JUDGING, TRAINING, Condition
from pipeline.data.conditions.kinds import COLOURS_ALONE
from pipeline.data.dataset import Split
from pipeline.durations import say_duration
from pipeline.errors import DataError
from pipeline.events import Listener, Note, Stage, StageProgress
from pipeline.records.adaptation import Decisions, DroppedVariant, JudgedStreams

SELECTED_EVERY = 3
"""Of the kinds of corruption for training: every third is kept from the controller's tuning, and selects."""
_FEWEST_IMAGES = 20
_TIMED_IMAGES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is looked at."""

    images: int = 400
    """Of each half, and of the test split, at most."""
    views: int = 2
    severities: tuple[int, ...] = (1, 3, 5)
    streams: int = 24
    """Of each judged set, and of tuning and selection together coherent and iid."""
    length: int = 1000


QUICK = Size(images=60, views=1, severities=(2, 5), streams=24, length=200)


@dataclass(frozen=True, kw_only=True)
class Studied:
    """What came of it."""

    ladder: Ladder
    kept: tuple[int, ...]
    """Places of the ladder's variants among the candidates."""
    dropped: tuple[DroppedVariant, ...]
    clean: tuple[float, ...]
    corrupted: tuple[float, ...]
    """Shares of right answers of each kept variant, on the selection half."""
    choice: Choice
    judged: tuple[JudgedStreams, ...]
    decisions: Decisions
    frames: int


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """What is wanted of a controller."""

    size: Size
    most: int
    """Variants."""
    plain: str
    """The variant that would be deployed alone; it stays."""
    floor: float | None
    seed: int
    budget_s: float | None = None
    """For answering frames; fewer images are taken where they would take longer. None: as many as the size says."""


def study(
    candidates: Sequence[Scores], ladder: Ladder, unseen: tuple[Split, Split], test: Split, settings: StudySettings, *,
    listen: Listener, stop: Callable[[], None] = lambda: None,
) -> Studied:  # fmt: skip
    """Choose variants and settings, and judge them against every opponent.

    Args:
        candidates: the answers of each of the ladder's variants.
        ladder: in the order of their costs.
        unseen: halves of what no variant was trained on.
        test: the test split.
        settings: what is wanted.
        listen: hears every step.
        stop: called now and then; may raise.

    Raises:
        DataError: there are too few images.
    """
    size = _affordable(candidates, unseen[0], settings, listen)
    tuned_kinds, selecting_kinds = _kinds(kinds_of(TRAINING, test))
    answering = _Answering(size=size, seed=settings.seed, listen=listen, stop=stop)
    tuning_frames = answering.frames(
        "Answer the tuning half", unseen[0], candidates, conditions_of(tuned_kinds, size.severities), 0
    )
    kept, dropped = chosen_variants(tuning_frames, ladder, most=settings.most, keep=[settings.plain])
    for one in dropped:
        listen(Note(f"variant {one.name} is left out: {one.why}"))
    chosen, ladder = [candidates[i] for i in kept], ladder.of_variants(kept)
    plain = ladder.names.index(settings.plain)
    selecting = answering.frames(
        "Answer the selection half", unseen[1], chosen, conditions_of(selecting_kinds, size.severities), 1
    )
    tuning = _both(tuning_frames.of_variants(kept), ladder, size, settings.seed + 10)
    selection = _both(selecting, ladder, size, settings.seed + 20)
    choice = choose(tuning, selection, plain=plain, floor=settings.floor, seed=settings.seed, listen=listen)
    stop()
    judged, decisions, frames = _judged(answering, chosen, ladder, test, choice, tuning, settings.seed)
    return Studied(
        ladder=ladder, kept=tuple(kept), dropped=tuple(dropped), clean=tuple(selecting.accuracies[0].tolist()),
        corrupted=tuple(selecting.accuracies[1:].mean(0).tolist()), choice=choice, judged=judged, decisions=decisions,
        frames=tuning_frames.count + selecting.count + frames,
    )  # fmt: skip


def kinds_of(kinds: Sequence[str], images: Split) -> tuple[str, ...]:
    """Return the kinds that change these images at all: grey ones have no colours."""
    grey = images.pool.read(images.indices[:1]).shape[1] == 1
    return tuple(kind for kind in kinds if not (grey and kind in COLOURS_ALONE))


def _kinds(training: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the kinds that tune, and those that select."""
    numbered = list(enumerate(training, 1))
    return (
        [kind for number, kind in numbered if number % SELECTED_EVERY],
        [kind for number, kind in numbered if not number % SELECTED_EVERY],
    )


def _judged(
    answering: _Answering, chosen: Sequence[Scores], ladder: Ladder, test: Split, choice: Choice,
    tuning: Sequence[Streams], seed: int,
) -> tuple[tuple[JudgedStreams, ...], Decisions, int]:  # fmt: skip
    """Read the test split, this once, and return the table of each set of streams."""
    size, found, shown, frames = answering.size, [], None, 0
    for number, (seen, kinds) in enumerate(((True, kinds_of(TRAINING, test)), (False, kinds_of(JUDGING, test)))):
        which = "seen" if seen else "unseen"
        answered = answering.frames(
            f"Answer the test split, {which} kinds", test, chosen, conditions_of(kinds, size.severities), 2 + number
        )
        frames += answered.count
        for coherent in (True, False):
            answering.stop()
            answering.listen(Stage(f"Judge on {'coherent' if coherent else 'iid'} streams, {which} kinds"))
            streams = _composed(answered, ladder, size, size.streams, coherent, seed + 30 + 2 * number + coherent)
            found.append(judge(streams, choice, tuning, coherent=coherent, seen=seen))
            if coherent and not seen:
                shown = decisions_of(streams, choice)
    assert shown is not None
    return tuple(found), shown, frames


@dataclass(frozen=True, kw_only=True)
class _Answering:
    """Has variants answer frames, and says how far it is."""

    size: Size
    seed: int
    listen: Listener
    stop: Callable[[], None]

    def frames(
        self, title: str, images: Split, variants: Sequence[Scores], conditions: Sequence[Condition], number: int
    ) -> Frames:
        some = Split(images.pool, images.indices[: self.size.images], images.mean, images.std)
        self.listen(Stage(title, len(some) * self.size.views * len(conditions)))

        def on_frames(done: int) -> None:
            self.stop()
            self.listen(StageProgress(done, "frames"))

        return answer_frames(
            some, variants, conditions, views=self.size.views, seed=self.seed + 1000 * number, on_frames=on_frames
        )


def _affordable(candidates: Sequence[Scores], images: Split, settings: StudySettings, listen: Listener) -> Size:
    """Return the size with as many images as the budget allows."""
    size = settings.size
    if len(images) < _FEWEST_IMAGES:
        raise DataError(
            f"half of the validation split is {len(images)} images; to tune a controller at least {_FEWEST_IMAGES} are "
            "needed: give the run more data"
        )
    if settings.budget_s is None:
        return size
    few = Split(images.pool, images.indices[:_TIMED_IMAGES], images.mean, images.std)
    start = time.perf_counter()
    timed = answer_frames(few, candidates, conditions_of(TRAINING[:1], (3,)), views=1, seed=0).count
    frame_s = (time.perf_counter() - start) / timed
    conditions = 1 + 1 + 2 * (1 + len(TRAINING) * len(size.severities)) + len(JUDGING) * len(size.severities)
    affordable = int(settings.budget_s / (frame_s * conditions * size.views))
    if affordable >= size.images:
        return size
    images_now = max(_FEWEST_IMAGES, affordable)
    listen(Note(
        f"a frame takes all variants {1000 * frame_s:.3g} ms here: {images_now} images of each part instead of "
        f"{size.images}, to stay within {say_duration(settings.budget_s)}"
    ))  # fmt: skip
    return replace(size, images=images_now)


def _both(frames: Frames, ladder: Ladder, size: Size, seed: int) -> list[Streams]:
    """Return coherent and iid streams, half of the number each."""
    half = max(1, size.streams // 2)
    return [_composed(frames, ladder, size, half, coherent, seed + coherent) for coherent in (True, False)]


def _composed(frames: Frames, ladder: Ladder, size: Size, streams: int, coherent: bool, seed: int) -> Streams:
    slows_down = math.isfinite(ladder.deadline_ms)
    return compose(
        frames, ladder, streams=streams, length=size.length, coherent=coherent, slows_down=slows_down, seed=seed
    )


def ordered(
    names: Sequence[str], costs: Sequence[float], latencies_ms: Sequence[float], deadline_ms: float | None
) -> tuple[Ladder, list[int]]:
    """Return a ladder, the cheapest variant first, and where its variants stood before."""
    order = np.argsort(np.array(costs), kind="stable").tolist()
    ladder = Ladder(
        names=tuple(names[i] for i in order), costs=np.array(costs)[order], latencies_ms=np.array(latencies_ms)[order],
        deadline_ms=math.inf if deadline_ms is None else deadline_ms,
    )  # fmt: skip
    return ladder, order
