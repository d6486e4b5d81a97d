"""The agent's folder is its user's alone, however it is reached, or it is refused with what fixes it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from device_agents import folder as module
from device_agents.folder import FolderError, secure

OTHER = 65534
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give things to somebody else")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277, 0o777])
def test_it_is_made_with_all_that_leads_to_it_for_its_user_alone_under_any_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        secure(str(tmp_path / "cache/of its own/agent"))
    finally:
        os.umask(before)

    for made in ("cache", "cache/of its own", "cache/of its own/agent"):
        assert mode(tmp_path / made) == 0o700


@pytest.mark.parametrize("found", [0o755, 0o750, 0o711, 0o500, 0o000, 0o1777, 0o2755])
def test_one_of_ours_that_others_can_only_look_into_is_closed_to_them(tmp_path, found):
    agent = tmp_path / "agent"
    agent.mkdir()
    agent.chmod(found)

    secure(str(agent))

    assert mode(agent) & 0o777 == 0o700


@pytest.mark.parametrize("found", [0o777, 0o707, 0o702, 0o770, 0o720])
@pytest.mark.parametrize("which", ["agent", "."])
def test_a_folder_that_others_may_write_to_is_refused_on_the_way_too(tmp_path, monkeypatch, found, which):
    monkeypatch.setattr(module, "_private", lambda *_: False)
    (tmp_path / "agent").mkdir()
    (tmp_path / which).chmod(found)
    with pytest.raises(FolderError) as caught:
        secure(str(tmp_path / "agent"))

    guilty = os.path.normpath(tmp_path / which)
    assert f"others may write to {guilty} (its mode is {found:04o})" in str(caught.value)
    assert str(caught.value).endswith(f"chmod go-w {guilty}")
    (tmp_path / which).chmod(0o700)
    secure(str(tmp_path / "agent"))


@root_only
@pytest.mark.parametrize("which", ["agent", "."])
def test_a_group_may_write_only_where_it_is_its_owner_s_alone(tmp_path, monkeypatch, which):
    (tmp_path / "agent").mkdir()
    (tmp_path / which).chmod(0o770)
    monkeypatch.setattr(module, "_private", lambda group, owner: (group, owner) == (0, 0))
    secure(str(tmp_path / "agent"))

    (tmp_path / which).chmod(0o770)
    os.chown(tmp_path / which, -1, OTHER)
    with pytest.raises(FolderError, match="others may write to"):
        secure(str(tmp_path / "agent"))


def test_a_group_with_no_other_member_is_private(monkeypatch):
    class User:
        def __init__(self, name, group):
            self.pw_name, self.pw_gid = name, group

    class Group:
        gr_mem: tuple[str, ...] = ()

    monkeypatch.setattr(module.pwd, "getpwuid", lambda _: User("ann", 1000))
    monkeypatch.setattr(module.grp, "getgrgid", lambda _: Group)
    monkeypatch.setattr(module.pwd, "getpwall", lambda: [User("ann", 1000), User("bob", 1001)])
    assert module._private(1000, 1000)
    assert not module._private(1001, 1000)  # bob's
    assert not module._private(1002, 1000)  # nobody's: for programs that run under it
    monkeypatch.setattr(module.pwd, "getpwall", lambda: [User("ann", 0)])
    assert not module._private(0, 1000)  # the system's
    monkeypatch.setattr(module.pwd, "getpwall", lambda: [User("ann", 1000)])
    Group.gr_mem = ("bob",)
    assert not module._private(1000, 1000)


@root_only
@pytest.mark.parametrize("which", ["agent", "."])
def test_a_folder_of_somebody_else_s_is_refused_on_the_way_too(tmp_path, which):
    (tmp_path / "agent").mkdir(mode=0o700)
    os.chown(tmp_path / which, OTHER, -1)
    with pytest.raises(FolderError) as caught:
        secure(str(tmp_path / "agent"))

    guilty = os.path.normpath(tmp_path / which)
    assert f"{guilty} belongs to nobody, who could change what the agent runs as root: sudo chown root" in str(
        caught.value
    )
    os.chown(tmp_path / which, 0, 0)


def test_a_link_of_one_s_own_is_followed_and_what_it_leads_to_is_looked_at(tmp_path):
    (tmp_path / "disk/agent").mkdir(parents=True)
    (tmp_path / "link").symlink_to("disk")
    assert secure(str(tmp_path / "link/agent")) == str(tmp_path / "link/agent")
    assert mode(tmp_path / "disk/agent") == 0o700

    (tmp_path / "disk").chmod(0o777)
    with pytest.raises(FolderError, match=r"others may write to .*disk "):
        secure(str(tmp_path / "link/agent"))


@root_only
def test_a_link_of_somebody_else_s_is_not_followed(tmp_path):
    (tmp_path / "victim").mkdir()
    tmp_path.chmod(0o1777)
    (tmp_path / "agent").symlink_to("victim")
    os.chown(tmp_path / "agent", OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(FolderError, match="agent belongs to nobody"):
        secure(str(tmp_path / "agent"))


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "agent").symlink_to("agent")
    with pytest.raises(FolderError, match="is a link that leads nowhere"):
        secure(str(tmp_path / "agent"))


@pytest.mark.parametrize("what", ["file", "pipe"])
def test_what_is_no_folder_is_named(tmp_path, what):
    place = tmp_path / "agent"
    os.mkfifo(place) if what == "pipe" else place.write_text("")
    for path in (place, place / "files"):
        with pytest.raises(FolderError, match=r"/agent is no folder"):
            secure(str(path))


def test_it_can_be_looked_at_without_being_made(tmp_path):
    assert secure(str(tmp_path / "a/b"), make=False) == str(tmp_path / "a/b")
    assert not (tmp_path / "a").exists()


def test_the_agent_does_not_start_on_a_folder_that_others_may_write_to(tmp_path):
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent").chmod(0o777)
    command = [sys.executable, "-m", "device_agents", "--dir", str(tmp_path / "agent")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        input="",
        env={"PYTHONPATH": str(Path(module.__file__).parents[1])},
    )

    assert done.returncode == 1
    told = f"cannot use the agent's folder {tmp_path}/agent: others may write to {tmp_path}/agent (its mode is 0777)"
    assert done.stderr.startswith(told)
    assert "chmod go-w" in done.stderr
