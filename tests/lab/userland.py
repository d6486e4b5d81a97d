"""A Raspberry Pi 4's programs on this machine's kernel: arm64 under qemu-user, with an sshd and board files of its own.

Everything is mounted in a mount and process namespace of its own: when its first process goes, so does everything
else. qemu-user passes no I²C ioctls, so sensors are tried elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import free_port
from tests.lab import binfmt, raspberry_pi_4
from tests.lab.board import DIES_WITH_US, Board, Keys

SCRIPT = """
set -e
mount -t tmpfs -o mode=755 tmpfs {work}
mkdir {work}/upper {work}/work {root}
mount -t overlay -o lowerdir={lower},upperdir={work}/upper,workdir={work}/work overlay {root}
cp -a {files}/. {root}/
chown -R 1000:1000 {root}/home/pi
mount -t proc proc {root}/proc
mount --bind {root}/etc/cpuinfo {root}/proc/cpuinfo
mount -t tmpfs tmpfs {root}/sys
cp -r {root}/etc/sys/. {root}/sys/
mount -t tmpfs -o mode=755 tmpfs {root}/dev
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
  name=${{node%%:*}}; number=${{node#*:}}
  mknod -m 666 {root}/dev/$name c ${{number%:*}} ${{number#*:}}
done
ln -s /proc/self/fd {root}/dev/fd
mkdir {root}/dev/pts {root}/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts {root}/dev/pts
mount -t tmpfs -o mode=1777 tmpfs {root}/dev/shm
mount -t tmpfs -o mode=1777 tmpfs {root}/tmp
mount -t tmpfs -o mode=755 tmpfs {root}/run
mkdir -m 755 {root}/run/sshd
exec chroot {root} /usr/sbin/sshd -D -e -p {port} -o ListenAddress=127.0.0.1
"""


def missing() -> str | None:
    """Say why an arm64 userland cannot run here, or None."""
    if not shutil.which("unshare"):
        return "no unshare: apt-get install util-linux"
    return binfmt.missing()


@contextlib.contextmanager
def userland(root: Path, folder: Path) -> Iterator[Board]:
    """Run the system in ``root`` as a board; ``folder`` holds its keys and log, ``root`` stays as it is."""
    keys = Keys.new(folder / "keys")
    board = Board(name="pi4", kind="raspberry-pi-4", host="127.0.0.1", port=free_port(), user="pi", keys=keys)
    _write_files(folder / "files", keys)
    (folder / "board").mkdir()
    paths = {
        "work": folder / "board", "root": folder / "board" / "root", "lower": root, "files": folder / "files"
    }  # fmt: skip
    script = SCRIPT.format(port=board.port, **{name: shlex.quote(str(path)) for name, path in paths.items()})
    with binfmt.registered(), (folder / "log").open("wb") as log:
        namespaces = (*DIES_WITH_US, "unshare", "--mount", "--pid", "--fork", "--kill-child")
        process = subprocess.Popen([*namespaces, "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _wait_until_listening(process, folder / "log")
            yield board
        finally:
            process.kill()
            process.wait()
            _wait_until_empty(folder / "board")


def _write_files(folder: Path, keys: Keys) -> None:
    """Write what makes this system a certain board: its name, sensors, keys."""
    files = {
        "etc/cpuinfo": raspberry_pi_4.CPUINFO,
        "usr/bin/vcgencmd": raspberry_pi_4.VCGENCMD,
        "etc/ssh/ssh_host_ed25519_key": (keys.folder / "host_key").read_text(),
        "etc/ssh/keys/pi": (keys.folder / "client_key.pub").read_text(),
        **{f"etc/sys/{name}": text for name, text in raspberry_pi_4.SYS.items()},
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "usr/bin/vcgencmd").chmod(0o755)
    (folder / "etc/ssh/ssh_host_ed25519_key").chmod(0o600)
    for made in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        made.chmod(0o755)


def _wait_until_listening(process: subprocess.Popen[bytes], log: Path, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while "Server listening" not in log.read_text(errors="replace"):
        assert process.poll() is None, f"the board ended: {log.read_text(errors='replace')}"
        assert time.monotonic() < until, f"the board does not start: {log.read_text(errors='replace')}"
        time.sleep(0.05)


def _wait_until_empty(folder: Path) -> None:
    """The namespace goes with its last process; then the folder is what it was before."""
    until = time.monotonic() + 10.0
    while os.path.ismount(folder) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(folder.iterdir()), f"{folder} is still in use"
