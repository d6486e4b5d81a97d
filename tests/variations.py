"""Variations of one test: the quick set tries a few of them, ``make test`` all."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest


def variations(every: Iterable[Any], quick: Container[Any]) -> list[Any]:
    """Return parameters of which those that are not ``quick`` are marked as slow."""
    return [each if each in quick else pytest.param(each, marks=pytest.mark.slow) for each in every]


def one_in(count: int, every: Iterable[Any]) -> list[Any]:
    """Return parameters of which one in so many is quick, the first among them."""
    return [
        each if number % count == 0 else pytest.param(each, marks=pytest.mark.slow) for number, each in enumerate(every)
    ]
