"""Old names of settings still count and say what they are called now: in files, in options, in what is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices, BaseModel

from pipeline import serialization, setting_keys
from pipeline.config import RunConfig, load_config
from pipeline.devices.inventory.load import load_inventory
from pipeline.devices.inventory.schema import InventoryFile, Profile
from pipeline.errors import ConfigError
from pipeline.records import Device, MeasureSettings
from pipeline.search.dqn.settings import Settings
from pipeline.search.strategy_plugin import strategy_settings
from pipeline.tuning.ranges import parse

OLD = """
max_corrupt: 3
cuts: {protect: [stem], minimum: {conv1: 8}}
evaluation: {reconstruction_places: 7}
dqn: {first_imagined: 5, imagined: 6, growth: 1.5, without: [mask]}
recovery: {halving: 2, reconstruction_places: 9}
"""
NEW = """
max_unreadable: 3
pruning: {protect: [stem], min_channels: {conv1: 8}}
evaluation: {reconstruction_samples: 7}
strategy_options: {first_simulated_episodes: 5, simulated_episodes: 6, retrain_growth: 1.5, ablate: [mask]}
fine_tuning: {reduction_factor: 2, reconstruction_samples: 9}
"""
SAID = [
    "2: max_corrupt is called max_unreadable now",
    "3: cuts is called pruning now",
    "3: cuts.minimum is called pruning.min_channels now",
    "4: evaluation.reconstruction_places is called evaluation.reconstruction_samples now",
    "6: recovery is called fine_tuning now",
    "6: recovery.halving is called fine_tuning.reduction_factor now",
    "6: recovery.reconstruction_places is called fine_tuning.reconstruction_samples now",
    "5: dqn is called strategy_options now",
    "5: dqn.first_imagined is called strategy_options.first_simulated_episodes now",
    "5: dqn.imagined is called strategy_options.simulated_episodes now",
    "5: dqn.growth is called strategy_options.retrain_growth now",
    "5: dqn.without is called strategy_options.ablate now",
]


def written(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_old_names_in_a_file_count_and_each_says_its_line_and_its_new_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, OLD)
    assert load_config(path, {}) == RunConfig.model_validate(plain(NEW))
    assert caplog.messages == [f"{path}:{said}; the old name still counts" for said in SAID]


def test_new_names_say_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_config(written(tmp_path, NEW), {"trials": 3})
    assert caplog.messages == []


def test_every_old_name_of_a_setting_is_in_the_test_above() -> None:
    models = [RunConfig, Settings, *(field.annotation for field in RunConfig.model_fields.values())]
    old = {name for model in models for name in old_names(model)}
    assert {"dqn", *old} == {said.split()[1].rpartition(".")[2] for said in SAID}


def test_what_a_run_stored_under_old_names_is_read(caplog: pytest.LogCaptureFixture) -> None:
    assert RunConfig.model_validate(plain(OLD)) == RunConfig.model_validate(plain(NEW))
    stored = RunConfig.model_validate(plain(OLD)).model_dump(mode="json", by_alias=True)
    assert not list(setting_keys.old_keys(RunConfig, stored))
    assert not list(setting_keys.old_keys(Settings, stored["strategy_options"]))
    assert strategy_settings(RunConfig.model_validate(stored)) == Settings(
        first_simulated_episodes=5, simulated_episodes=6, retrain_growth=1.5, ablate=("mask",)
    )
    assert caplog.messages == []


def test_an_option_beats_the_file_whichever_name_either_uses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for key in ("max_corrupt", "max_unreadable"):
        for option in ("max_corrupt", "max_unreadable"):
            assert load_config(written(tmp_path, f"{key}: 3\n"), {option: 5}).max_unreadable == 5
    assert "settings: max_corrupt is called max_unreadable now; the old name still counts" in caplog.messages


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed: 1\nmax_corrupt: -1\n", "run.yaml:2: max_corrupt: should be greater than or equal to 0, found -1"),
        ("recovery:\n  halving: 1\n", "run.yaml:2: recovery.halving: should be greater than or equal to 2, found 1"),
        ("recovery:\n  epoch: 1\n", r"run.yaml:2: recovery.epoch: unknown key \(did you mean 'epochs'\?\)"),
        ("max_unreadable: 1\nmax_corrupt: 2\n", "run.yaml:2: max_corrupt: is the old name of max_unreadable, which is"),
        ("recovery: {}\nfine_tuning: {}\n", "run.yaml:1: recovery: is the old name of fine_tuning, which is given too"),
    ],
)
def test_a_mistake_under_an_old_name_is_shown_as_it_is_written(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(written(tmp_path, text), {})


def test_a_search_of_an_old_name_searches_the_setting_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert parse("recovery.halving=2,3") == parse("fine_tuning.reduction_factor=2,3")
    assert caplog.messages == [
        "--search: recovery.halving is called fine_tuning.reduction_factor now; the old name still counts"
    ]


def test_an_inventory_and_a_profile_say_each_old_name_once_however_many_devices_use_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "profiles").mkdir()
    profile = written(
        tmp_path, "summary: mine\nmeasure: {others_cores: 3}\nmends: {runtime: install it}\n", "profiles/mine.yaml"
    )
    inventory = written(
        tmp_path,
        "defaults: {measure: {others_cores: 2}}\n"
        "devices:\n  a: {kind: mine, host: a}\n  b: {kind: mine, host: b, measure: {others_cores: 1}}\n",
        "inventory.yaml",
    )
    devices = load_inventory(inventory).devices
    assert [devices[name].measure.max_background_cores for name in ("a", "b")] == [2.0, 1.0]
    assert devices["a"].fixes == {"runtime": "install it"}
    moved = "is called {}measure.max_background_cores now; the old name still counts"
    assert sorted(caplog.messages) == sorted(
        [
            f"{inventory}:1: defaults.measure.others_cores {moved.format('defaults.')}",
            f"{inventory}:4: devices.b.measure.others_cores {moved.format('devices.b.')}",
            f"{profile}:2: measure.others_cores {moved.format('')}",
            f"{profile}:3: mends is called fixes now; the old name still counts",
        ]
    )


def test_records_that_an_older_version_stored_or_recorded_are_read() -> None:
    assert serialization.load(MeasureSettings, {"others_cores": 2.0}) == MeasureSettings(max_background_cores=2.0)
    settings = MeasureSettings(max_background_cores=2.0)
    assert serialization.load(MeasureSettings, serialization.dump(settings)) == settings
    device = serialization.load(Device, {"name": "a", "kind": "b", "mends": {"runtime": "install it"}})
    assert device.fixes == {"runtime": "install it"}


def test_a_mapping_s_own_keys_are_nobody_s_old_names() -> None:
    layers = {"reward": {"layers": {"growth.without": {"gamma": 0.5}}}}
    assert list(setting_keys.old_keys(RunConfig, layers)) == []
    assert list(setting_keys.old_keys(InventoryFile, {"devices": {"mends": {"measure": {}}}})) == []
    assert list(setting_keys.old_keys(Profile, {"mends": 3})) == [("mends",)]


def plain(text: str) -> Mapping[str, Any]:
    document: Mapping[str, Any] = yaml.safe_load(text)
    return document


def old_names(model: Any) -> Iterator[str]:
    if isinstance(model, type) and issubclass(model, BaseModel):
        for field in model.model_fields.values():
            if isinstance(field.validation_alias, AliasChoices):
                yield from map(str, field.validation_alias.choices[1:])
