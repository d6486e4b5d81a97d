"""OpenSSH's client configuration as OpenSSH reads it: Include, Match, the way through a proxy; errors name the line."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.devices.inventory import openssh_config
from pipeline.devices.inventory.ssh_config import known_to_ssh, resolve
from pipeline.errors import InventoryError


@pytest.fixture(autouse=True)
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ~/.ssh."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh" / "conf.d").mkdir(parents=True)
    return tmp_path / ".ssh"


def board(name: str = "labpi", port: int = 2222) -> str:
    return f"Host {name}\n  HostName 192.0.2.7\n  Port {port}\n  User pi\n"


def found(alias: str = "labpi", **settings: Any) -> tuple[str | None, str, int]:
    address = resolve(alias, settings)
    return address.user, address.host, address.port


THERE = ("pi", "192.0.2.7", 2222)


@pytest.mark.parametrize(
    "line",
    [
        "Include ~/.ssh/boards",
        "Include boards",
        "Include {ssh}/boards",
        "Include boar*",
        "include=boards",
        'INCLUDE "boards"',
        "Include nowhere/* boards",
        "Include boards # the lab's",
        "Include outer",
        "Host lab*\n  Include boards",
        "Match originalhost labpi\n  Include boards",
        "Host other\n  Include wrong\nHost *\n  Include boards",
    ],
)
def test_an_included_file_is_read_however_it_is_named(ssh: Path, line: str) -> None:
    (ssh / "boards").write_text(board())
    (ssh / "wrong").write_text(board(port=1))
    (ssh / "outer").write_text("Include inner\n")
    (ssh / "inner").write_text("Include boards\n")
    (ssh / "config").write_text(line.format(ssh=ssh) + "\n")
    assert found() == THERE
    assert known_to_ssh("labpi", None)
    assert not known_to_ssh("other-pi", None)


def test_included_files_count_in_the_order_of_their_names(ssh: Path) -> None:
    (ssh / "conf.d" / "10-first").write_text(board(port=10))
    (ssh / "conf.d" / "20-second").write_text(board(port=20))
    (ssh / "config").write_text("Include conf.d/*\n" + board(port=30))
    assert found() == ("pi", "192.0.2.7", 10)


def test_what_stands_behind_an_include_belongs_to_the_block_before_it(ssh: Path) -> None:
    (ssh / "boards").write_text("Host elsewhere\n  Port 1\n")
    (ssh / "config").write_text("Include boards\nUser everybody\nHost labpi\n  Include boards\n  Port 7\n")
    assert found() == ("everybody", "labpi", 7)
    assert found("elsewhere") == ("everybody", "elsewhere", 1)


def test_a_file_named_in_the_inventory_includes_from_the_same_folder(ssh: Path, tmp_path: Path) -> None:
    (ssh / "boards").write_text(board())
    (tmp_path / "own").write_text("Include boards\n")
    assert found(config=str(tmp_path / "own")) == THERE


def test_files_that_include_each_other_are_refused_by_name(ssh: Path) -> None:
    (ssh / "config").write_text("Include conf.d/*\n")
    for name in ("a", "b", "c"):
        (ssh / "conf.d" / name).write_text("Include conf.d/*\n")
    with pytest.raises(InventoryError, match=r"conf.d/a: included more than 16 deep; does a file include itself"):
        found()


@pytest.mark.parametrize(
    "match",
    [
        "Match host labpi",
        "Match originalhost lab*,!labnano",
        "Match Host labpi",
        "Match host=labpi",
        "Match all",
        "Match !host other",
        "Match originalhost labpi !user root2 exec true",
        'Match exec "test %n = labpi"',
        'Match !exec "exit 1"',
        "Match host other tagged fast\n  Port 1\nMatch all",
        "Match host other exec 'touch run'\n  Port 1\nMatch all",
    ],
)
def test_a_match_block_counts_where_openssh_says_so(
    ssh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (ssh / "config").write_text(f"{match}\n  HostName 192.0.2.7\n  Port 2222\n  User pi\n")
    assert found() == THERE
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("match", ["Match host other", "Match exec false", "Match user nobody2", "Match canonical"])
def test_a_match_block_for_others_does_not_count(ssh: Path, match: str) -> None:
    (ssh / "config").write_text(f"{match}\n  Port 1\nHost labpi\n  User pi\n")
    assert found() == ("pi", "labpi", 22)


def test_an_alias_is_known_though_there_are_match_blocks(ssh: Path) -> None:
    (ssh / "config").write_text("Match all\n  User x\n" + board() + "Match originalhost nano\n  HostName 192.0.2.8\n")
    assert known_to_ssh("labpi", None)
    assert known_to_ssh("nano", None)
    assert not known_to_ssh("pi", None)


def test_a_comment_behind_a_value_is_no_part_of_it(ssh: Path) -> None:
    (ssh / "config").write_text("Host labpi # ours\n HostName 192.0.2.7 # a\n Port 2222 #b\n User pi\t# c\n")
    assert found() == THERE


# ------------------------------------------------------------ the way there


@pytest.mark.parametrize(
    ("lines", "command", "jump"),
    [
        ("ProxyCommand nc %h %p", "nc 192.0.2.7 2222", None),
        ("ProxyCommand ssh -W %h:%p gate # not a comment", "ssh -W 192.0.2.7:2222 gate # not a comment", None),
        ("ProxyCommand echo %n %r 100%% | cat", "echo labpi pi 100% | cat", None),
        ("ProxyCommand none", None, None),
        ("ProxyJump none", None, None),
        ("ProxyJump gate", None, "gate"),
        ("ProxyJump gate\nProxyCommand nc %h %p", None, "gate"),
        ("ProxyCommand nc %h %p\nProxyJump gate", "nc 192.0.2.7 2222", None),
        ("ProxyCommand none\nProxyJump gate", None, None),
        ("ProxyJump NONE\nProxyCommand nc %h %p", None, None),
    ],
)
def test_of_proxy_jump_and_proxy_command_the_first_one_counts(
    ssh: Path, lines: str, command: str | None, jump: str | None
) -> None:
    (ssh / "config").write_text(board() + lines + "\nHost labpi\n ProxyCommand late\n ProxyJump late\n")
    address = resolve("labpi", {})
    assert address.proxy_command == command
    assert (address.jump.host if address.jump else None) == jump


def test_the_inventory_s_own_jump_host_beats_a_proxy_command(ssh: Path) -> None:
    (ssh / "config").write_text(board() + "ProxyCommand nc %h %p\n")
    address = resolve("labpi", {"jump": "gate", "port": 23})
    assert address.jump is not None
    assert (address.proxy_command, address.jump.host, address.port) == (None, "gate", 23)


def test_a_proxy_command_gets_the_port_and_the_user_that_the_inventory_sets(ssh: Path) -> None:
    (ssh / "config").write_text(board() + "ProxyCommand nc %h %p %r\n")
    assert resolve("labpi", {"port": 23, "user": "me"}).proxy_command == "nc 192.0.2.7 23 me"


# ------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Port\n", "config:1: cannot be read as an OpenSSH config: 'Port' lacks a value"),
        ("Host labpi\n Port many\n", "the port of 'labpi' is 'many', expected a number from 1 to 65535"),
        ("Host labpi\n Port 70000\n", "the port of 'labpi' is '70000'"),
        ("Match localnetwork 10.0.0.0/8\n", "config:1: `Match localnetwork` is not supported; `ssh: {config: FILE}`"),
        ("\nMatch host labpi tagged x\n", "config:2: `Match tagged` is not supported"),
        ("Match host\n", "config:1: Match host lacks its value"),
        ('Host "labpi\n', "config:1: No closing quotation"),
        ("Include 'x\n", "config:1: No closing quotation"),
        ("Match all host labpi\n", "does not allow 'all' mixed"),
        ("Host labpi\n ProxyCommand nc %h %k\n", "%k in 'nc %h %k' is not known; known: %h %n %p %r"),
    ],
)
def test_a_config_that_cannot_be_used_is_told_with_its_line(ssh: Path, text: str, complaint: str) -> None:
    (ssh / "config").write_text(text)
    with pytest.raises(InventoryError) as e:
        resolve("labpi", {})
    assert complaint in str(e.value)


def test_a_command_of_match_exec_that_hangs_is_ended(ssh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssh_config, "EXEC_S", 0.2)
    (ssh / "config").write_text("Match exec 'sleep 60'\n Port 1\n")
    with pytest.raises(InventoryError, match=r"config:1: Match exec: .*timed out"):
        resolve("labpi", {})


@pytest.mark.skipif(
    shutil.which("ssh") is None, reason="OpenSSH's ssh is not installed: apt-get install openssh-client"
)
@pytest.mark.parametrize("alias", ["labpi", "labnano", "other", "pi.lab.lan"])
@pytest.mark.parametrize(
    "text",
    [
        "Include {sub}\nPort 5\n",
        "Host lab*\n Include {sub}\n User u\nHost *\n User v\n Port 9\n",
        "Match originalhost labpi\n Include {sub}\nMatch final all\n Port 4\n",
        "Match host labpi,labnano !originalhost labnano\n Port 3\nHost !labpi *\n Port 8\n HostName %h.example\n",
        "Host labpi\n HostName pi.lab.lan\nMatch host *.lab.lan\n User late\n Port 11\nInclude {sub}\n",
        'Match exec "test %n = labpi" user nobody\n Port 1\nMatch exec "test %h = labpi"\n Port 2\n',
    ],
)
def test_host_user_and_port_are_those_of_openssh_itself(tmp_path: Path, text: str, alias: str) -> None:
    sub, config = tmp_path / "sub", tmp_path / "given"
    sub.write_text(
        "User inner\nHost labpi\n  HostName 192.0.2.7\nHost lab*\n  Port 77 # all\nMatch host labnano\n User n\n"
    )
    config.write_text("User first\n" * text.startswith("Host !") + text.format(sub=sub))
    shown = subprocess.run(["ssh", "-G", "-F", str(config), alias], capture_output=True, text=True, check=True).stdout
    theirs = dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)
    user, host, port = found(alias, config=str(config))
    assert (host, port) == (theirs["hostname"], int(theirs["port"]))
    assert user is None or user == theirs["user"]
