"""Images that no network of a ladder has seen: of the validation split, or of the test split where weights know it."""

from __future__ import annotations

import pytest

from pipeline.data import load_data
from pipeline.records import Figures, Interval, Measurement
from pipeline.run.unseen_images import unseen_images


def figures(search: float, test: float | None) -> Figures:
    ms = Interval(1.0, 0.9, 1.1)
    measured = Measurement(p50_ms=ms, p90_ms=1.0, p99_ms=1.0, mean_ms=1.0, inferences=1, ratio=ms, power=None)
    return Figures(
        search_accuracy=search, test_accuracy=test, parameters=1, macs=1, size_bytes=1, measurement=measured
    )  # fmt: skip


@pytest.mark.parametrize("base", [figures(0.95, 0.94), figures(0.9, 0.95), figures(1.0, None)])
def test_halves_of_the_validation_split_tune_and_select_and_the_whole_test_split_judges(base: Figures) -> None:
    data = load_data("digits")
    found = unseen_images(data, base)
    parts = [set(part.indices.tolist()) for part in (found.tuning, found.selection)]
    assert parts[0] | parts[1] == set(data.val.indices.tolist())
    assert not parts[0] & parts[1]
    assert found.test is data.test
    assert found.note == ""


def test_weights_that_know_the_training_images_are_told_by_their_test_and_divide_it() -> None:
    data = load_data("digits")
    found = unseen_images(data, figures(1.0, 0.9))
    parts = [set(part.indices.tolist()) for part in (found.tuning, found.selection, found.test)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(data.test)
    assert len(found.test) == len(data.test) // 2
    assert "100.0% of the search split right and 90.0% of the test split" in found.note
