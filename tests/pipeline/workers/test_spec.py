"""What `workers` may name."""

from __future__ import annotations

import pytest

from pipeline.config import load_config
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    ("typed", "means"),
    [("4", 4), (2, 2), ("ray", "ray"), ("ray://head", "ray://head:10001"), ("ray://head:7", "ray://head:7")],
)
def test_a_number_or_a_cluster(typed: object, means: object) -> None:
    assert load_config(None, {"workers": typed}).workers == means


@pytest.mark.parametrize("typed", ["0", "-1", "four", "ray://", "http://head", True])
def test_anything_else_is_refused_with_what_is_expected(typed: object) -> None:
    with pytest.raises(ConfigError, match="--workers: should be a number of processes from 1 on, ray"):
        load_config(None, {"workers": typed})
