"""The folder is the registry: a plugin is a module, found without being imported, also inside a zipapp."""

import importlib
import os
from types import ModuleType
from typing import Any, Iterable, List

from device_agents.errors import AgentError
from device_agents.protocol import BAD_REQUEST


def names(package: str) -> List[str]:
    """Return the plugins in ``package``, sorted; none is imported.

    >>> names("device_agents.runtimes")[:2]
    ['null', 'null_engine']
    """
    module: Any = importlib.import_module(package)
    path = module.__path__[0]
    if os.path.isdir(path):  # pkgutil would import the disassembler to list a folder
        files = os.listdir(path)
    else:
        inside = package.replace(".", os.sep) + os.sep
        files = [name[len(inside) :] for name in _members(module.__loader__) if name.startswith(inside)]
    found = {os.path.splitext(name)[0] for name in files if os.path.splitext(name)[1] in (".py", ".pyc")}
    return sorted(name for name in found if not name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """Import the plugin ``name``; raise BAD_REQUEST when there is none of that name."""
    known = names(package)
    if name not in known:
        kind = package.rpartition(".")[2]
        raise AgentError(BAD_REQUEST, "unknown %s plugin %r; this agent has: %s" % (kind, name, ", ".join(known)))
    return importlib.import_module("%s.%s" % (package, name))


def _members(loader: Any) -> Iterable[str]:
    """Return the names of the files in a zipapp, as Python's own pkgutil asks for them before 3.13 and since."""
    files: Iterable[str] = loader._get_files() if hasattr(loader, "_get_files") else loader._files
    return files
