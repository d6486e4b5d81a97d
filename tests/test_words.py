"""The words of the field, and one word a thing: what nobody would grep for does not come back."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
INSTEAD = {
    r"mend(s|ed|ing)?": "fix",
    r"hangs? together": "is coupled, depends on",
    r"leans? on (its|their) neighbours?": "is autocorrelated",
    r"breathing": "fluctuation",
    r"how the (board|device) feels": "telemetry",
    r"puts? (it )?aside": "quarantine",
}
"""Pattern → the term to use."""
ALLOWED = {"CHANGELOG.md", "tests/test_words.py", "pipeline/devices/inventory/schema.py", "tests/test_extending.py"}


def test_the_documents_and_the_code_use_the_terms_of_the_field() -> None:
    files = subprocess.run(["git", "ls-files", "*.py", "*.md", "*.yaml"], cwd=ROOT, capture_output=True, text=True)
    found = [
        f"{name}: {match[0]!r}, say: {term}"
        for name in sorted(set(files.stdout.split()) - ALLOWED)
        if (ROOT / name).is_file()
        for term_pattern, term in INSTEAD.items()
        for match in re.finditer(rf"(?<![A-Za-z]){term_pattern}(?![A-Za-z])", (ROOT / name).read_text("utf-8"), re.I)
    ]
    assert found == []
