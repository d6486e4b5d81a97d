"""A folder that its user alone can change: made 0700 under any umask, refused where others own or may write to it.

As sshd does for a user's keys, every folder and link on the way is looked at as well: whoever may write to one of them
can put another folder in place of the last. This file stands for itself, since the host runs it on a board before
there is an agent.
"""

import contextlib
import grp
import os
import pwd
import stat
from typing import Set

_MOST_LINKS = 40
_FIRST_OF_PEOPLE = 1000
"""The first group of an ordinary user: GID_MIN in /etc/login.defs."""


class FolderError(Exception):
    """Others than its user can change the folder; says which, how, and what fixes it."""


def secure(path: str, make: bool = True) -> str:
    """Return the absolute path of a folder that is this user's alone, made where it is missing if ``make``.

    Raises:
        FolderError: it is not, or something on the way is no folder.
        OSError: it cannot be made.
    """
    path = os.path.abspath(os.path.expanduser(path))
    links, place, names = 0, "/", path.split("/")
    while names:
        name = names.pop(0)
        last = not any(names)
        there = os.path.join(place, name)
        if name == "..":
            place = os.path.dirname(place)
        elif name not in ("", "."):
            if not os.path.lexists(there):
                if not make:
                    return path
                _make(there)
            status = os.lstat(there)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _MOST_LINKS:
                    raise FolderError("%s is a link that leads nowhere: rm %s" % (there, there))
                _require_owner(there, status.st_uid, _trusted())
                names = os.readlink(there).split("/") + names
                place = "/" if names[0] == "" else place
            else:
                _require_folder(there, status, last)
                place = there
    return path


def _make(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return  # made meanwhile; it is looked at like any other
    os.chmod(path, 0o700)  # whatever the umask took away


def _require_folder(path: str, status: os.stat_result, last: bool) -> None:
    if not stat.S_ISDIR(status.st_mode):
        raise FolderError("%s is no folder" % path)
    mode = stat.S_IMODE(status.st_mode)
    _require_owner(path, status.st_uid, {os.geteuid()} if last else _trusted())
    by_others = mode & stat.S_IWOTH or (mode & stat.S_IWGRP and not _private(status.st_gid, status.st_uid))
    if by_others and not mode & stat.S_ISVTX:  # the sticky bit: what lies there is only its owner's to move
        raise FolderError(
            "others may write to %s (its mode is %04o) and could change what the agent runs: chmod go-w %s"
            % (path, mode, path)
        )
    if last and mode != 0o700:
        with contextlib.suppress(OSError):  # a disk that cannot be written to: others may look, and no more
            os.chmod(path, 0o700)


def _require_owner(path: str, owner: int, trusted: Set[int]) -> None:
    if owner not in trusted:
        raise FolderError(
            "%s belongs to %s, who could change what the agent runs as %s: sudo chown %s %s"
            % (path, _user(owner), _user(os.geteuid()), _user(os.geteuid()), path)
        )


def _trusted() -> Set[int]:
    """Return who can change everything anyway, and the user; in a container, the owner of ``/`` may not be 0."""
    return {0, os.geteuid(), os.stat("/").st_uid}


def _private(group: int, owner: int) -> bool:
    """Whether the group is its owner's alone, as each user has one on Debian, often with an umask of 002."""
    if group < _FIRST_OF_PEOPLE:
        return False  # a group of the system's, which services may run under
    try:
        name = pwd.getpwuid(owner).pw_name
        members = set(grp.getgrgid(group).gr_mem)
    except KeyError:
        return False
    members.update(user.pw_name for user in pwd.getpwall() if user.pw_gid == group)
    return members == {name}


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
