"""The converter's own environment: made once, by itself, beside the pipeline's and never mixed with it.

litert-torch pins older versions of packages that the pipeline uses too, and brings JAX, so it gets a virtual
environment in the user's cache. The pipeline's packages are made visible *behind* its own by a ``.pth`` file, so that
PyTorch is not downloaded again; pip counts it as installed and a constraint keeps its version.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import platformdirs

from pipeline.errors import ConverterError

log = logging.getLogger(__name__)

VARIABLE = "PIPELINE_TFLITE_CONVERTER"
"""Names the Python of an environment that has litert-torch already."""
REQUIREMENTS = ("litert-torch==0.10.0", "litert-converter==0.5.0", "ai-edge-litert==2.3.0")
"""Tried together; they run on Python 3.11 beside torch 2.13."""
CONSTRAINTS = (
    "anyio==4.14.2", "jax==0.10.2", "pydantic==2.11.10", "pydantic-core==2.33.2", "torchao==0.18.0",
    "transformers==5.23.0", "typing-extensions==4.12.2", "typing-inspection==0.4.2",
)  # fmt: skip
"""What pip would find after trying a dozen others, and the two that change most: as they were when tried."""
LEAST_FREE_BYTES = 3 * 10**9
"""The environment takes 1 GB; pip unpacks the same beside it, and keeps the downloads."""

OnNote = Callable[[str], None]


def converter_python(on_note: OnNote = lambda _: None, *, cache: Path | None = None) -> Path:
    """Return the Python that can convert; make its environment where there is none yet.

    Two processes that ask at once make it once; what was left half made is made anew.

    Args:
        on_note: hears what is being done, a line at a time.
        cache: where environments are kept; None: the user's cache folder.

    Raises:
        ConverterError: it cannot be made; says why and what to do.
    """
    if chosen := os.environ.get(VARIABLE):
        return _required_program(Path(chosen).expanduser())
    folder = (cache or Path(platformdirs.user_cache_dir("pipeline"))) / f"converter-{_versions()}"
    python = folder / "bin" / "python"
    if python.exists():
        return python
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".lock"), on_note):
            if not python.exists():  # another process may have made it meanwhile
                _make(folder, on_note)
    except OSError as error:
        raise ConverterError(
            f"the TFLite converter's environment cannot be written to {folder.parent}: {error.strerror or error}; "
            f"make room there, or set XDG_CACHE_HOME to a folder with {LEAST_FREE_BYTES / 1e9:.0f} GB free"
        ) from error
    return python


def _required_program(python: Path) -> Path:
    if not os.access(python, os.X_OK) or python.is_dir():
        raise ConverterError(f"{VARIABLE} is {python}: no program; expected the Python of an environment made by "
                             f"`pip install {' '.join(REQUIREMENTS)}`")  # fmt: skip
    return python


def _versions() -> str:
    """Return a short name for all that the environment depends on."""
    parts = [*REQUIREMENTS, *CONSTRAINTS, sys.version, sys.prefix, version("torch"), version("numpy")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


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


def _make(folder: Path, on_note: OnNote) -> None:
    free = shutil.disk_usage(folder.parent).free
    if free < LEAST_FREE_BYTES:
        raise ConverterError(
            f"the TFLite converter's environment needs {LEAST_FREE_BYTES / 1e9:.0f} GB in {folder.parent}, "
            f"{free / 1e9:.1f} GB are free; make room, or set XDG_CACHE_HOME to another disk's folder"
        )
    for left in folder.parent.glob(f"{folder.name}.partial-*"):  # by a maker that was killed; its pip may still write
        shutil.rmtree(left, ignore_errors=True)
    partial = folder.with_suffix(f".partial-{os.getpid()}")
    try:
        on_note("making a virtual environment")
        _run([sys.executable, "-m", "venv", str(partial)], "a virtual environment cannot be made")
        _show_our_packages(partial)
        _install(partial, on_note)
        on_note("trying it")
        _run([str(partial / "bin" / "python"), "-c", "import litert_torch"], "litert-torch was installed but fails")
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _show_our_packages(environment: Path) -> None:
    """Put the running Python's packages behind the environment's own on its path."""
    ours = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    theirs = environment / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (theirs / "behind.pth").write_text("".join(f"{path}\n" for path in ours))


def _install(environment: Path, on_note: OnNote) -> None:
    """Run pip, and tell what it fetches."""
    kept = environment / "constraints.txt"
    ours = (f"torch=={version('torch').partition('+')[0]}", f"numpy=={version('numpy')}")
    kept.write_text("".join(f"{line}\n" for line in (*ours, *CONSTRAINTS)))
    command = [
        str(environment / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input",
        "--progress-bar", "off", "--constraint", str(kept), *REQUIREMENTS,
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
        raise ConverterError(
            f"the TFLite converter cannot be installed: {_reason(said)}; it is fetched once, from where pip is set to "
            f"look: check the network, or set {VARIABLE} to the Python of an environment made elsewhere by "
            f"`pip install {' '.join(REQUIREMENTS)}`"
        )


def _run(command: list[str], failed: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConverterError(f"{failed}: {_reason((done.stdout + done.stderr).splitlines())}")


def _reason(lines: list[str]) -> str:
    """Return the line that says most of what went wrong.

    >>> _reason(["Collecting x", "ERROR: No matching distribution found for x", "", "[notice] newer pip"])
    'No matching distribution found for x'
    """
    errors = [line for line in lines if line.startswith(("ERROR: ", "Error: ", "error: "))]
    spoken = [line for line in lines if line.strip()]
    return (errors or spoken or ["it said nothing"])[-1].partition(": ")[2] if errors else (spoken or ["no word"])[-1]
