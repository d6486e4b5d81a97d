"""The zipapp unpacks itself once, whole or not at all, and runs all the same where it cannot."""

import os
import subprocess
import sys
import time

import pytest

from device_agents import bootstrap
from pipeline.sessions.zipapp import zipapp
from tests.device_agents.harness import Agent, find_python36

PYTHONS = [pytest.param(sys.executable, id="this python"), pytest.param(find_python36(), id="python 3.6")]


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "agent home"
    folder.mkdir()
    path = folder / zipapp().name
    path.write_bytes(zipapp().content)
    return path


def hello(python, archive):
    agent = Agent([python, str(archive), "--dir", str(archive.parent)])
    facts = agent.result("hello")
    assert agent.close() == 0
    return facts


@pytest.mark.parametrize("python", PYTHONS)
def test_the_second_start_finds_the_modules_compiled(python, archive):
    if python is None:
        pytest.skip("no python3.6 on this machine")
    assert [hello(python, archive)["agent_sha256"] for _ in range(2)] == [zipapp().sha256] * 2

    home = archive.with_suffix("")
    assert list(home.glob("device_agents/__pycache__/serve.*.pyc"))
    assert sorted(entry.name for entry in archive.parent.iterdir()) == sorted([archive.name, home.name])


def test_where_nothing_can_be_unpacked_it_runs_from_the_archive(archive):
    archive.with_suffix("").write_text("a file in the way")

    assert hello(sys.executable, archive)["agent_sha256"] == zipapp().sha256
    assert sorted(entry.name for entry in archive.parent.iterdir()) == sorted([archive.name, archive.stem])


def test_two_first_starts_at_once_leave_one_whole_folder(archive):
    agents = [Agent([sys.executable, str(archive), "--dir", str(archive.parent)]) for _ in range(3)]
    for agent in agents:
        assert agent.result("hello")["agent_sha256"] == zipapp().sha256
    for agent in agents:
        assert agent.close() == 0
    assert not list(archive.parent.glob("*.part-*"))


def test_versions_unused_for_a_month_go_and_what_a_cut_unpacking_left(archive):
    folder = archive.parent
    old, new, cut = folder / "agent-0ld.pyz", folder / "agent-new.pyz", folder / "agent-0ther.part-17"
    for path in (old, new):
        path.write_text("")
        path.with_suffix("").mkdir()
    cut.mkdir()
    long_ago = time.time() - 31 * 86400
    for path in (old, cut):
        os.utime(path, (long_ago, long_ago))
    bootstrap.unpacked(str(archive))

    left = {entry.name for entry in folder.iterdir()}
    assert left == {archive.name, archive.stem, "agent-new.pyz", "agent-new"}


def test_the_archive_s_first_lines_are_the_bootstrap_s(archive):
    told = subprocess.run([sys.executable, str(archive), "--help"], capture_output=True, text=True, check=True)
    assert "Measures networks on this board" in told.stdout
