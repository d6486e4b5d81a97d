"""The folder is the registry: a plugin is a module, found without being imported, also inside a zipapp.

Some of them may be the user's own, which the host packed into the zipapp beside those that ship.
"""

import importlib
import os
import sys
from types import ModuleType
from typing import Any, Iterable, List

from device_agents.errors import AgentError
from device_agents.protocol import BAD_REQUEST

_MOST_CHARACTERS = 1000
"""Of what a plugin that fails says."""
_LIBRARIES = {"power": "the standard library alone", "runtimes": "libraries that are installed there, imported in load"}
"""What a plugin of each kind may import."""


def names(package: str) -> List[str]:
    """Return the plugins in ``package``, sorted; none is imported.

    >>> "null_engine" in names("device_agents.runtimes")
    True
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
    """Import the plugin ``name``.

    Raises:
        AgentError: BAD_REQUEST when there is none of that name, or this Python cannot import it.
    """
    known, kind = names(package), _kind(package)
    if name not in known:
        raise AgentError(BAD_REQUEST, "unknown %s plugin %r; this agent has: %s" % (kind, name, ", ".join(known)))
    try:
        return importlib.import_module("%s.%s" % (package, name))
    except (Exception, SystemExit) as error:  # a file of the user's own may raise anything
        python = ".".join(map(str, sys.version_info[:3]))
        fix = "write it for that Python, with " + _LIBRARIES[kind]
        raise _failed(package, name, "cannot be imported by this board's Python " + python, error, fix)


def call(package: str, name: str, function: str, *arguments: Any) -> Any:
    """Return what a function of the plugin returns.

    Raises:
        AgentError: BAD_REQUEST, naming the plugin's file, when it fails.
    """
    module = load(package, name)
    try:
        return getattr(module, function)(*arguments)
    except (Exception, SystemExit) as error:
        raise _failed(package, name, "fails in %s" % function, error, "fix that")


def _failed(package: str, name: str, how: str, error: BaseException, fix: str) -> AgentError:
    said = ("%s: %s" % (type(error).__name__, error))[:_MOST_CHARACTERS]
    return AgentError(BAD_REQUEST, "%s/%s.py %s: %s; %s" % (_kind(package), name, how, said, fix))


def _kind(package: str) -> str:
    return package.rpartition(".")[2]


def _members(loader: Any) -> Iterable[str]:
    """Return the names of the files in a zipapp, as Python's own pkgutil asks for them before 3.13 and since."""
    files: Iterable[str] = loader._get_files() if hasattr(loader, "_get_files") else loader._files
    return files
