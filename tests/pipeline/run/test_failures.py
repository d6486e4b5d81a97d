"""Finalists that fail: one by one they are left out; a whole batch that fails alike ends the run."""

from __future__ import annotations

import pytest

from pipeline.errors import CandidateError, MeasureError
from pipeline.events import Event, Note
from pipeline.run.failures import Failures


def failures(said: list[Event] | None = None, candidates: int = 40) -> Failures:
    return Failures([].append if said is None else said.append, candidates)


def let_fail(here: Failures, *errors: CandidateError | None) -> None:
    for error in errors:
        with here.left_out(f"r1t{len(here.found)}"):
            if error is not None:
                raise error


def diverged(step: int) -> CandidateError:
    return CandidateError(f"training diverged: the loss is nan at step {step}; lower the learning rate (now 3)")


def test_a_failure_is_said_and_the_next_finalist_has_its_turn() -> None:
    said: list[Event] = []
    here = failures(said)
    let_fail(here, diverged(3), None)
    assert said == [Note(f"finalist r1t0 failed and is left out: {diverged(3)}")]
    here.stop_if_systematic(2)


def test_a_whole_batch_that_fails_alike_ends_the_run_before_the_other_candidates_are_tried() -> None:
    here = failures()
    let_fail(here, *map(diverged, range(9)))
    with pytest.raises(
        CandidateError, match=r"the same error in 9 consecutive finalists.*no other candidate is tried.*step 0"
    ):
        here.stop_if_systematic(9)


def test_a_few_a_part_or_different_failures_do_not_end_it() -> None:
    here = failures()
    let_fail(here, diverged(1), diverged(2))
    here.stop_if_systematic(2)  # two may be chance
    let_fail(here, diverged(3), diverged(4), None, diverged(5))
    here.stop_if_systematic(6)
    mixed = failures()
    let_fail(mixed, diverged(1), MeasureError("the runtime crashed: signal 9"), diverged(3))
    mixed.stop_if_systematic(3)


def test_small_batches_that_fail_alike_one_after_the_other_end_it_as_well() -> None:
    here = failures()
    for step in range(2):
        let_fail(here, diverged(step))
        here.stop_if_systematic(1)
    let_fail(here, diverged(2))
    with pytest.raises(CandidateError, match="the same error in 3 consecutive finalists"):
        here.stop_if_systematic(1)


def test_a_success_before_the_training_ends_no_row() -> None:
    here = failures()
    for step in range(3):
        with here.left_out(f"measured {step}", ends_a_row=False):
            pass
        let_fail(here, diverged(step))
    with pytest.raises(CandidateError, match="the same error in 3 consecutive finalists"):
        here.stop_if_systematic(1)


def test_where_every_candidate_was_tried_that_is_what_is_told() -> None:
    here = failures(candidates=3)
    let_fail(here, *map(diverged, range(3)))
    here.stop_if_systematic(3)
    assert str(here.none_left()).startswith("no finalist is left: 3 of 3 failed; the first that failed was r1t0: ")
    few = failures(candidates=5)
    let_fail(few, diverged(1))
    assert "1 of 5 failed; the others miss a target, measured longer" in str(few.none_left())
