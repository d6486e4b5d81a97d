"""The folder is the registry: a plugin is a module, its file name is what the user types."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from pipeline.errors import ConfigError, nearest


def names(package: str) -> list[str]:
    """Return the plugins in ``package``, sorted; no plugin is imported.

    >>> names("pipeline.pruning.criteria")[:2]
    ['bn_scale', 'feature_map']
    """
    paths = importlib.import_module(package).__path__
    return sorted(m.name.lstrip("_") for m in pkgutil.iter_modules(paths) if not m.name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """Import the plugin ``name`` (dashes count as underscores).

    Raises:
        ConfigError: there is no such plugin; names the nearest one.
    """
    known = names(package)
    module = name.replace("-", "_")
    if module not in known:
        kind = package.rpartition(".")[2]
        raise ConfigError(f"no {name!r} among the {kind}{nearest(module, known)}; there are: {', '.join(known)}")
    return importlib.import_module(f"{package}.{module}")
