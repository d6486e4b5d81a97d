"""A folder that is written whole or not at all, and never over anything of the user's."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.regular_file import exists, is_folder

MANIFEST = "manifest.json"
"""Lists the other files; written last, because without it the folder counts for nothing."""


@contextmanager
def new_folder(output: Path, kind: str) -> Iterator[Path]:
    """Yield a folder to fill, which becomes ``output`` when the block ends well, and disappears otherwise.

    Args:
        output: a folder that is new or empty.
        kind: what is written, for messages: ``bundle``.

    Raises:
        OutputError: ``output`` is not empty or cannot be written.
    """
    output = output.absolute()
    with explained(output, kind):
        refuse_used(output, kind)
        output.parent.mkdir(parents=True, exist_ok=True)
        beside = output if output.is_dir() else output.parent
        partial = Path(tempfile.mkdtemp(prefix=f".{output.name}.partial-", dir=beside))
        try:
            yield partial
            _publish(partial, output)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def refuse_used(output: Path, kind: str) -> None:
    """Raise OutputError unless ``output`` is a folder that is new or empty."""
    with explained(output, kind):
        if output.is_symlink() or (exists(output) and not is_folder(output)):
            raise OutputError(f"{output} is no folder; give a new or an empty one")
        if exists(output) and any(output.iterdir()):
            raise OutputError(
                f"{output} is not empty; give a new folder, so that nothing of yours is mixed with the {kind}"
            )


def listed(folder: Path) -> dict[str, dict[str, str | int]]:
    """Return each file's sha256 and bytes, for the manifest."""
    return {path.name: {"sha256": file_sha256(path), "bytes": path.stat().st_size} for path in sorted(folder.iterdir())}


def file_sha256(path: Path) -> str:
    """Return a file's sha256."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def explained(output: Path, kind: str) -> Iterator[None]:
    """Turn what the file system and the encoder raise into OutputError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        where = f" ({error.filename})" if error.filename else ""
        raise OutputError(f"the {kind} {output} cannot be written or read: {reason}{where}") from error
    except ValueError as error:
        raise OutputError(f"the {kind} {output} cannot be written: {error}") from error


def _publish(partial: Path, output: Path) -> None:
    """Move what was written to its place by renaming alone.

    A folder that is there already stays itself, since it may be a mount point or the shell's own.
    """
    if not output.is_dir():
        partial.chmod(0o755)
        partial.replace(output)
        return
    for path in sorted(partial.iterdir(), key=lambda p: p.name == MANIFEST):
        path.replace(output / path.name)
