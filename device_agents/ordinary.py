"""Files that may be anything by now: opened without waiting, and used only as the ordinary files they should be."""

import errno
import os
import stat


def open_ordinary(path: str, flags: int = os.O_RDONLY) -> int:
    """Return the descriptor of an ordinary file with one name; a link is not followed, a pipe not waited for.

    Raises:
        OSError: there is no such file, or it is something else.
    """
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1:
        return fd
    os.close(fd)
    what = "it has other names too" if stat.S_ISREG(status.st_mode) else "it is no ordinary file"
    raise OSError(errno.EINVAL, what, path)


def read_own(path: str, most: int) -> bytes:
    """Return the content of this user's own file.

    Raises:
        OSError: there is none, it is somebody else's, or it has more than ``most`` bytes.
    """
    with open(open_ordinary(path), "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "it is somebody else's", path)
        if status.st_size > most:
            raise OSError(errno.EFBIG, "it has %d bytes, more than %d" % (status.st_size, most), path)
        return file.read(most)
