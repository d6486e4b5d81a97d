"""Files of host keys: what OpenSSH writes is understood, what is broken concerns nobody else, writing loses nothing."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from pipeline.devices.sessions.host_keys import HostKey, known, store, verify
from pipeline.errors import HostKeyChangedError, HostKeyUnknownError
from pipeline.records import SshAddress

OLD = HostKey("pi", "ssh-ed25519", b"old key")
NEW = HostKey("pi", "ssh-ed25519", b"new key")


def trusting(path: Path, *lines: str, host: str = "pi", port: int = 22) -> SshAddress:
    path.write_text("".join(f"{line}\n" for line in lines))
    return SshAddress(host=host, port=port, known_hosts=str(path))


def test_a_fingerprint_is_the_one_that_openssh_prints(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(tmp_path / "k")], check=True)
    kind, key = (tmp_path / "k.pub").read_text().split()[:2]
    shown = subprocess.run(["ssh-keygen", "-lf", str(tmp_path / "k")], check=True, capture_output=True, text=True)
    assert HostKey("h", kind, base64.b64decode(key)).fingerprint == shown.stdout.split()[1]


def test_a_missing_file_trusts_nobody(tmp_path: Path) -> None:
    with pytest.raises(HostKeyUnknownError):
        verify(SshAddress(host="pi", known_hosts=str(tmp_path / "none")), NEW, "board")


def test_broken_lines_concern_nobody_else(tmp_path: Path) -> None:
    broken = ["pi", "pi ssh-ed25519", "pi ssh-ed25519 !!!", "|1|x|y ssh-rsa AAAA", "|1| ssh-rsa AAAA", "# comment", ""]
    address = trusting(tmp_path / "known", *broken, NEW.line, "@what pi")
    (tmp_path / "known").write_bytes((tmp_path / "known").read_bytes() + b"\xff\xfe\n")
    verify(address, NEW, "board")


@pytest.mark.parametrize("names", ["pi", "other,pi", "PI", "p?", "*", "10.0.0.1,p*"])
def test_a_line_is_for_every_host_that_it_names(tmp_path: Path, names: str) -> None:
    verify(trusting(tmp_path / "known", NEW.line.replace("pi", names, 1)), NEW, "board")


@pytest.mark.parametrize("names", ["pie", "!pi,*", "[pi]:2222", "api"])
def test_a_line_for_other_hosts_trusts_nothing_here(tmp_path: Path, names: str) -> None:
    with pytest.raises(HostKeyUnknownError):
        verify(trusting(tmp_path / "known", NEW.line.replace("pi", names, 1)), NEW, "board")


def test_away_from_port_22_the_port_is_part_of_the_name(tmp_path: Path) -> None:
    key = HostKey("[pi]:2222", "ssh-ed25519", b"new key")
    verify(trusting(tmp_path / "known", key.line, port=2222), key, "board")
    with pytest.raises(HostKeyUnknownError):
        verify(trusting(tmp_path / "known", NEW.line, port=2222), key, "board")


def test_a_revoked_key_is_refused_even_where_another_line_trusts_it(tmp_path: Path) -> None:
    with pytest.raises(HostKeyChangedError, match="@revoked"):
        verify(trusting(tmp_path / "known", NEW.line, f"@revoked {NEW.line}"), NEW, "board")


def test_a_certificate_authority_is_not_mistaken_for_a_host_key(tmp_path: Path) -> None:
    assert known(trusting(tmp_path / "known", f"@cert-authority {NEW.line}")) == []


def test_any_of_the_files_may_trust_a_key(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text(NEW.line)
    ours = trusting(tmp_path / "ours", OLD.line)
    verify(SshAddress(host="pi", known_hosts=ours.known_hosts, more_known_hosts=(str(tmp_path / "theirs"),)), NEW, "b")


def test_a_stored_key_is_found_again_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "known_hosts"
    store(path, NEW)
    store(path, NEW)
    assert path.read_text() == NEW.line + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_another_key_is_stored_only_when_told_to_replace_and_every_other_line_stays(tmp_path: Path) -> None:
    path = tmp_path / "known"
    others = ["# mine", "nano ssh-ed25519 AAAA", "not understood", "@revoked pi ssh-rsa AAAA"]
    trusting(path, *others[:2], OLD.line.replace("pi", "pi,10.0.0.1", 1), *others[2:])
    with pytest.raises(HostKeyChangedError) as e:
        store(path, NEW)
    assert OLD.fingerprint in str(e.value)
    assert NEW.fingerprint in str(e.value)
    store(path, NEW, replace=True)
    lines = path.read_text().splitlines()
    assert set(others) < set(lines)
    assert OLD.line.replace("pi", "10.0.0.1", 1) in lines
    assert lines[-1] == NEW.line
