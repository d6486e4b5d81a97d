"""Which version of a package is installed, without importing it: heavy packages take seconds to import on a board."""

import importlib.util
import os
import re
import sys
from typing import Optional


def version(package: str, *distributions: str) -> Optional[str]:
    """Return the version of an importable package, None when it is not there.

    The version is read from the name of the ``.dist-info`` or ``.egg-info`` entry of the first of ``distributions``
    that is found beside the package; ``unknown`` when none is.
    """
    spec = importlib.util.find_spec(package)
    if spec is None:
        return None
    names = "|".join(re.escape(name).replace("\\-", "[-_]") for name in distributions or (package,))
    pattern = re.compile(r"(?:%s)-([^-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info" % names, re.I)
    for folder in sys.path:
        for entry in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            match = pattern.fullmatch(entry)
            if match:
                return match.group(1)
    return "unknown"
