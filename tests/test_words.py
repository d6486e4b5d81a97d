"""The words of the field, and one word a thing: what nobody would grep for does not come back."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INSTEAD = {
    r"mend(s|ed|ing)?": "fix",
    r"hangs? together": "is coupled, depends on",
    r"leans? on (its|their) neighbours?": "is autocorrelated",
    r"breathing": "fluctuation",
    r"how the (board|device) feels": "telemetry",
    r"puts? (it )?aside": "quarantine",
    r"bre(d|eds?|eding) (from|on|with|further|a few|either way)": "evolve",
    r"imagin(e|es|ing|ation)|imagined (episode|target|plan)s?": "simulate, simulated episodes",
    r"in sight of the targets?|out of sight": "predicted feasible, infeasible",
    r"outlook": "predictions",
    r"weightless probes?": "skeleton",
    r"reconstruction_places": "reconstruction_samples",
    r"max_corrupt": "max_unreadable",
    r"NotFollowed(Error)?": "UnsupportedOperatorError",
    r"legalised": "repair_to_feasible",
    r"is no recipe": "is not a recipe file",
    r"is no share": "must be between 0 and 1",
    r"stands? (there )?twice, first": "duplicate",
    r"gone on with": "resumed, continued",
    r"to go on: pipeline": "to resume: pipeline",
    r"or name another": "or choose another",
    r"which nobody (gives|asked for)": "not passed, not requested",
    r"listen(ing)? in": "intercept the connection",
    r"who on the board": "which",
    r"costs by itself": "fixed overhead",
}
"""Pattern → the term to use."""
ALLOWED = {"CHANGELOG.md", "tests/test_words.py", "tests/test_extending.py", "tests/pipeline/test_setting_keys.py"}
OLD_KEYS = re.compile(r"AliasChoices\([^)]*\)|Was `[^.]*`, which still counts")
"""Old keys of settings, which still count."""
NO_NAMES = {"told", "_told"}
"""Say what it is: config, section, payload, arguments, message."""


def files(*patterns: str) -> list[str]:
    found = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in found.stdout.split() if (ROOT / name).is_file()]


def test_the_documents_and_the_code_use_the_terms_of_the_field() -> None:
    found = [
        f"{name}: {match[0]!r}, say: {term}"
        for name in sorted(set(files("*.py", "*.md", "*.yaml")) - ALLOWED)
        for text in [OLD_KEYS.sub("", (ROOT / name).read_text("utf-8"))]
        for pattern, term in INSTEAD.items()
        for match in re.finditer(rf"(?<![A-Za-z])({pattern})(?![A-Za-z])", text, re.I)
    ]
    assert found == []


@pytest.mark.parametrize("folder", ["pipeline", "deploy", "benchmarks"])
def test_names_say_what_a_thing_is(folder: str) -> None:
    found = [
        f"{name}:{node.lineno}"
        for name in files(f"{folder}/*.py")
        for node in ast.walk(ast.parse((ROOT / name).read_text("utf-8")))
        if isinstance(node, (ast.Name, ast.arg, ast.Attribute, ast.FunctionDef, ast.AnnAssign))
        and names(node) & NO_NAMES
    ]
    assert found == []


def names(node: ast.AST) -> set[str]:
    """Return what a node of the syntax tree is called, by whichever of its fields says so."""
    return {
        getattr(node, field) for field in ("id", "arg", "attr", "name") if isinstance(getattr(node, field, None), str)
    }
