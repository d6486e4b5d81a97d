"""The area under a front: by hand, and against counting."""

from __future__ import annotations

import random

import pytest

from pipeline.comparison.hypervolume import hypervolume, of_networks


def test_a_single_network_dominates_its_rectangle() -> None:
    assert of_networks([(0.4, 0.8)], classes=10) == pytest.approx(0.6 * 0.7)


def test_overlapping_rectangles_count_once() -> None:
    stairs = [(0.2, 0.5), (0.5, 0.7), (0.8, 0.9)]
    assert hypervolume(stairs, latency=1.0, accuracy=0.1) == pytest.approx(0.3 * 0.4 + 0.3 * 0.6 + 0.2 * 0.8)


def test_dominated_networks_repeated_ones_and_those_beyond_the_reference_add_nothing() -> None:
    front = [(0.2, 0.5), (0.5, 0.7)]
    more = [*front, (0.5, 0.7), (0.5, 0.6), (0.6, 0.7), (0.2, 0.4), (1.0, 1.0), (1.3, 1.0), (0.1, 0.1), (0.05, 0.02)]
    assert of_networks(more, classes=10) == of_networks(front, classes=10)
    assert of_networks([], classes=10) == 0
    assert of_networks([(1.2, 0.9), (0.3, 0.1)], classes=10) == 0


def test_the_area_is_what_counting_small_squares_gives() -> None:
    draw = random.Random(0)
    points = [(draw.randint(1, 50) / 50, draw.randint(1, 50) / 50) for _ in range(12)]
    squares = [(i + 0.5, j + 0.5) for i in range(50) for j in range(50)]
    inside = sum(any(50 * x < i and 50 * y > j > 5 for x, y in points) for i, j in squares)
    assert of_networks(points, classes=10) == pytest.approx(inside / 2500)
