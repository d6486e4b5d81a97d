"""One lock for a board, for all its users: whoever measures holds it, so that no two measure together.

An exclusive flock on a file that everybody on the board can open, with a line of JSON in it that says who. The kernel
lets go of a flock when its last holder's process ends, however that ends: a dead holder's lock needs no cleaning up.
Times in the line are CLOCK_MONOTONIC's, which all processes of one boot share and no time server moves.
"""

import contextlib
import errno
import fcntl
import json
import os
import stat
import time
from typing import Any, Dict, NamedTuple, Optional

from device_agents import readings
from device_agents.errors import AgentError
from device_agents.ordinary import open_ordinary
from device_agents.protocol import BAD_REQUEST

FOLDER = "PIPELINE_LOCK_DIR"
"""Environment variable: the lock's folder, where one machine plays several boards."""

_FOLDERS = ("run/lock", "tmp")
_NAME = "pipeline-board.lock"
_OPEN_TO_ALL = stat.S_ISVTX | 0o777
_LINE_BYTES = 2048
_WORD = 100
_RETRIES = 5
_RETRY_S = 0.02
_LONGEST_S = 1e9
"""No clock of a board counts further, and nobody holds one for longer."""


class Holder(NamedTuple):
    """Who holds the board; ``expires_s`` is None while a request of theirs is being worked on."""

    owner: str
    pid: int
    session: str
    since_s: float
    expires_s: Optional[float] = None

    def words(self) -> str:
        """Return the holder in words, as of now."""
        if not self.pid:
            return self.owner
        age = "for %s" % duration(time.monotonic() - self.since_s)
        if self.expires_s is None:
            ends = "busy now"
        else:
            left_s = self.expires_s - time.monotonic()
            ends = "lost in %s unless something is asked meanwhile" % duration(left_s) if left_s > 0 else "expired"
        return "%s (pid %d), %s, %s" % (self.owner, self.pid, age, ends)

    def event(self) -> Dict[str, Any]:
        """Return the holder as the wire tells it."""
        now = time.monotonic()
        expires_s = None if self.expires_s is None else round(self.expires_s - now, 1)
        return {
            "owner": self.owner,
            "pid": self.pid,
            "age_s": round(now - self.since_s, 1),
            "expires_s": expires_s,
            "words": self.words(),
        }


_UNKNOWN = Holder("somebody", 0, "", 0.0)


class Lock:
    """The board's lock, not taken yet."""

    def __init__(self, path: Optional[str] = None) -> None:
        self._path = path
        self._fd = -1
        self._mine: Optional[Holder] = None

    @property
    def held(self) -> bool:
        """Whether this process holds it."""
        return self._mine is not None

    @property
    def path(self) -> str:
        """The lock's file, once it was asked for."""
        return self._path or ""

    @property
    def fd(self) -> int:
        """The file descriptor that carries the flock; a child that inherits it holds the board as well."""
        return self._fd

    def take(self, owner: str, session: str = "") -> Optional[Holder]:
        """Take the board; return None, or who has it.

        Raises:
            AgentError: BAD_REQUEST, no lock file can be opened.
        """
        path = self._path = self._path or default_path()
        holder = _UNKNOWN
        for _ in range(_RETRIES):  # somebody who only looks holds it for a moment
            fd = _open(path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = _read(fd) or _UNKNOWN
                os.close(fd)
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise AgentError(BAD_REQUEST, "cannot lock %s: %s" % (path, error.strerror))
                time.sleep(_RETRY_S)
            else:
                if is_open(path, fd):
                    self._fd = fd
                    self.note(Holder(owner[:_WORD], os.getpid(), session[:_WORD], time.monotonic()))
                    return None
                os.close(fd)  # somebody put another file in its place: that one is the lock now
        return holder

    def note(self, holder: Holder) -> None:
        """Write who holds it, for those who wait."""
        self._mine = holder
        line = json.dumps(holder._asdict()).encode("ascii").ljust(_LINE_BYTES)
        with contextlib.suppress(OSError):  # where others filled the disk, the lock holds without its line
            os.pwrite(self._fd, line, 0)  # one write of one length: nobody reads half of it

    def expire_at(self, expires_s: Optional[float]) -> None:
        """Tell until when silence is borne, None while at work."""
        if self._mine is not None:
            self.note(self._mine._replace(expires_s=expires_s))

    def give(self) -> None:
        """Let go of it; harmless when it is not held."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)  # the line is no longer true
            os.close(self._fd)
        self._fd, self._mine = -1, None

    def holder(self) -> Optional[Holder]:
        """Return who holds the board just now, ourselves included; None: nobody."""
        if self._mine is not None:
            return self._mine
        try:
            fd = open_ordinary(self._path or default_path(), os.O_RDWR)
        except (OSError, AgentError):  # nobody has ever held it, or we could not hold it either
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return _read(fd) or _UNKNOWN
        finally:
            os.close(fd)
        return None


def default_path() -> str:
    """Return the file that every user of this board agrees on: chosen by the folder's mode, not by one user's rights.

    Raises:
        AgentError: BAD_REQUEST, there is no folder that all may write in.
    """
    folders = [os.path.join(readings.ROOT, name) for name in _FOLDERS]
    if FOLDER in os.environ:
        return os.path.join(os.environ[FOLDER], _NAME)
    for folder in folders:
        if os.path.isdir(folder) and os.stat(folder).st_mode & _OPEN_TO_ALL == _OPEN_TO_ALL:
            return os.path.join(folder, _NAME)
    raise AgentError(BAD_REQUEST, "no folder for the board's lock: one of %s has to be mode 1777" % ", ".join(folders))


def duration(seconds: float) -> str:
    """Return a time span as people say it.

    >>> duration(5.4), duration(754), duration(7300)
    ('5 s', '13 min', '2 h')
    """
    if seconds < 90:
        return "%.0f s" % max(0.0, seconds)
    return "%.0f min" % (seconds / 60) if seconds < 5400 else "%.0f h" % (seconds / 3600)


def _open(path: str) -> int:
    """Open the lock's file, made for everybody if it is not there.

    Without O_CREAT at first: with fs.protected_regular the kernel refuses it, even to root, on another user's file
    in a folder like /tmp.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(_RETRIES):
        try:
            return open_ordinary(path, os.O_RDWR)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _unusable(path, "it is a link" if error.errno == errno.ELOOP else str(error.strerror))
        try:
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue  # somebody else was quicker
        except OSError as error:
            told = (path, os.strerror(error.errno or 0), os.path.dirname(path))
            raise AgentError(BAD_REQUEST, "cannot make the board's lock %s: %s; %s has to be mode 1777" % told)
        os.fchmod(fd, 0o666)  # whatever this user's umask says
        return fd
    raise AgentError(BAD_REQUEST, "cannot open the board's lock %s: it comes and goes" % path)


def is_open(path: str, fd: int) -> bool:
    """Whether the descriptor is of the file that has this name now."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except OSError:
        return False


def _unusable(path: str, why: str) -> AgentError:
    """Return the error for what somebody may have laid in the lock's place; in /tmp only its owner may remove it."""
    try:
        status = os.lstat(path)
    except OSError:
        return AgentError(BAD_REQUEST, "cannot open the board's lock %s: %s; try again" % (path, why))
    remove = "rm -r" if stat.S_ISDIR(status.st_mode) else "rm"
    owner = "" if status.st_uid == os.geteuid() else " (it is of user %d)" % status.st_uid
    return AgentError(
        BAD_REQUEST,
        "cannot open the board's lock %s: %s%s; remove it: %s%s %s"
        % (path, why, owner, "sudo " if owner else "", remove, path),
    )


def _read(fd: int) -> Optional[Holder]:
    """Return who the file says has it, None where that makes no sense: everybody on the board can write there."""
    try:
        found = Holder(**json.loads(os.pread(fd, _LINE_BYTES, 0).decode("ascii")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    texts = all(isinstance(text, str) and len(text) <= _WORD for text in (found.owner, found.session))
    times = [found.since_s] + ([] if found.expires_s is None else [found.expires_s])
    if not texts or type(found.pid) is not int or not 0 < found.pid < 1 << 31 or not all(map(_is_time, times)):
        return None
    return found._replace(owner="".join(sign if sign.isprintable() else "?" for sign in found.owner))


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < _LONGEST_S
