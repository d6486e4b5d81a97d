"""The agent's first lines: its file is read once, checked, and the copy that was checked is what runs.

The file is named by its content, ``agent-<sha256>.pyz``. What was read is put into a file without a name, which nobody
else can open, and Python is started anew from that: neither between the check and the run nor later, when the agent
starts its workers from it, does a change on the disk matter. Nothing is unpacked, and no compiled code is kept where
nobody could tell whether it is still what was compiled.

The new start has a clean environment and umask: what a user's rc file exports for Python or the linker is no part of
what is measured.

This file stands for itself, since it is also what the host sends with the command that starts the agent: a file whose
content is in doubt cannot vouch for itself.

    python3 -I -S -c "this file" FOLDER/agent-<sha256>.pyz --dir FOLDER
"""

import errno
import os
import stat
import sys
import time
from typing import Dict, List, Mapping, Tuple

UNUSED_DAYS = 30
_DAY_S = 86400.0
_MOST_BYTES = 16 * 10**6
_DIGITS = 64
_PRIVATE = "/proc/self/fd/"

_KEPT = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR",
    "LD_LIBRARY_PATH",  # where JetPack's CUDA is found
    "OPENBLAS_CORETYPE",  # numpy's wheel for Python 3.6 dies of an illegal instruction on a Jetson Nano without it
)  # fmt: skip
_KEPT_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "PIPELINE_")
_SEARCH_PATHS = ("PATH", "LD_LIBRARY_PATH")


def main() -> None:
    """Start the checked copy, or go on as it."""
    words = sys.argv[1:] if sys.argv[0] == "-c" else sys.argv
    if not words[0].startswith(_PRIVATE):
        _start_copy(words[0], words[1:])
    from device_agents.__main__ import main as agent

    agent()


def environment(found: Mapping[str, str]) -> Dict[str, str]:
    """Return of ``found`` what programs and runtimes need; search paths without the folder that one happens to be in.

    >>> environment({"PATH": "/bin::.", "HOME": "/root", "LD_PRELOAD": "x.so", "PYTHONPATH": "x"})
    {'PATH': '/bin', 'HOME': '/root'}
    """
    kept = {name: value for name, value in found.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    for name in _SEARCH_PATHS:
        if name in kept:
            kept[name] = os.pathsep.join(folder for folder in kept[name].split(os.pathsep) if os.path.isabs(folder))
    return kept


def nameless(*folders: str) -> int:
    """Return the descriptor of an empty file that has no name: in memory, else in the first folder that takes one.

    Raises:
        OSError: there is none to be had.
    """
    try:
        return os.memfd_create("pipeline-agent")  # novm
    except (AttributeError, OSError):  # before Python 3.8, or forbidden
        pass
    error = OSError("no folder takes a file without a name")
    for folder in folders + ("/dev/shm", "/tmp"):
        try:
            return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as why:
            error = why
    raise error


def _start_copy(archive: str, words: List[str]) -> None:
    """Replace this process by the agent that ``archive`` holds; end with a sentence where it cannot be trusted."""
    fd, content = _read(archive)
    _check(archive, content)
    try:
        os.utime(fd, ns=(int(time.time() * 1e9), os.fstat(fd).st_mtime_ns))  # in use: not to be tidied away
        _tidy(archive)
    except OSError:
        pass  # a disk that cannot be written to
    try:
        copy = nameless(os.path.dirname(archive))
        os.pwrite(copy, content, 0)
    except OSError:
        copy = fd  # no memory, no disk: at least what was opened, whatever takes its name meanwhile
    os.set_inheritable(copy, True)
    os.umask(0o077)
    command = [sys.executable, _PRIVATE + str(copy)] + words
    os.execve(sys.executable, command, environment(os.environ))


def _read(archive: str) -> Tuple[int, bytes]:
    """Open the file, once, and return its descriptor and content."""
    try:
        fd = os.open(archive, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else error.strerror
        sys.exit("cannot read the agent's file %s: %s" % (archive, why))
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
        sys.exit("the agent's file %s is no ordinary file, or far too large: remove it: rm -r %s" % (archive, archive))
    with open(fd, "rb", closefd=False) as file:
        return fd, file.read(_MOST_BYTES)


def _check(archive: str, content: bytes) -> None:
    """End with a sentence unless ``content`` is what the name says; a file of another name claims nothing."""
    import hashlib  # not above: its OpenSSL is 3 MB in each of the agent's processes, which import this file too

    name = os.path.basename(archive)
    if not (name.startswith("agent-") and name.endswith(".pyz")):
        return
    wanted, found = name[len("agent-") : -len(".pyz")], hashlib.sha256(content).hexdigest()
    if len(wanted) == _DIGITS and wanted != found:
        sys.exit(
            "the agent's file %s is not what was sent: its sha256 begins %s, expected %s; remove it, it will be sent "
            "again: rm %s" % (archive, found[:12], wanted[:12], archive)
        )


def _tidy(archive: str) -> None:
    """Remove versions of the agent that were not started for a month, and what older ones unpacked beside them."""
    folder, own = os.path.split(archive)
    for name in os.listdir(folder or "."):
        path = os.path.join(folder, name)
        if name.startswith("agent-") and name != own and _unused(path):
            if name.endswith(".pyz"):
                _remove(os.path.splitext(path)[0])
                _remove(path)
            elif not os.path.lexists(path + ".pyz"):
                _remove(path)


def _unused(path: str) -> bool:
    try:
        status = os.lstat(path)
        return time.time() - max(status.st_atime, status.st_mtime) > UNUSED_DAYS * _DAY_S
    except OSError:
        return False  # gone meanwhile


def _remove(path: str) -> None:
    import shutil

    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        os.remove(path)
    except OSError:
        pass  # not ours, or gone


if __name__ == "__main__":
    main()
