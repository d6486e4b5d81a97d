import os
import shutil

import pytest

from device_agents import programs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that is the only one on PATH, with programs in it, and what is none."""
    for name, text in (("says", "echo out; echo err >&2; exit 3"), ("sleeps", "exec /bin/sleep 30")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "text").write_text("not for running\n")
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["says", "text", "folder", "missing", "/bin/sh", "/nowhere/sh"])
def test_a_program_is_found_where_the_standard_library_finds_it(folder, name):
    assert programs.find(name) == shutil.which(name)


def test_another_path_can_be_looked_through(folder):
    assert programs.find("sh") is None
    assert programs.find("sh", f"/nowhere{os.pathsep}/bin") == "/bin/sh"


def test_all_that_a_program_says_is_returned_with_its_exit_code(folder):
    assert programs.run([str(folder / "says")], 10.0) == (3, "out\nerr")


def test_a_program_that_does_not_end_is_killed_and_named(folder):
    with pytest.raises(programs.ProgramError, match="sleeps"):
        programs.run([str(folder / "sleeps")], 0.1)


def test_a_program_that_cannot_be_started_is_named(folder):
    with pytest.raises(programs.ProgramError, match="missing"):
        programs.run([str(folder / "missing")], 1.0)
