"""A run that is resumed reads the code and the weights that it began with, or none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config import RunConfig
from pipeline.devices.agent_plugins import used_by
from pipeline.errors import UserError
from pipeline.models.user_factory import build
from pipeline.records import Device, PowerSettings
from pipeline.run.origin import remember_origin, require_same_origin
from pipeline.store import Store
from pipeline.store.facts import BASE_WEIGHTS, CODE, WEIGHTS_FILE
from pipeline.user_code import code_of

NET = """
from torch import nn
from {blocks} import width


def Net(num_classes):
    return nn.Linear(width, num_classes)
"""


@pytest.fixture
def own(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A network of two files, imported; the second has a name that no other test's has."""
    blocks = f"blocks_{abs(hash(request.node.name))}"
    (tmp_path / f"{blocks}.py").write_text("width = 8\n")
    (tmp_path / "net.py").write_text(NET.format(blocks=blocks))
    (tmp_path / "unread.py").write_text("pass\n")
    build(f"{tmp_path}/net.py:Net", classes=4, channels=1)
    return tmp_path


@pytest.fixture
def store(tmp_path: Path, own: Path) -> Iterator[Store]:
    (own / "net.pt").write_bytes(b"weights")
    with Store.create(tmp_path / "runs", label="origin") as made:
        remember_origin(made, RunConfig(model=f"{own}/net.py:Net", weights=own / "net.pt"))
        yield made


def test_code_is_the_named_file_and_what_it_imports_of_the_users(own: Path) -> None:
    found = [Path(file).name[:6] for file in code_of([f"{own}/net.py:Net"])]
    assert found == ["blocks", "net.py"]


def test_code_of_a_package_is_all_of_it_that_was_imported() -> None:
    import email.message

    found = {Path(file).name for file in code_of(["email.message:Message"])}
    assert {"__init__.py", "message.py"} <= found
    assert email.message.__name__ == "email.message"


def test_a_run_whose_code_is_as_it_was_goes_on(store: Store) -> None:
    require_same_origin(store)


@pytest.mark.parametrize("name", ["net.py", "blocks_*.py", "net.pt"])
def test_a_run_whose_code_or_weights_have_changed_is_refused(store: Store, own: Path, name: str) -> None:
    (file,) = own.glob(name)
    before = file.read_bytes()
    file.write_bytes(before + b"\n# changed\n")
    with pytest.raises(UserError, match=rf"{file}, which has changed: its SHA-256 was \w+…, and is \w+…; put it back"):
        require_same_origin(store)
    file.write_bytes(before)
    require_same_origin(store)
    file.unlink()
    with pytest.raises(UserError, match="which is gone; put it back as it was, or start a new run"):
        require_same_origin(store)


def test_an_onnx_file_has_to_be_the_same_whenever_a_run_goes_on(tmp_path: Path) -> None:
    """The network is read from it, also when the weights are known."""
    model = tmp_path / "net.onnx"
    model.write_bytes(b"network")
    with Store.create(tmp_path / "runs", label="onnx") as made:
        remember_origin(made, RunConfig(model=str(model)))
        made.set(BASE_WEIGHTS, "0" * 64)
        require_same_origin(made)
        model.write_bytes(b"another network")
        with pytest.raises(UserError, match=rf"began with another {model}, which has changed"):
            require_same_origin(made)


def test_weights_that_are_not_read_again_may_change(store: Store, own: Path) -> None:
    (own / "net.pt").unlink()
    store.set(BASE_WEIGHTS, "0" * 64)
    require_same_origin(store)


def test_what_a_run_began_with_is_kept_when_it_is_resumed(store: Store, own: Path) -> None:
    before = store.get(CODE), store.get(WEIGHTS_FILE)
    (own / "net.py").write_text("changed = True\n")
    remember_origin(store, RunConfig(model=f"{own}/net.py:Net", weights=own / "net.pt"))
    assert (store.get(CODE), store.get(WEIGHTS_FILE)) == before


def test_a_sensor_or_a_runtime_of_ones_own_is_part_of_the_run(tmp_path: Path) -> None:
    texts = {"power/meter.py": "check = open = None", "power/other.py": "check = open = None", "power/_shared.py": ""}
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    device = Device(name="pi", kind="linux", power=PowerSettings(backend="meter"), plugins=str(tmp_path))
    with Store.create(tmp_path / "runs", label="own") as made:
        remember_origin(made, RunConfig(), plugins=used_by(device, "meter"))
        (tmp_path / "power/other.py").write_text("check = open = 1\n")
        require_same_origin(made)
        (tmp_path / "power/_shared.py").write_text("SHUNT_OHMS = 0.1\n")
        with pytest.raises(UserError, match=r"power/_shared.py, which has changed"):
            require_same_origin(made)


def test_a_run_of_an_older_version_which_stored_none_goes_on(tmp_path: Path) -> None:
    with Store.create(tmp_path / "runs", label="old") as old:
        require_same_origin(old)
