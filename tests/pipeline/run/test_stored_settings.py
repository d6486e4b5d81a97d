"""A run that goes on does so with the runtime that it began with, whatever its board finds by now."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.records import Figures
from pipeline.run.stored_settings import stored_settings
from pipeline.store import Store
from pipeline.store.facts import BASE, CONFIG, DEVICE, NamedDevice
from tests.examples import measurement

NANO = "version: 1\ndevices: {nano: {kind: jetson-nano, host: h}}\n"
NAMED = "version: 1\ndevices: {nano: {kind: jetson-nano, host: h, runtime: onnxruntime}}\n"


def runtime_of(store: Store, folder: Path, text: str, device: NamedDevice) -> tuple[str, tuple[str, ...]]:
    store.set(CONFIG, {"data": "digits"})
    store.set(DEVICE, device)
    (folder / "inventory.yaml").write_text(text)
    _, board = stored_settings(store, folder / "inventory.yaml")
    return board.runtime, board.runtimes


@pytest.mark.parametrize("began", ["tensorrt", "onnxruntime"])
def test_the_runtime_that_was_chosen_stays(new_store: Store, tmp_path: Path, began: str) -> None:
    assert runtime_of(new_store, tmp_path, NANO, {"name": "nano", "runtime": began}) == (began, ())


def test_one_that_the_inventory_names_by_now_is_used(new_store: Store, tmp_path: Path) -> None:
    assert runtime_of(new_store, tmp_path, NAMED, {"name": "nano", "runtime": "tensorrt"}) == ("onnxruntime", ())


def test_an_older_versions_run_goes_on_with_the_runtime_that_measured_its_base(
    new_store: Store, tmp_path: Path
) -> None:
    base = Figures(
        search_accuracy=0.9, test_accuracy=None, parameters=1, macs=1, size_bytes=1,
        measurement=measurement(2.0, runtime="onnxruntime 1.10.0"),
    )  # fmt: skip
    new_store.set(BASE, base)
    assert runtime_of(new_store, tmp_path, NANO, {"name": "nano"}) == ("onnxruntime", ())
