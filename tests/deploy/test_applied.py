"""The folder that `pipeline apply` leaves: whole, vouched for, and never over anything."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from deploy.applied import write_applied
from deploy.verify import verify_bundle
from pipeline.errors import BundleError, OutputError
from pipeline.export.format_plugin import model_format

FILES = {"model.onnx": b"model", "recipe.json": b"{}", "weights.safetensors": b"weights"}


def test_the_manifest_lists_every_file_and_says_what_was_told(tmp_path: Path) -> None:
    told = write_applied(FILES, model_format("onnx"), {"classes": 10}, tmp_path / "new" / "net")
    folder = tmp_path / "new" / "net"
    assert json.loads((folder / "manifest.json").read_text()) == told
    assert told["files"]["recipe.json"] == {"sha256": hashlib.sha256(b"{}").hexdigest(), "bytes": 2}
    assert set(told["files"]) == set(FILES)
    assert (told["model"], told["classes"]) == ({"file": "model.onnx", "format": "onnx"}, 10)
    verify_bundle(folder)


def test_a_file_that_was_changed_later_is_found(tmp_path: Path) -> None:
    write_applied(FILES, model_format("onnx"), {}, tmp_path / "net")
    (tmp_path / "net" / "recipe.json").write_text("[]")
    with pytest.raises(BundleError, match=r"recipe\.json differs"):
        verify_bundle(tmp_path / "net")


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not empty; give a new folder, so that nothing of yours is mixed with"):
        write_applied(FILES, model_format("onnx"), {}, tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the pruned network .* cannot be written"):
        write_applied(FILES, model_format("onnx"), {"accuracy": float("nan")}, tmp_path / "net")
    assert list(tmp_path.iterdir()) == []
