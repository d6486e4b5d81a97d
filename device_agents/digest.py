"""SHA-256 without OpenSSL: Python's own is slower on large files and saves 4 MB in each of the agent's processes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        from _sha2 import sha256  # from Python 3.12
    except ImportError:
        try:
            from _sha256 import sha256
        except ImportError:  # a Python built without its own
            from hashlib import sha256

__all__ = ["sha256"]
