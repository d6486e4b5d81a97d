from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.errors import ConverterError
from pipeline.export.tflite import environment
from pipeline.export.tflite.environment import VARIABLE, converter_python


@pytest.fixture(autouse=True)
def nobody_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def test_a_ready_environment_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, sys.executable)
    assert converter_python(cache=tmp_path) == Path(sys.executable)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", ["missing/python", "."])
def test_a_named_environment_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: str) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / wrong))
    with pytest.raises(ConverterError, match=f"{VARIABLE} is .*no program; expected the Python of an environment"):
        converter_python()


def test_without_room_nothing_is_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "LEAST_FREE_BYTES", 10**18)
    with pytest.raises(ConverterError, match=r"needs 1000000000 GB in .* are free; make room, or set XDG_CACHE_HOME"):
        converter_python(cache=tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConverterError, match=r"cannot be written to .*set XDG_CACHE_HOME"):
        converter_python(cache=tmp_path / "file" / "cache")


@pytest.mark.slow
def test_without_a_network_the_reason_is_told_and_nothing_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    notes: list[str] = []
    with pytest.raises(ConverterError, match=r"cannot be installed: .*litert-torch==.*check the network") as raised:
        converter_python(notes.append, cache=tmp_path)
    assert VARIABLE in str(raised.value)
    assert notes[0] == "making a virtual environment"
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
