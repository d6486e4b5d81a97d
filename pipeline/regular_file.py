"""Files that a user names, opened only as regular files of bounded size: never a pipe, a device or what has no end.

What is none is an OSError as any other, so that whoever reads translates it with the rest. Pipes and devices are not
even opened: that may wait for ever, or do something.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SETTINGS_BYTES = 256 * 1024
"""Most of a YAML file or another that people write by hand; PyYAML takes two seconds for so many."""
LIST_BYTES = 256 * 1024 * 1024
"""Most of a table, a recipe or another file that programs write; a table of ImageNet's images has 80 MB."""
MODEL_BYTES = 2 * 1024**3
"""Most of a model file: a protobuf or a flatbuffer holds no more."""
WEIGHTS_BYTES = 16 * 1024**3
"""Most of a checkpoint, an optimiser's state included."""

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class UnfitFileError(OSError):
    """What a path names is no regular file, too large, or changes while it is read."""

    def __init__(self, reason: str, path: Path) -> None:
        super().__init__(errno.EINVAL, reason, str(path))

    def __str__(self) -> str:
        """Return the reason alone: whoever translates it says of which file."""
        return str(self.strerror)


@contextmanager
def opened(path: Path, most_bytes: int) -> Iterator[io.BufferedReader[_AtRest]]:
    """Open a file to read.

    Raises:
        OSError: there is none, it cannot be opened, is no regular file or has more than ``most_bytes``.
    """
    _require(_status(path), most_bytes, path)
    # Without O_NONBLOCK, a pipe that has taken the file's place since would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with _AtRest(descriptor) as raw:
        _require(os.fstat(descriptor), most_bytes, path)
        with io.BufferedReader(raw) as stream:
            yield stream


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """Return a file's content; raises like ``opened``, and where the size changes meanwhile."""
    with opened(path, most_bytes) as stream:
        size = os.fstat(stream.fileno()).st_size
        content = stream.read(size + 1)
    if len(content) != size:
        raise UnfitFileError("it holds more or less than its size says; give a file that is not being written", path)
    return content


def read_text(path: Path, most_bytes: int = SETTINGS_BYTES) -> str:
    """Return a file's text, UTF-8; raises like ``read_bytes``, and UnicodeDecodeError."""
    return read_bytes(path, most_bytes).decode("utf-8")


def exists(path: Path) -> bool:
    """Return whether there is anything of that name; False where no file can have it."""
    try:
        _status(path)
    except OSError:
        return False
    return True


def is_there(path: Path) -> bool:
    """Return whether a path names a regular file; False where that cannot be known, as of names that are too long."""
    try:
        return stat.S_ISREG(_status(path).st_mode)
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Return whether a path names a folder; False as ``is_there``."""
    try:
        return stat.S_ISDIR(_status(path).st_mode)
    except OSError:
        return False


def home_expanded(path: Path | str) -> Path:
    """Return a path with ``~`` as the user's home; as it is where nobody of that name has one.

    >>> home_expanded("~nobody-of-that-name/net.pt")
    PosixPath('~nobody-of-that-name/net.pt')
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


class _AtRest(io.FileIO):
    """A file that never makes a reader wait: the kernel has some that look regular and are fed by others."""

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read what is there."""
        count: int | None = super().readinto(buffer)
        if count is None:
            raise UnfitFileError(
                "it has nothing to read yet; give a file that is not being written", Path(str(self.name))
            )
        return count


def _status(path: Path) -> os.stat_result:
    try:
        return os.stat(path)  # noqa: PTH116 - Path.stat raises ValueError as well
    except (ValueError, UnicodeError) as error:  # a null byte, or what no file system can name
        raise UnfitFileError(f"no file can have this name ({error})", path) from error


def _require(status: os.stat_result, most_bytes: int, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise UnfitFileError(f"it is {kind}, not a file", path)
    if status.st_size > most_bytes:
        raise UnfitFileError(f"it has {_shown(status.st_size)}; at most {_shown(most_bytes)} are read", path)


def _shown(size: int) -> str:
    """Return a size in the unit that suits it.

    >>> _shown(2_500), _shown(50_000_000_000)
    ('2.5 kB', '50 GB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} B"
