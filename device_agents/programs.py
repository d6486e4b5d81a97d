"""Programs that a board may have: where they are, and what they say."""

import os
from typing import List, Optional, Tuple


class ProgramError(Exception):
    """A program could not be started, or did not end in time."""


def find(name: str, path: Optional[str] = None) -> Optional[str]:
    """Return the program's path, looked for as a shell does, in ``path`` instead of PATH where it is given.

    As ``shutil.which``, without the archive formats that ``shutil`` imports into each of the agent's processes.
    """
    folders = (path or os.environ.get("PATH", os.defpath)).split(os.pathsep)
    places = [name] if os.path.dirname(name) else [os.path.join(folder, name) for folder in folders]
    return next((place for place in places if os.path.isfile(place) and os.access(place, os.X_OK)), None)


def run(command: List[str], timeout_s: float) -> Tuple[int, str]:
    """Run a short program that must not ask anything; return its exit code and all that it said.

    Raises:
        ProgramError: it could not be started, or did not end in time and was killed.
    """
    import subprocess  # not above: most boards have none of these programs, and hello has to be quick

    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ProgramError(str(error))
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()
