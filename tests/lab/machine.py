"""A whole arm64 computer: Debian's kernel under qemu-system, its system in memory, an sshd on a port of this machine's.

The root file system is the initial RAM disk, so that there is no disk to make, to drive or to put back: 4 s from a
cold start to a login, and nothing is left when the process ends.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import free_port
from tests.lab import arm64_kernel, cache
from tests.lab.board import DIES_WITH_US, Board, Keys

QEMU = "qemu-system-aarch64"
MEMORY_MB = 2048
LEFT_OUT = ("./usr/local/lib/python3.11/dist-packages/ai_edge_litert*", "./usr/share/*", "*/numpy/*/tests/*")
INITTAB = "::sysinit:/etc/rc\n::respawn:/usr/sbin/sshd -D -e\n"
RC = """\
#!/bin/sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
mkdir /dev/pts /dev/shm
$b mount -t devpts devpts /dev/pts
$b mount -t tmpfs -o mode=1777 tmpfs /dev/shm
$b mount -t tmpfs -o mode=1777 tmpfs /tmp
$b mount -t tmpfs -o mode=755 tmpfs /run
mkdir -m 755 /run/sshd
chown -R pi:pi /home/pi
for module in {modules}; do $b insmod /lib/modules/$module.ko; done
$b ifconfig lo 127.0.0.1 up
$b ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
"""


def missing() -> str | None:
    """Say why an arm64 machine cannot be started here, or None."""
    if not shutil.which(QEMU):
        return f"no {QEMU}: apt-get install qemu-system-arm"
    return arm64_kernel.missing()


@contextlib.contextmanager
def machine(root: Path, kernel: Path, folder: Path) -> Iterator[Board]:
    """Start the system in ``root`` under ``kernel``; ``folder`` holds its keys, console and first files."""
    keys = Keys.new(folder / "keys")
    board = Board(name="machine", kind="linux", host="127.0.0.1", port=free_port(), user="pi", keys=keys)
    disk = folder / "initrd"
    _lay_over(folder / "files", kernel, keys)
    with disk.open("wb") as file:
        with (_system(root) / "system.cpio").open("rb") as system:
            shutil.copyfileobj(system, file, 1 << 24)
        file.write(_packed(folder / "files"))
    console = folder / "console"
    with console.open("wb") as log:
        process = subprocess.Popen(_command(kernel, disk, board.port), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _wait_for_login(process, board, console)
            yield board
        finally:
            process.kill()
            process.wait()
            disk.unlink()


def _command(kernel: Path, disk: Path, port: int) -> list[str]:
    return [
        *DIES_WITH_US,
        *(QEMU, "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", str(MEMORY_MB), "-accel", "tcg,thread=multi"),
        *("-nodefaults", "-display", "none", "-monitor", "none", "-serial", "stdio"),
        *("-kernel", str(kernel / "vmlinuz"), "-initrd", str(disk)),
        *("-append", "console=ttyAMA0 quiet mitigations=off rdinit=/sbin/init"),
        *("-netdev", f"user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"),
        *("-device", "virtio-net-pci,netdev=n,romfile=", "-device", "virtio-rng-pci"),
    ]


def _system(root: Path) -> Path:
    """Return the folder with the system as a cpio archive, packed once."""

    def build(folder: Path) -> None:
        (folder / "system.cpio").write_bytes(_packed(root, LEFT_OUT))

    return cache.built("arm64-initrd", f"{root.name}{LEFT_OUT}{cache.sources('machine.py')}", build)


def _packed(folder: Path, left_out: tuple[str, ...] = ()) -> bytes:
    """Return a folder as the kernel unpacks it into memory: cpio, newc, everything root's, from one big block."""
    leave = [word for pattern in left_out for word in ("!", "-path", pattern)]
    listed = subprocess.run(["find", ".", *leave, "-print0"], cwd=folder, check=True, stdout=subprocess.PIPE).stdout
    options = ("--create", "--quiet", "--null", "--format=newc", "--owner=+0:+0", "--block-size=2048")
    return subprocess.run(["cpio", *options], cwd=folder, input=listed, check=True, stdout=subprocess.PIPE).stdout


def _lay_over(folder: Path, kernel: Path, keys: Keys) -> None:
    """Write what makes this system a machine of its own: first program, kernel modules, keys."""
    user = (keys.folder / "client_key.pub").read_text()
    modules = [Path(name).name for name in arm64_kernel.NETWORK]
    files = {
        "etc/inittab": INITTAB,
        "etc/rc": RC.format(modules=" ".join(modules)),
        "etc/ssh/ssh_host_ed25519_key": (keys.folder / "host_key").read_text(),
        "etc/ssh/keys/pi": user,
        "etc/ssh/keys/root": user,
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "usr/sbin").mkdir(parents=True)
    (folder / "usr/sbin/init").symlink_to("/bin/busybox")
    (folder / "etc/rc").chmod(0o755)
    (folder / "etc/ssh/ssh_host_ed25519_key").chmod(0o600)
    shutil.copytree(kernel / "modules", folder / "usr/lib/modules")


def _wait_for_login(process: subprocess.Popen[bytes], board: Board, console: Path, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while "ok" not in board.run("echo", "ok", check=False):
        said = console.read_text(errors="replace")[-2000:]
        assert process.poll() is None, f"the machine ended: {said}"
        assert time.monotonic() < until, f"the machine does not start: {said}"
        time.sleep(0.1)
