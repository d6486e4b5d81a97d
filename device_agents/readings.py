"""What the small files under /proc and /sys say; None where one is missing or says nothing.

Every function that reads them takes the ``root`` that they hang from, so that a folder shaped like a board can stand
in; the environment variable PIPELINE_BOARD_ROOT names one for a whole agent.
"""

import glob
import os
from typing import List, Optional

ROOT = os.environ.get("PIPELINE_BOARD_ROOT", "/")


def matches(root: str, pattern: str) -> List[str]:
    """Return the paths below ``root`` that the pattern fits, sorted."""
    return sorted(glob.glob(os.path.join(glob.escape(root), pattern)))


def text_under(root: str, path: str) -> Optional[str]:
    """Return the text of the file at ``path`` below ``root``."""
    return text(os.path.join(root, path))


def text(path: str) -> Optional[str]:
    """Return a small file's text, None where it is missing or will not be read (a zone that is off gives EINVAL)."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def number(text: Optional[str]) -> Optional[float]:
    """Return the number that the text is, None where it is none."""
    try:
        return float(text or "")
    except ValueError:
        return None
