"""A Raspberry Pi OS in small: Debian 12 for arm64 with sshd, Python 3.11 and the runtimes' aarch64 wheels, one folder.

Nothing of it is emulated while it is made. Both virtual boards run it: as a user's programs, and as a whole machine.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lab import cache, debian

PACKAGES = (
    "busybox-static",
    "coreutils",
    "dash",
    "libstdc++6",
    "libpython3.11-stdlib",
    "openssh-server",
    "python3-minimal",
)
WHEELS = ("numpy==2.4.6", "onnxruntime==1.31.1", "ai-edge-litert==2.3.0")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
DIST_PACKAGES = "usr/local/lib/python3.11/dist-packages"

FILES = {  # what the packages' own set-up would write
    "etc/passwd": """\
root:x:0:0:root:/root:/bin/sh
sshd:x:101:65534::/run/sshd:/usr/sbin/nologin
pi:x:1000:1000::/home/pi:/bin/sh
nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin
""",
    "etc/group": "root:x:0:\ntty:x:5:\nvideo:x:44:pi\ni2c:x:998:pi\npi:x:1000:\nnogroup:x:65534:\n",
    "etc/shadow": "root:*:19000::::::\npi:*:19000::::::\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
    "etc/hosts": "127.0.0.1 localhost raspberrypi\n",
    "etc/hostname": "raspberrypi\n",
    "etc/ssh/sshd_config": """\
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/keys/%u
UsePAM no
UseDNS no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
PidFile none
""",
}
FOLDERS = (
    "dev",
    "etc/ssh/keys",
    "home/pi",
    "mnt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib",
    "usr/sbin",
)


def missing() -> str | None:
    """Say why the system cannot be made here, or None."""
    return debian.missing()


def arm64_root() -> Path:
    """Return the system's folder; only to be read."""
    return cache.built("arm64-root", cache.sources("arm64_root.py", "debian.py"), _build)


def _build(root: Path) -> None:
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("bin", "lib", "sbin"):
        (root / folder).symlink_to(f"usr/{folder}")
    with tempfile.TemporaryDirectory() as fetched:
        for package in debian.Packages(Path(fetched), "arm64").with_dependencies(PACKAGES):
            debian.unpack(package, root)
    for name, text in FILES.items():
        (root / name).write_text(text)
    _install_wheels(root / DIST_PACKAGES)
    _compile(root)


def _install_wheels(folder: Path) -> None:
    """Have pip unpack wheels for the board's processor; the agent needs no more of their dependencies than numpy."""
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--no-compile"),
            *("--disable-pip-version-check", "--python-version", "3.11", "--implementation", "cp", *platforms),
            *("--target", str(folder), *WHEELS),
        ],
        check=True,
    )


def _compile(root: Path) -> None:
    """Compile as the packages' set-up would, where this Python writes the board's byte code: imports then take 1 s."""
    if sys.version_info[:2] != (3, 11):
        return
    folders = [
        root / DIST_PACKAGES / "numpy",
        root / DIST_PACKAGES / "onnxruntime" / "capi",
        root / "usr/lib/python3.11",
    ]
    strip = ["-s", str(root), "-p", "/"]
    subprocess.run([sys.executable, "-m", "compileall", "-q", "-j", "2", *strip, *map(str, folders)], check=False)
