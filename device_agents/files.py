"""The agent's folder of model files, named by content: a file is what its name says, or it is not used.

The host uploads ``<sha256>.<extension>`` (under a ``.part-*`` name until whole). Files are checked once, expanded
where they are skeletons, and the longest unused ones go when the folder grows past its quota.
"""

import contextlib
import errno
import os
import re
import time
from typing import Dict, Iterable, Iterator, List, Optional, Tuple

from device_agents import skeleton
from device_agents.digest import sha256
from device_agents.errors import AgentError
from device_agents.folder import FolderError, secure
from device_agents.ordinary import open_ordinary
from device_agents.protocol import BAD_REQUEST, CORRUPT, DISK_FULL

QUOTA_BYTES = 512 * 10**6
_STALE_PART_S = 3600.0
_NAME = re.compile(r"([0-9a-f]{64})\.[a-z0-9]{1,16}")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

_Stamp = Tuple[int, int]


class Files:
    """Model files in ``folder``, kept under ``quota`` bytes."""

    def __init__(self, folder: str, quota: int = QUOTA_BYTES) -> None:
        self._folder = folder
        self._quota = quota
        self._checked: Dict[str, _Stamp] = {}

    def paths(self, names: Iterable[Optional[str]], seed: int = 0) -> List[Optional[str]]:
        """Return the path of each file, ready to load: checked, and whole where the name is a skeleton's.

        Raises:
            AgentError: BAD_REQUEST for a name that is no content's, CORRUPT for a file that is missing or is not
                what its name says, DISK_FULL when there is no room to expand it.
        """
        wanted = list(names)
        with _translated():
            secure(self._folder)
            found = [name and self._find(name) for name in wanted]
            kept = {path for path in found if path}
            kept.update(_expanded(path, seed) for path in list(kept))
            self._tidy(kept)
            return [path and self._ready(path, seed, kept) for path in found]

    def _find(self, name: str) -> str:
        match = _NAME.fullmatch(name) if isinstance(name, str) else None
        if not match:
            raise AgentError(BAD_REQUEST, "file name %r, expected <sha256>.<extension>" % (name,))
        path = os.path.join(self._folder, name)
        if not os.path.lexists(path):
            raise AgentError(CORRUPT, "file %s is missing: send it" % name)
        if self._checked.get(path) != _stamp(path) and _sha256(path) != match.group(1):
            _remove(path)
            raise AgentError(CORRUPT, "file %s held something else and was removed: send it again" % name)
        self._checked[path] = _stamp(path)
        _touch(path)
        return path

    def _ready(self, path: str, seed: int, kept: Iterable[str]) -> str:
        if not path.endswith(".skeleton"):
            return path
        whole = _expanded(path, seed)
        if not os.path.lexists(whole) or self._checked.get(whole) != _stamp(whole):
            _remove(whole)
            self._expand(path, whole, seed, kept)
            self._checked[whole] = _stamp(whole)
        _touch(whole)
        return whole

    def _expand(self, path: str, whole: str, seed: int, kept: Iterable[str]) -> None:
        with open(path, "rb") as file:
            parsed = skeleton.parse(file.read())
        self._tidy(kept, room=parsed.size)
        part = os.path.join(self._folder, ".part-expand-%d" % os.getpid())
        try:
            with open(part, "wb") as target:
                skeleton.expand(parsed, target, seed)
            os.replace(part, whole)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.remove(part)

    def _tidy(self, kept: Iterable[str], room: int = 0) -> None:
        """Remove stale uploads, then the longest unused files until ``room`` more bytes fit into the quota."""
        kept = set(kept)
        files: List[Tuple[int, int, str]] = []
        for entry in os.scandir(self._folder):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if entry.name.startswith(".part-"):
                    if time.time() - status.st_mtime > _STALE_PART_S:
                        os.remove(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    files.append((status.st_atime_ns, status.st_size, entry.path))
        excess = sum(size for _, size, _ in files) + room - self._quota
        for _, size, path in sorted(files):
            if excess > 0 and path not in kept:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(path)
                excess -= size


def _expanded(path: str, seed: int) -> str:
    return "%s-%d.expanded" % (os.path.splitext(path)[0], seed)


def _stamp(path: str) -> _Stamp:
    status = os.lstat(path)
    return status.st_size, status.st_mtime_ns


def _touch(path: str) -> None:
    """Mark the file as used now, in its access time: the modification time belongs to the check's verdict."""
    os.utime(path, ns=(int(time.time() * 1e9), os.stat(path).st_mtime_ns))


def _sha256(path: str) -> str:
    """Return the digest of an ordinary file, nothing for what is none."""
    digest = sha256()
    try:
        opened = open_ordinary(path)
    except OSError:
        return ""
    with open(opened, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _remove(path: str) -> None:
    """Remove whatever lies there."""
    if os.path.isdir(path) and not os.path.islink(path):
        import shutil  # not above: seldom needed, never small

        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FolderError as error:
        raise AgentError(BAD_REQUEST, "cannot use the agent's folder: %s" % error)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise AgentError(
            DISK_FULL, "no space left on the device for %s: free some, or lower the quota" % error.filename
        )
