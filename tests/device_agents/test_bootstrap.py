"""The agent that runs is the one whose name its file has, whatever lies on the disk before, meanwhile or beside it."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from device_agents import bootstrap
from pipeline.devices.sessions.agent_zipapp import zipapp
from tests.device_agents.harness import Agent, descendants, find_python36

PYTHONS = [pytest.param(sys.executable, id="this python"), pytest.param(find_python36(), id="python 3.6")]
MODEL = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a.json"
"""The null runtime's model that takes no time: ``{}``."""
NULL = {"runtime": "null", "warmup_s": 0.01, "min_s": 0.05, "max_s": 0.5, "block_s": 0.01, "ci_rel": 0.5}


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "agent home"
    folder.mkdir(mode=0o700)
    path = folder / zipapp().name
    path.write_bytes(zipapp().content)
    (folder / "files").mkdir(mode=0o700)
    (folder / "files" / MODEL).write_text("{}")
    return path


@pytest.fixture(params=PYTHONS)
def python(request):
    if request.param is None:
        pytest.skip("no python3.6 on this machine")
    return request.param


def started(python, archive, environment=None):
    return Agent(zipapp().command(python, str(archive.parent)), environment)


def refusal(command):
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60)


def test_what_runs_is_what_was_sent_and_nothing_is_left_beside_it(python, archive):
    for start in (zipapp().command(python, str(archive.parent)), [python, str(archive), "--dir", str(archive.parent)]):
        agent = Agent(start)
        assert agent.result("hello")["agent_sha256"] == zipapp().sha256
        assert agent.close() == 0
    assert {entry.name for entry in archive.parent.iterdir()} == {archive.name, "files"}


@pytest.mark.parametrize("path", sorted(Path("~/.pyenv/versions").expanduser().glob("3.*/bin/python3")), ids=str)
def test_every_python_since_3_6_finds_the_plugins_in_it_and_measures(path, archive):
    agent = started(str(path), archive)

    assert "null" in agent.result("hello")["runtimes"]
    assert agent.result("measure", candidate=MODEL, **NULL)["candidate"]
    assert agent.close() == 0


def change_a_byte(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(change_a_byte, id="a changed byte"),
        pytest.param(lambda content: content[:-1], id="cut"),
        pytest.param(lambda content: content + b"\0", id="longer"),
        pytest.param(lambda _: b"print('foreign')", id="another program"),
        pytest.param(lambda _: b"", id="empty"),
    ],
)
@pytest.mark.parametrize("by", ["the host", "hand"])
def test_a_file_that_is_not_what_its_name_says_does_not_run(archive, damage, by):
    archive.write_bytes(damage(zipapp().content))
    command = zipapp().command(sys.executable, str(archive.parent))
    if by == "hand":  # as far as its own first lines can be trusted
        command = [sys.executable, "-c", Path(bootstrap.__file__).read_text(), str(archive)]

    done = refusal(command)

    assert done.returncode == 1
    assert f"{archive} is not what was sent: its sha256 begins" in done.stderr
    assert f"expected {zipapp().sha256[:12]}; remove it, it will be sent again: rm " in done.stderr
    assert "foreign" not in done.stdout


@pytest.mark.parametrize("what", ["a link", "a pipe", "a folder", "a huge file", "nothing"])
def test_what_is_no_file_in_its_place_is_named_at_once(archive, what):
    archive.unlink()
    if what == "a link":
        (archive.parent / "elsewhere").write_bytes(zipapp().content)
        archive.symlink_to("elsewhere")
    elif what == "a pipe":
        os.mkfifo(archive)
    elif what == "a folder":
        archive.mkdir()
    elif what == "a huge file":
        with archive.open("wb") as file:
            file.truncate(1 << 40)
    done = refusal(zipapp().command(sys.executable, str(archive.parent)))

    assert done.returncode == 1
    assert str(archive) in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_modules_laid_beside_it_are_not_imported(archive):
    """Neither one that Python imports by itself, nor one of the agent's own, nor one that hides the library's."""
    foreign = "import sys; sys.exit('foreign code')"
    for home in (archive.parent, archive.with_suffix("")):
        (home / "device_agents" / "__pycache__").mkdir(parents=True)
        names = ("sitecustomize.py", "usercustomize.py", "json.py", "select.py", "agent.pth")
        for name in (*names, "device_agents/__init__.py", "device_agents/serve.py"):
            (home / name).write_text(foreign)
    agent = Agent(
        zipapp().command(sys.executable, str(archive.parent)), {"PYTHONPATH": str(archive.parent)}, cwd=archive.parent
    )

    assert agent.result("hello")["agent_sha256"] == zipapp().sha256
    assert agent.result("measure", candidate=MODEL, **NULL)["candidate"]
    assert agent.close() == 0


def test_a_file_overwritten_while_the_agent_runs_changes_nothing(python, archive):
    agent = started(python, archive)
    assert agent.result("hello")
    with archive.open("r+b") as file:
        file.write(b"import sys; sys.exit('foreign code')\n" * 3000)

    assert agent.result("measure", candidate=MODEL, **NULL)["candidate"]
    assert agent.result("hello")["agent_sha256"] == zipapp().sha256
    assert agent.close() == 0


def test_workers_start_from_modules_that_are_compiled_already(python, archive):
    agent = started(python, archive)
    agent.send("measure", candidate=MODEL, **{**NULL, "min_s": 30, "max_s": 30})
    while agent.receive().get("stage") != "measure":
        pass
    (worker,) = descendants(agent.process.pid)
    program = Path(f"/proc/{worker}/cmdline").read_bytes().split(b"\0")[1].decode()
    number = program.rpartition("/")[2]

    assert b"device_agents/serve.pyc" in Path(f"/proc/{worker}/fd/{number}").read_bytes()
    assert agent.close() == 0


SETTINGS = {
    "PYTHONPATH": "/nowhere",
    "PYTHONSTARTUP": "/nowhere/rc.py",
    "PYTHONHOME": "/nowhere",
    "PYTHONINSPECT": "1",
    "LD_PRELOAD": "/nowhere/nothing.so",
    "LD_AUDIT": "/nowhere/nothing.so",
    "OMP_NUM_THREADS": "7",
    "MALLOC_PERTURB_": "7",
    "LD_LIBRARY_PATH": f"/opt/cuda/lib64:.:{os.environ.get('LD_LIBRARY_PATH', '')}:",
    "CUDA_VISIBLE_DEVICES": "0",
    "OPENBLAS_CORETYPE": "ARMV8",
}


def test_the_user_s_settings_for_python_and_the_linker_reach_neither_agent_nor_worker(python, archive):
    agent = started(python, archive, SETTINGS)
    agent.send("measure", candidate=MODEL, **{**NULL, "min_s": 30, "max_s": 30})
    while agent.receive().get("stage") != "measure":
        pass
    for pid in (agent.process.pid, *descendants(agent.process.pid)):
        found = dict(
            pair.split("=", 1) for pair in Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0") if "=" in pair
        )
        assert not set(found) & (set(SETTINGS) - {"LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "OPENBLAS_CORETYPE"})
        assert found["LD_LIBRARY_PATH"].startswith("/opt/cuda/lib64")
        assert all(map(os.path.isabs, found["LD_LIBRARY_PATH"].split(":")))
        assert (found["CUDA_VISIBLE_DEVICES"], found["OPENBLAS_CORETYPE"]) == ("0", "ARMV8")
        assert found["HOME"] == os.environ["HOME"]
    assert agent.close() == 0


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_what_it_makes_is_its_user_s_alone_under_any_umask(python, tmp_path, umask):
    path = tmp_path / zipapp().name
    path.write_bytes(zipapp().content)
    words = [python, str(path), "--dir", str(tmp_path / "a/b")]
    agent = Agent(["/bin/sh", "-c", f'umask {umask:o}; exec "$@"', "sh", *words])
    assert agent.result("hello")
    assert agent.error("measure", candidate="0" * 64 + ".json", runtime="null")["kind"] == "corrupt"
    assert agent.close() == 0

    for made in (tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/files"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a disk")
def test_it_runs_from_a_disk_that_cannot_be_written_to(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], check=False).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        (tmp_path / zipapp().name).write_bytes(zipapp().content)
        tmp_path.chmod(0o755)
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        agent = Agent(zipapp().command(sys.executable, str(tmp_path)))
        assert agent.result("hello")["agent_sha256"] == zipapp().sha256
        assert agent.close() == 0
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_first_starts_at_once_do_not_disturb_one_another(archive):
    agents = [started(sys.executable, archive) for _ in range(3)]
    for agent in agents:
        assert agent.result("hello")["agent_sha256"] == zipapp().sha256
    for agent in agents:
        assert agent.close() == 0
    assert {entry.name for entry in archive.parent.iterdir()} == {archive.name, "files"}


def test_versions_unused_for_a_month_go_and_what_older_ones_unpacked(archive):
    folder = archive.parent
    old, new, cut = folder / "agent-0ld.pyz", folder / "agent-new.pyz", folder / "agent-0ther.part-17"
    for path in (old, new):
        path.write_text("")
        path.with_suffix("").mkdir()
    cut.mkdir()
    long_ago = time.time() - 31 * 86400
    for path in (old, cut, new.with_suffix("")):
        os.utime(path, (long_ago, long_ago))
    started(sys.executable, archive).close()

    left = {entry.name for entry in folder.iterdir()}
    assert left - {"files"} == {archive.name, "agent-new.pyz", "agent-new"}


def test_the_archive_s_first_lines_are_the_bootstrap_s(archive):
    told = subprocess.run([sys.executable, str(archive), "--help"], capture_output=True, text=True, check=True)
    assert "Measures networks on this board" in told.stdout
