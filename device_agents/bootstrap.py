"""The zipapp's first lines: unpack it beside itself, once, and go on from there.

Python compiles a zipapp's sources at every start and keeps nothing; from a folder it keeps what it has compiled. Every
start but the first is several times faster so, and smaller, and each measurement starts two or three processes. Where
nothing can be unpacked (a full or read-only disk), the agent runs from the zipapp as it is.
"""

import os
import sys
import time

UNUSED_DAYS = 30
_DAY_S = 86400.0


def main() -> None:
    """Run the agent from its folder; packed as the zipapp's ``__main__.py``."""
    archive = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, unpacked(archive))
    sys.dont_write_bytecode = False  # whatever the user's environment says: the folder is ours
    from device_agents.__main__ import main as agent

    agent()


def unpacked(archive: str) -> str:
    """Return the folder that holds what is in ``archive``, or ``archive`` itself where there can be none."""
    home = os.path.splitext(archive)[0]
    try:
        os.utime(archive)  # in use: not to be tidied away
        if not os.path.isdir(home):
            _unpack(archive, home)
            _tidy(archive)
    except OSError:
        pass
    return home if os.path.isdir(home) else archive


def _unpack(archive: str, home: str) -> None:
    """Make ``home`` appear whole or not at all, also to another agent that unpacks at the same time."""
    import zipfile

    part = "%s.part-%d" % (home, os.getpid())
    try:
        with zipfile.ZipFile(archive) as file:
            file.extractall(part)
        os.sync()  # or a power cut leaves empty files under a name that says they are whole
        os.rename(part, home)
    finally:
        _remove(part)


def _tidy(archive: str) -> None:
    """Remove other versions of the agent that were not started for a month, and what a cut unpacking left."""
    folder, own = os.path.split(os.path.splitext(archive)[0])
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.startswith("agent-") and not name.startswith(own) and _unused(path):
            if name.endswith(".pyz"):
                _remove(os.path.splitext(path)[0])
                os.remove(path)
            elif not os.path.exists(path + ".pyz"):
                _remove(path)


def _unused(path: str) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime > UNUSED_DAYS * _DAY_S
    except OSError:  # gone with the archive that it came from
        return False


def _remove(folder: str) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
