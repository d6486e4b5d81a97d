"""Variations of one test: the quick set tries a few of them, ``make test`` all."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest


def variations(every: Iterable[Any], quick: Container[Any]) -> list[Any]:
    """Return parameters, a tuple for several, of which those that are not ``quick`` are marked as slow."""
    return [each if each in quick else _slow(each) for each in every]


def one_in(count: int, every: Iterable[Any]) -> list[Any]:
    """Return parameters of which one in so many is quick, the first among them."""
    return [each if number % count == 0 else _slow(each) for number, each in enumerate(every)]


def _slow(each: Any) -> Any:
    return pytest.param(*(each if isinstance(each, tuple) else [each]), marks=pytest.mark.slow)
