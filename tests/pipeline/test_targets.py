from __future__ import annotations

import pytest

from pipeline.errors import ConfigError
from pipeline.targets import Target, parse_target, targets_on


@pytest.mark.parametrize(
    ("text", "metric", "limit", "relative"),
    [
        ("latency=20ms", "latency", 20.0, False),
        ("latency=0.5x", "latency", 0.5, True),
        ("Latency = 1.5 s", "latency", 1500.0, False),
        ("latency=800us", "latency", 0.8, False),
        ("energy=20mJ", "energy", 20.0, False),
        ("energy=.5J", "energy", 500.0, False),
        ("power=2500mW", "power", 2.5, False),
        ("size=1MiB", "size", 1048576.0, False),
        ("size=0.25X", "size", 0.25, True),
        ("density=0.2x", "density", 0.2, True),
    ],
)
def test_targets_are_read_in_the_fields_units(text: str, metric: str, limit: float, relative: bool) -> None:
    target = parse_target(text)
    assert target == Target(metric, limit, relative)  # type: ignore[arg-type]
    assert parse_target(str(target)) == target


@pytest.mark.parametrize(
    "text", ["latency", "latency=", "latency=0x", "latency=-1x", "latency=5", "latency=5W", "latency=x", "size=1e999B"]
)
def test_what_is_no_target_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected for example (latency|size)=0\.5x or"):
        parse_target(text)


@pytest.mark.parametrize(
    "text", ["density", "density=0.2", "density=50000", "density=1x", "density=2x", "density=20ms"]
)
def test_a_density_is_a_share_of_the_base_models_weights_and_nothing_else(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected a number between 0 and 1 with an x, for example density=0\.2x"):
        parse_target(text)


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown metric \(did you mean 'latency'\?\)"):
        parse_target("latncy=0.5x")


def test_an_absolute_limit_is_a_share_of_the_base() -> None:
    assert parse_target("latency=20ms").share(80.0) == 0.25
    assert parse_target("latency=0.5x").share(80.0) == 0.5


def test_a_target_of_one_board_stands_in_place_of_the_one_for_all() -> None:
    texts = ["latency=0.5x", "size=1MB", "latency=20ms@pi4"]
    assert targets_on(texts, {"pi4"}) == ("size=1MB", "latency=20ms")
    assert targets_on(texts, {"nano"}) == ("latency=0.5x", "size=1MB")
    assert str(parse_target("latency = 20 ms @ pi4")) == "latency=20ms@pi4"
    with pytest.raises(ConfigError, match="after the @ stands a board, a group or a kind of the run"):
        parse_target("latency=20ms@")
