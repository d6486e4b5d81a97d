"""Debian's packages of any architecture: fetched with everything they need, unpacked, never installed.

apt runs on an index and an (empty) status file of its own, so the machine's own packages are neither read nor changed.
Unpacking takes 3 s where debootstrap's emulated second stage takes two minutes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SOURCES = f"""\
deb [signed-by={KEYRING}] http://deb.debian.org/debian bookworm main
deb [signed-by={KEYRING}] http://deb.debian.org/debian-security bookworm-security main
"""
SETTINGS = """\
#clear APT::Update::Post-Invoke;
#clear DPkg::Post-Invoke;
APT::Architecture "{architecture}";
APT::Architectures "{architecture}";
APT::Install-Recommends "0";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "1";
Dir::State "{folder}";
Dir::State::Lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "{folder}/none";
Dir::Etc::Preferences "{folder}/none";
Dir::Etc::PreferencesParts "{folder}/none";
"""
UNUSED = ("./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./usr/share/perl", "./usr/share/lintian")


def missing() -> str | None:
    """Say why packages cannot be fetched here, or None."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return "no apt: the board's system is made of Debian's packages"
    return None if KEYRING.exists() else f"{KEYRING} is missing: apt-get install debian-archive-keyring"


class Packages:
    """Debian 12's packages for one architecture, fetched into ``folder``."""

    def __init__(self, folder: Path, architecture: str) -> None:
        self._folder = folder
        for part in ("lists/partial", "archives/partial", "none"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "status").write_text("")
        (folder / "sources.list").write_text(SOURCES)
        (folder / "apt.conf").write_text(SETTINGS.format(folder=folder, architecture=architecture))
        self._apt("apt-get", "update")

    def with_dependencies(self, names: Iterable[str]) -> list[Path]:
        """Fetch packages and all that they depend on; return the files."""
        self._apt("apt-get", "--yes", "--download-only", "install", *names)
        return sorted((self._folder / "archives").glob("*.deb"))

    def only(self, names: Iterable[str]) -> list[Path]:
        """Fetch packages without what they depend on; return the files."""
        folder = self._folder / "only"
        folder.mkdir(exist_ok=True)
        self._apt("apt-get", "download", *names, cwd=folder)
        return [next(folder.glob(f"{name}_*.deb")) for name in names]

    def dependency(self, name: str, pattern: str) -> str:
        """Return the package that matches ``pattern`` among those that ``name`` depends on."""
        shown = self._apt("apt-cache", "depends", name)
        found = re.search(rf"Depends: ({pattern})$", shown, re.M)
        assert found, f"{name} depends on nothing like {pattern}: {shown}"
        return found.group(1)

    def _apt(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [program, f"-c={self._folder}/apt.conf", *arguments], cwd=cwd, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{program} {' '.join(arguments)}: {done.stderr}"
        return done.stdout


def unpack(package: Path, folder: Path, *members: str) -> None:
    """Unpack a package, or only its ``members`` (``./usr/…``, with wildcards), less what no test reads."""
    fetch = ["dpkg-deb", "--fsys-tarfile", str(package)]
    leave = [f"--exclude={path}" for path in UNUSED]
    take = ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "--wildcards", *leave, "-C", str(folder)]
    with subprocess.Popen(fetch, stdout=subprocess.PIPE) as files:
        subprocess.run([*take, *members], stdin=files.stdout, check=True)
    assert files.returncode == 0, f"{package} cannot be unpacked"
