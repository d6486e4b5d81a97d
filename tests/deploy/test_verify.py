"""A bundle is what was written, byte for byte and file for file, or it is refused by the name of what is not."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from deploy import runtime, schema, signing
from deploy.sealing import seal
from deploy.verify import verify_bundle
from pipeline.errors import BundleError, OutputError, UserError
from tests.deployments import bundle, spoil

SPOILT = 40
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle; only to be copied."""
    return bundle(tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "bundle"))


def sealed(folder: Path, change: Callable[[dict], object] = lambda _: None) -> None:
    """Write the manifest anew, as somebody does who means to deceive."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    seal(folder, {key: value for key, value in manifest.items() if key != "files"})


# ---------------------------------------------------------------- what is good


def test_a_run_s_bundle_written_twice_is_equal_byte_for_byte(made: Path, tmp_path: Path) -> None:
    again = bundle(tmp_path / "bundle")
    assert {path.name: path.read_bytes() for path in made.iterdir()} == {
        path.name: path.read_bytes() for path in again.iterdir()
    }
    assert b"2026-" not in (made / "manifest.json").read_bytes().replace(b"20261121", b"")


@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_its_files_have_the_same_modes_under_any_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        found = bundle(tmp_path / "bundle")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in found.iterdir()} == {0o644}


def test_it_is_verified_as_a_whole_and_its_checksums_are_those_of_sha256sum(folder: Path) -> None:
    found, manifest = verify_bundle(folder)
    assert (found.files, found.signature, found.key) == (len(manifest["files"]), "unsigned", None)
    assert found.parity == {"files": {"model.onnx": 0.0}, "pairs": [], "problems": []}
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, check=False).returncode == 0


def test_the_published_schema_is_the_one_that_manifests_are_held_to() -> None:
    fix = "run: python -m deploy.schema"
    assert schema.published() == schema.json_schema(), fix
    assert (Path(__file__).parents[2] / "docs" / schema.NAME).read_text() == schema.json_schema(), fix


# ---------------------------------------------------------------- what was changed


@pytest.mark.parametrize("seed", range(SPOILT))
def test_one_byte_file_name_or_mode_that_was_changed_is_named(folder: Path, seed: int) -> None:
    signing.new_key()
    signing.sign(folder)
    verify_bundle(folder, trusted=signing.own_keys(), run=False)
    name = spoil(folder, random.Random(seed))
    with pytest.raises(BundleError) as refused:
        verify_bundle(folder, trusted=signing.own_keys(), run=False)
    assert name in str(refused.value)


@pytest.mark.parametrize("seed", range(10))
def test_so_it_is_without_a_signature(folder: Path, seed: int) -> None:
    name = spoil(folder, random.Random(seed))
    with pytest.raises(BundleError) as refused:
        verify_bundle(folder, run=False)
    assert name in str(refused.value)
    with pytest.raises(runtime.BundleError):
        runtime.Model.open(folder)


def test_a_manifest_that_was_changed_is_named_whatever_it_says_of_others(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    for old, new in (('"labels.txt"', '"lacels.txt"'), ('"checksums"', '"checksumr"'), ('"bytes": ', '"bytes": 1')):
        (folder / "manifest.json").write_text(text.replace(old, new, 1))
        with pytest.raises(BundleError, match=r"manifest\.json differs from what SHA256SUMS says"):
            verify_bundle(folder, run=False)


def test_the_example_refuses_to_run_then(folder: Path) -> None:
    (folder / "labels.txt").write_text("other\n")
    done = subprocess.run([sys.executable, folder / "example.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "labels.txt differs" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_answers_otherwise_than_it_did_is_refused(folder: Path) -> None:
    np.save(folder / "test_outputs.model.onnx.npy", np.ones((4, 4), np.float32))
    sealed(folder)
    with pytest.raises(BundleError, match=r"model\.onnx answers otherwise than test_outputs\.model\.onnx\.npy holds"):
        verify_bundle(folder)


def test_files_of_one_precision_that_answer_differently_are_refused(folder: Path, tmp_path: Path) -> None:
    other = bundle(tmp_path / "other", best=2)
    shutil.copy(other / "model.onnx", folder / "other.onnx")
    shutil.copy(other / "test_outputs.model.onnx.npy", folder / "test_outputs.other.onnx.npy")

    def both(manifest: dict) -> None:
        entry = {"file": "test_outputs.other.onnx.npy", "precision": "float32", "tolerance": 0.001}
        manifest["test_vectors"]["outputs"]["other.onnx"] = entry

    sealed(folder, both)
    with pytest.raises(BundleError, match=r"model\.onnx and other\.onnx answer differently, by"):
        verify_bundle(folder)
    sealed(folder, lambda manifest: manifest["test_vectors"]["outputs"]["other.onnx"].update(precision="int8"))
    found, _ = verify_bundle(folder)
    assert found.parity is not None
    assert found.parity["pairs"][0]["same_precision"] is False


# ---------------------------------------------------------------- signatures


def test_a_signature_is_by_a_key_of_one_s_own_by_a_stranger_s_or_missing(folder: Path, tmp_path: Path) -> None:
    mine = signing.new_key()
    signing.sign(folder)
    found, _ = verify_bundle(folder, run=False)
    assert (found.signature, found.key, found.key_name) == ("valid", mine.id, "default")
    shutil.copytree(signing.folder(), tmp_path / "handed-out")
    shutil.rmtree(signing.folder())
    assert verify_bundle(folder, run=False)[0].signature == "unknown key"
    handed_out = signing.public_key(str(tmp_path / "handed-out" / "default.pub"))
    assert verify_bundle(folder, trusted=[handed_out], run=False)[0].signature == "valid"
    other = signing.new_key("other")
    with pytest.raises(BundleError, match=rf"is by the key {mine.id[:16]}, and has to be by other \({other.id[:16]}\)"):
        verify_bundle(folder, trusted=[other], run=False)


def test_a_key_that_is_required_makes_an_unsigned_bundle_be_refused(folder: Path) -> None:
    with pytest.raises(BundleError, match=r"is unsigned, and has to be signed by default .*: pipeline sign"):
        verify_bundle(folder, trusted=[signing.new_key()], run=False)


def test_files_and_checksums_that_were_both_changed_are_found_by_the_signature(folder: Path) -> None:
    signing.new_key()
    signing.sign(folder)
    signature = (folder / "model.sig").read_bytes()
    (folder / "labels.txt").write_text("a\nb\nc\nd\n")
    sealed(folder)
    (folder / "model.sig").write_bytes(signature)
    with pytest.raises(BundleError, match=r"model\.sig is not the signature of these files by default"):
        verify_bundle(folder, run=False)


def test_another_s_signature_under_one_s_own_key_s_name_is_refused(folder: Path) -> None:
    mine, _ = signing.new_key(), signing.new_key("other")
    signing.sign(folder, "other")
    sealed(folder, lambda manifest: manifest["signature"].update(key=mine.id))
    with pytest.raises(BundleError, match=r"model\.sig is not the signature"):
        verify_bundle(folder, run=False)


def test_openssf_s_own_command_line_accepts_the_signature(folder: Path) -> None:
    key = signing.new_key()
    signing.sign(folder)
    command = [str(Path(sys.executable).with_name("model_signing")), "verify", "key", str(folder)]
    options = ["--signature", str(folder / "model.sig"), "--public_key", str(signing.folder() / f"{key.name}.pub")]
    ignored = ["--ignore-paths", str(folder / "model.sig")]
    done = subprocess.run([*command, *options, *ignored], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_keys_are_their_owner_s_alone_and_none_is_overwritten(folder: Path) -> None:
    made = signing.new_key("lab")
    private = signing.folder() / "lab.pem"
    assert (stat.S_IMODE(private.stat().st_mode), stat.S_IMODE(signing.folder().stat().st_mode)) == (0o600, 0o700)
    assert [key.id for key in signing.own_keys()] == [made.id]
    with pytest.raises(UserError, match="there is a key 'lab'"):
        signing.new_key("lab")
    with pytest.raises(UserError, match=r"there is no key 'lob' \(did you mean 'lab'\?\)"):
        signing.public_key("lob")
    with pytest.raises(UserError, match="cannot be a key's name"):
        signing.new_key("../lab")
    private.chmod(0o640)
    with pytest.raises(UserError, match="others may read the private key"):
        signing.sign(folder, "lab")


def test_a_bundle_signed_twice_carries_the_second_signature(folder: Path) -> None:
    signing.new_key()
    signing.new_key("other")
    signing.sign(folder)
    signing.sign(folder, "other")
    assert verify_bundle(folder, trusted=[signing.public_key("other")], run=False)[0].key_name == "other"


# ---------------------------------------------------------------- what is meant to do harm


def big(name: str, size: int) -> Change:
    def change(folder: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.truncate(size)

    return change


def many(folder: Path) -> None:
    for number in range(100_000):
        (folder / f"f{number}").touch()
        if number > 200:
            return


def named(name: str) -> Change:
    def change(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"][name] = {"sha256": "0" * 64, "bytes": 1}
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return change


def text(content: str) -> Change:
    return lambda folder: (folder / "manifest.json").write_text(content)


HOSTILE: dict[str, tuple[Change, str]] = {
    "a file of ten terabytes": (big("labels.txt", 10**13), "has more than 4294967296 bytes, 'labels.txt'"),
    "a manifest of a terabyte": (big("manifest.json", 10**12), "has more than 4294967296 bytes, 'manifest.json'"),
    "a manifest of a gigabyte": (big("manifest.json", 10**9), "it has more than 16777216 bytes"),
    "checksums of a gigabyte": (big("SHA256SUMS", 10**9), "SHA256SUMS differs"),
    "two hundred files": (many, "holds more than 64 files"),
    "a way out": (named("../../etc/passwd"), "is no file's name"),
    "an absolute path": (named("/etc/passwd"), "is no file's name"),
    "a name that ends the line": (named("a\nb"), "is no file's name"),
    "the manifest itself": (named("manifest.json"), "is no file's name"),
    "a folder": (lambda folder: (folder / "inside").mkdir(), "'inside' is no file"),
    "a link": (lambda folder: (folder / "inside").symlink_to("/etc/passwd"), "'inside' is a link"),
    "a pipe": (lambda folder: os.mkfifo(folder / "pipe"), "'pipe' is no file"),
    "a deep manifest": (text("[" * 100_000), "RecursionError"),
    "a manifest of numbers": (text('{"files": {"a": {"bytes": 1e999, "sha256": "x"}}, "model": {}}'), "cannot be read"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "it holds no manifest.json"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_would_take_all_time_or_memory_is_refused_at_once(folder: Path, kind: str) -> None:
    change, said = HOSTILE[kind]
    change(folder)
    start = time.monotonic()
    with pytest.raises(BundleError) as refused:
        verify_bundle(folder)
    assert said in str(refused.value)
    assert time.monotonic() - start < 120


def test_a_network_that_asks_for_all_memory_is_refused(folder: Path) -> None:
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [1 << 20, 1 << 20])
    graph = helper.make_graph(
        [
            helper.make_node("ConstantOfShape", ["shape"], ["large"]),
            helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=1),
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("Add", ["flat", "sum"], ["scores"]),
        ],
        "bomb",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 192])],
        [shape],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), folder / "model.onnx"
    )
    sealed(folder)
    with pytest.raises(BundleError, match=r"running its model file (failed|was ended by signal)"):
        verify_bundle(folder)


def test_weights_in_another_file_are_refused(folder: Path) -> None:
    model = onnx.load(str(folder / "model.onnx"))
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    sealed(folder)
    with pytest.raises(BundleError, match=r"has weights in other files; export it in one piece"):
        verify_bundle(folder)


def test_a_file_that_is_no_network_is_refused(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"nonsense")
    sealed(folder)
    with pytest.raises(BundleError, match="running its model file"):
        verify_bundle(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["schema", "files", "model", "checksums", "signature", "classes", "input", "test_vectors", "name", "other"]
)


@given(key=KEYS, value=JSON)
@example(key="files", value={"model.onnx": {"sha256": "0" * 64, "bytes": 2**62}})
@example(key="test_vectors", value={"inputs": "../x", "count": 1, "outputs": {}})
@example(key="input", value=None)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_manifest_with_anything_in_it_is_taken_or_refused_and_nothing_else(
    made: Path, tmp_path: Path, key: str, value: object
) -> None:
    folder = tmp_path / "spoilt"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest[key] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    sums = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    own = f"{runtime.file_sha256(folder / 'manifest.json')}  manifest.json\n"
    (folder / "SHA256SUMS").write_text("".join(own if line.endswith("  manifest.json\n") else line for line in sums))
    try:
        verify_bundle(folder, run=False)
    except BundleError:
        return
    assert key in ("name", "other", "classes", "signature", "input", "test_vectors", "schema", "checksums")


@given(content=st.binary(max_size=300))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_signature_of_anything_is_refused(made: Path, tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "spoilt"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made, folder)
    if not signing.own_keys():
        signing.new_key()
    sealed(folder, lambda manifest: manifest.update(signature={"file": "model.sig", "key": signing.own_keys()[0].id}))
    (folder / "model.sig").write_bytes(content)
    (folder / "model.sig").chmod(0o644)
    with pytest.raises(BundleError, match=r"model\.sig"):
        verify_bundle(folder, run=False)


def test_a_bundle_of_an_older_version_is_still_verified(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    kept = {key: value for key, value in manifest.items() if key not in ("checksums", "test_vectors")}
    kept["created"] = "2026-11-21T04:15:00+00:00"
    (folder / "manifest.json").write_text(json.dumps(kept))
    (folder / "SHA256SUMS").unlink()
    (folder / "labels.txt").chmod(0o664)
    found, _ = verify_bundle(folder)
    assert (found.parity, found.parity_skipped) == (None, "the bundle holds no stored inputs and answers")
    signing.new_key()
    with pytest.raises(BundleError, match="written by an older version"):
        signing.sign(folder)


def test_a_network_that_does_not_run_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"model\.onnx does not run here"):
        bundle(tmp_path / "bundle", content=b"nonsense")
    assert not (tmp_path / "bundle").exists()
