"""The agent as one file: the same sources give the same bytes, and the file is named by them."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable

_MAIN = b"from device_agents.bootstrap import main\n\nmain()\n"
_DECODED = "import base64, sys; exec(base64.b64decode(sys.argv.pop(1)))"


@dataclass(frozen=True, slots=True)
class Zipapp:
    """A program as one file, named by its content."""

    content: bytes
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> Zipapp:
        """Return the zipapp with this content."""
        return cls(content, hashlib.sha256(content).hexdigest())

    @property
    def name(self) -> str:
        """The file's name on the device."""
        return f"agent-{self.sha256}.pyz"

    def command(self, python: str, folder: str) -> list[str]:
        """Return the command that runs the file of this name in ``folder`` if it has this content, else says so.

        What checks it is in the command itself, encoded so that neither quotes nor newlines have to be passed on.
        """
        first = (resources.files("device_agents") / "bootstrap.py").read_bytes()
        program = [python, "-I", "-S", "-c", _DECODED, base64.b64encode(first).decode()]
        return [*program, f"{folder}/{self.name}", "--dir", folder]


@lru_cache(maxsize=8)
def zipapp(plugins: tuple[tuple[str, bytes], ...] = ()) -> Zipapp:
    """Pack ``device_agents`` into one file that any Python 3.6 runs; the same sources give the same bytes.

    Args:
        plugins: the user's own, as they are to stand in the package; see :mod:`pipeline.devices.agent_plugins`.
    """
    package = resources.files("device_agents")
    files = {"__main__.py": _MAIN, **{f"device_agents/{name}": content for name, content in plugins}}
    _collect(package, "device_agents", files)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name], compresslevel=9)
    return Zipapp.of(packed.getvalue())


def _collect(folder: Traversable, path: str, files: dict[str, bytes]) -> None:
    for item in folder.iterdir():
        if item.is_dir() and item.name != "__pycache__":
            _collect(item, f"{path}/{item.name}", files)
        elif item.name.endswith(".py"):
            files[f"{path}/{item.name}"] = item.read_bytes()
