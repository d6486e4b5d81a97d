"""An engine: what a runtime made of a model on this very board, kept so that it is made once.

The file lies in the agent's folder of model files, where the quota counts it and takes the longest unused away. It is
one line of JSON, {"sha256", "about"}, and the engine. An engine is code that the GPU's driver trusts, so nothing is
loaded that somebody else could have put there: the file has to be the agent's own, closed to everybody else, and hold
what its first line says.
"""

import contextlib
import json
import os
import stat
from typing import Any, Dict, Tuple

from device_agents.digest import sha256
from device_agents.ordinary import open_ordinary

EXTENSION = ".engine"


class EngineError(Exception):
    """The file is no engine that this board made."""


def path(model: str, recipe: Dict[str, Any]) -> str:
    """Return where the engine of ``model`` lies: named by the model's content and all that decides what comes of it."""
    content = sha256()
    with open(model, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            content.update(chunk)
    return os.path.join(os.path.dirname(model), key(content.hexdigest(), recipe) + EXTENSION)


def key(content: str, recipe: Dict[str, Any]) -> str:
    """Return the name for a model's sha256 and a recipe, whose order does not count.

    >>> key("ab", {"a": 1, "b": 2}) == key("ab", {"b": 2, "a": 1}) != key("ab", {"a": 1, "b": 3})
    True
    """
    told = json.dumps([content, recipe], sort_keys=True)
    return sha256(told.encode("utf-8")).hexdigest()


def write(path: str, engine: bytes, about: Dict[str, Any]) -> None:
    """Write an engine and what to say about it."""
    head = {"sha256": sha256(engine).hexdigest(), "about": about}
    write_private(path, json.dumps(head).encode("utf-8") + b"\n" + engine)


def read(path: str) -> Tuple[bytes, Dict[str, Any]]:
    """Return the engine and what is to be said about it; marks the file as used now.

    Raises:
        EngineError: another's file, one that others may write, or one that is damaged.
        FileNotFoundError: there is none.
    """
    try:
        opened = open_ordinary(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise EngineError("%s: %s: it is not loaded" % (path, error.strerror))
    with open(opened, "rb") as file:
        status = os.fstat(file.fileno())
        head, _, engine = file.read().partition(b"\n")
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise EngineError("%s is not this user's alone: it is not loaded" % path)
    try:
        told = json.loads(head.decode("utf-8"))
        written, about = told["sha256"], dict(told["about"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise EngineError("%s is no engine that this agent wrote: it is not loaded" % path)
    if written != sha256(engine).hexdigest():
        raise EngineError("%s is damaged: it is not loaded" % path)
    os.utime(path)
    return engine, about


def write_private(path: str, content: bytes) -> None:
    """Write a file that nobody else can read or write, whole or not at all."""
    part = os.path.join(os.path.dirname(path), ".part-engine-%d" % os.getpid())
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        os.replace(part, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(part)
