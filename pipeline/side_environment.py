"""Side environment: packages that pin others than the pipeline's, made once beside it and never mixed with it.

It is a virtual environment in the user's cache. The pipeline's packages are made visible *behind* its own by a ``.pth``
file, so that PyTorch is not downloaded again; pip counts it as installed and a constraint keeps its version.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import platformdirs

from pipeline.errors import PipelineError

OnNote = Callable[[str], None]
_KEPT = ("torch", "numpy")
"""Of the pipeline's packages those whose version stays."""


def quiet(note: str) -> None:
    """Hear a note and tell nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideEnvironment:
    """What is installed there, and how its messages call it."""

    name: str
    """Beginning of its folder's name."""
    what: str
    """As sentences call it: the TFLite converter."""
    variable: str
    """Of the environment: names the Python of one that has the packages already."""
    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    attempt: str
    """Statement that has to run there."""
    least_free_bytes: int
    """For it, what pip unpacks beside it, and the downloads."""
    error: type[PipelineError]
    """Raised where it cannot be made."""

    def python(self, on_note: OnNote = quiet, cache: Path | None = None) -> Path:
        """Return its Python; make it where there is none yet.

        Two processes that ask at once make it once; what was left half made is made anew.

        Args:
            on_note: hears what is being done, a line at a time.
            cache: where environments are kept; None: the user's cache folder.

        Raises:
            PipelineError: ``error``: it cannot be made; says why and what to do.
        """
        if chosen := os.environ.get(self.variable):
            return self._required_program(Path(chosen).expanduser())
        folder = (cache or Path(platformdirs.user_cache_dir("pipeline"))) / f"{self.name}-{self._versions()}"
        python = folder / "bin" / "python"
        if python.exists():
            return python
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _locked(folder.with_suffix(".lock"), on_note):
                if not python.exists():  # another process may have made it meanwhile
                    self._make(folder, on_note)
        except OSError as error:
            raise self.error(
                f"{self.what}'s environment cannot be written to {folder.parent}: {error.strerror or error}; "
                f"make room there, or set XDG_CACHE_HOME to a folder with {self._least} free"
            ) from error
        return python

    @property
    def _install(self) -> str:
        return f"`pip install {' '.join(self.requirements)}`"

    @property
    def _least(self) -> str:
        return f"{self.least_free_bytes / 1e9:.0f} GB"

    def _required_program(self, python: Path) -> Path:
        if not os.access(python, os.X_OK) or python.is_dir():
            raise self.error(
                f"{self.variable} is {python}: no program; expected the Python of an environment "
                f"made by {self._install}"
            )
        return python

    def _versions(self) -> str:
        """Return a short name for all that the environment depends on."""
        parts = [*self.requirements, *self.constraints, sys.version, sys.prefix, *map(version, _KEPT)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

    def _make(self, folder: Path, on_note: OnNote) -> None:
        free = shutil.disk_usage(folder.parent).free
        if free < self.least_free_bytes:
            raise self.error(
                f"{self.what}'s environment needs {self._least} in {folder.parent}, "
                f"{free / 1e9:.1f} GB are free; make room, or set XDG_CACHE_HOME to another disk's folder"
            )
        for left in folder.parent.glob(
            f"{folder.name}.partial-*"
        ):  # by a maker that was killed; its pip may still write
            shutil.rmtree(left, ignore_errors=True)
        partial = folder.with_suffix(f".partial-{os.getpid()}")
        try:
            on_note("making a virtual environment")
            self._run([sys.executable, "-m", "venv", str(partial)], "a virtual environment cannot be made")
            _show_our_packages(partial)
            self._fetch(partial, on_note)
            on_note("trying it")
            self._run([str(partial / "bin" / "python"), "-c", self.attempt], f"{self.what} was installed but fails")
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _fetch(self, environment: Path, on_note: OnNote) -> None:
        """Run pip, and tell what it fetches."""
        kept = environment / "constraints.txt"
        ours = (f"{name}=={version(name).partition('+')[0]}" for name in _KEPT)
        kept.write_text("".join(f"{line}\n" for line in (*ours, *self.constraints)))
        command = [
            str(environment / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input",
            "--progress-bar", "off", "--constraint", str(kept), *self.requirements,
        ]  # fmt: skip
        said: list[str] = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
            assert pip.stdout is not None
            try:
                for line in pip.stdout:
                    said.append(line.rstrip())
                    if line.startswith("Collecting "):
                        on_note(f"fetching {line.split()[1]}")
                    elif line.startswith("Installing "):
                        on_note("unpacking; this takes the longest")
            except BaseException:
                pip.terminate()
                raise
        if pip.returncode:
            raise self.error(
                f"{self.what} cannot be installed: {_reason(said)}; it is fetched once, from where pip is set to "
                f"look: check the network, or set {self.variable} to the Python of an environment made elsewhere by "
                f"{self._install}"
            )

    def _run(self, command: list[str], failed: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise self.error(f"{failed}: {_reason((done.stdout + done.stderr).splitlines())}")


@contextmanager
def _locked(path: Path, on_note: OnNote) -> Iterator[None]:
    """Hold a lock that ends with the process; what it guards may take minutes."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_note("another process is making it: waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _show_our_packages(environment: Path) -> None:
    """Put the running Python's packages behind the environment's own on its path."""
    ours = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    theirs = environment / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (theirs / "behind.pth").write_text("".join(f"{path}\n" for path in ours))


def _reason(lines: list[str]) -> str:
    """Return the line that says most of what went wrong.

    >>> _reason(["Collecting x", "ERROR: No matching distribution found for x", "", "[notice] newer pip"])
    'No matching distribution found for x'
    """
    errors = [line for line in lines if line.startswith(("ERROR: ", "Error: ", "error: "))]
    spoken = [line for line in lines if line.strip()]
    return (errors or spoken or ["it said nothing"])[-1].partition(": ")[2] if errors else (spoken or ["no word"])[-1]
