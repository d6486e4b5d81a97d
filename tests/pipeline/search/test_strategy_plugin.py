"""What a strategy's file declares, and a run's settings that do not fit it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import plugins
from pipeline.config import RunConfig
from pipeline.errors import ConfigError
from pipeline.search.dqn.settings import Settings
from pipeline.search.strategy_plugin import (
    STRATEGIES,
    settings_class,
    strategy_of,
    strategy_settings,
    with_every_option,
)

OWN = """
from pydantic import BaseModel, Field, field_validator

class Settings(BaseModel):
    width: int = Field(3, ge=1)
    needed: str
    any: object = None

    @field_validator("needed")
    @classmethod
    def _not_that(cls, value):
        if value == "boom":
            raise KeyError("boom")
        return value

def create(problem): ...
"""


def own(folder: Path, text: str = OWN) -> str:
    path = folder / "own.py"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", plugins.names(STRATEGIES))
def test_every_strategy_that_ships_refuses_what_it_has_not_and_has_defaults_for_the_rest(name: str) -> None:
    told = RunConfig(strategy=name)
    full = with_every_option(told).strategy_options
    assert (full == {}) == (settings_class(name) is None)
    assert with_every_option(RunConfig(strategy=name, strategy_options=full)).strategy_options == full
    with pytest.raises(ConfigError, match=r"strategy_options(\.nothing)?: .*strategy"):
        strategy_settings(RunConfig(strategy=name, strategy_options={"nothing": 1}))


def test_options_become_the_strategy_s_settings() -> None:
    found = strategy_settings(RunConfig(strategy_options={"hidden": 32, "ablate": ["mask"]}))
    assert found == Settings(hidden=32, ablate=("mask",))


def test_an_old_name_of_an_option_still_counts_and_is_stored_by_its_new_one(caplog: pytest.LogCaptureFixture) -> None:
    stored = with_every_option(RunConfig(strategy_options={"growth": 1.5, "without": ["mask"]}))
    assert (stored.strategy_options["retrain_growth"], stored.strategy_options["ablate"]) == (1.5, ["mask"])
    assert {"growth", "without"}.isdisjoint(stored.strategy_options)
    assert "strategy dqn: strategy_options.growth is called strategy_options.retrain_growth now" in caplog.text
    caplog.clear()
    assert with_every_option(stored) == stored
    assert caplog.text == ""


def test_an_option_under_its_old_and_its_new_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"strategy_options\.growth: is the old name of retrain_growth"):
        strategy_settings(RunConfig(strategy_options={"growth": 1.5, "retrain_growth": 2}))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"hiden": 3},
            r"strategy_options\.hiden: no such setting \(did you mean 'hidden'\?\); strategy dqn has: .*retrain_growth",
        ),
        (
            {"hidden": "wide"},
            r"strategy_options\.hidden: should be a valid integer.*, found 'wide'; strategy dqn has: ",
        ),
        ({"ablate": ["masks"]}, r"strategy_options\.ablate\.0: should be 'mask', .*found 'masks'"),
    ],
)
def test_a_mistake_in_an_option_says_where_it_is_and_what_there_is(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        strategy_settings(RunConfig(strategy_options=options))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, r"strategy_options\.needed: is missing; strategy .*own.py has: width, needed, any"),
        ({"needed": "a", "else": 1}, r"strategy_options\.else: no such setting; strategy .* has: width, needed, any"),
        ({"needed": "a", "width": 0}, r"strategy_options\.width: should be greater than or equal to 1, found 0"),
        ({"needed": "boom"}, r"strategy .*own.py refuses them: KeyError: 'boom' \(own.py, line 13\)"),
    ],
)
def test_settings_of_a_file_of_ones_own_are_checked_alike(
    tmp_path: Path, options: dict[str, object], says: str
) -> None:
    """A plain BaseModel would leave out what it does not know."""
    with pytest.raises(ConfigError, match=says):
        strategy_settings(RunConfig(strategy=own(tmp_path), strategy_options=options))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Settings = {'width': 3}\ndef create(problem): ...\n", "its Settings is no pydantic.BaseModel"),
        (OWN.replace("needed: str", "needed: float = float('inf')"), "cannot be stored as JSON: Out of range"),
        (OWN.replace("needed: str", "needed: object = object()"), "cannot be stored as JSON: Unable to serialize"),
    ],
)
def test_settings_that_no_run_could_keep_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        with_every_option(RunConfig(strategy=own(tmp_path, text)))


def test_mode_direct_is_of_strategies_that_declare_it(tmp_path: Path) -> None:
    assert strategy_of(RunConfig(mode="direct")).MODES == ("imagined", "direct")
    with pytest.raises(ConfigError, match="strategy random has no mode direct; leave mode out, or name a strategy"):
        strategy_of(RunConfig(mode="direct", strategy="random"))
    declared = own(tmp_path, "MODES = ('imagined', 'direct')\ndef create(problem): ...\n")
    strategy_of(RunConfig(mode="direct", strategy=declared))


def test_zeros_are_set_by_strategies_that_declare_it(tmp_path: Path) -> None:
    strategy_of(RunConfig(target=("density=0.2x",), strategy="purl"))
    with pytest.raises(ConfigError, match="strategy dqn cuts channels; add strategy purl, or give a target that"):
        strategy_of(RunConfig(target=("density=0.2x",)))
    declared = own(tmp_path, "SETS_ZEROS = True\ndef create(problem): ...\n")
    strategy_of(RunConfig(target=("density=0.2x",), strategy=declared))
