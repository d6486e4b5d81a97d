"""The agent has to be readable for Python 3.6: guarded here by its grammar and its library, run in test_serve."""

import ast
import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import device_agents

ROOT = Path(device_agents.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(ROOT)], "device_agents."))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_has_python_3_6_grammar(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 6))


def test_nothing_needs_a_library_newer_than_3_6():
    command = [str(Path(sys.executable).with_name("vermin")), "-t=3.6-", "--violations", "--no-tips", str(ROOT)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


OUTSIDE_RUNTIMES = [path for path in FILES if path.parent.name != "runtimes"]


@pytest.mark.parametrize("path", OUTSIDE_RUNTIMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_standard_library_is_imported_outside_runtimes(path):
    names = [
        name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    ]
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names | {"device_agents", "_sha2", "_sha256"}


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_the_examples_in_docstrings_are_true(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
