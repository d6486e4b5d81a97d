"""A bundle: a folder that holds a pruned network and all that is needed to run it, trust it and make it again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from deploy.companions import companions
from deploy.facts import BundleFacts
from deploy.folder import MANIFEST, explained, file_sha256, listed, new_folder
from deploy.manifest import manifest
from deploy.readme import readme
from pipeline import serialization
from pipeline.errors import OutputError
from pipeline.records import Artifact
from pipeline.regular_file import LIST_BYTES, is_there, read_text

__all__ = ["MANIFEST", "BundleFacts", "verify_bundle", "write_bundle"]


def write_bundle(*, artifact: Artifact, files: Mapping[str, Path], facts: BundleFacts, output: Path) -> Path:
    """Write a bundle to ``output``, whole or not at all, and return its path.

    Args:
        artifact: the network; ``artifact.files`` says which content each file must have.
        files: where the content of each of ``artifact.files`` lies; the model file is among them.
        facts: where the network comes from.
        output: a folder that is new or empty.

    Raises:
        OutputError: the folder is not empty or cannot be written, or a file is not the one that the run stored.
    """
    with new_folder(output, "bundle") as folder:
        _fill(folder, artifact, files, facts)
    return output.absolute()


def verify_bundle(folder: Path) -> None:
    """Compare each file of a bundle with its manifest.

    Raises:
        OutputError: it is no bundle, or files are missing or differ; names them.
    """
    try:
        written = serialization.from_text(read_text(folder / MANIFEST, LIST_BYTES))["files"]
        expected = {_plain(name): str(entry["sha256"]) for name, entry in written.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"{folder} is no bundle: its {MANIFEST} cannot be read ({error}); pull it again") from error
    with explained(folder, "bundle"):
        problems = [
            f"{name} {'differs' if is_there(folder / name) else 'is missing'}"
            for name, sha256 in expected.items()
            if not is_there(folder / name) or file_sha256(folder / name) != sha256
        ]
    if problems:
        raise OutputError(f"{folder} is not as it was written: {', '.join(problems)}; pull it again")


def _fill(folder: Path, artifact: Artifact, files: Mapping[str, Path], facts: BundleFacts) -> None:
    _copy_files(folder, artifact, files, facts.format.file)
    for name, text in companions(facts.format, facts.classes, facts.task).items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(readme(artifact, facts), encoding="utf-8")
    text = serialization.to_text(manifest(artifact, facts, listed(folder)), indent=2)
    (folder / MANIFEST).write_text(f"{text}\n", encoding="utf-8")


def _copy_files(folder: Path, artifact: Artifact, files: Mapping[str, Path], model: str) -> None:
    if set(files) != set(artifact.files) or [name for name in files if name.startswith("model.")] != [model]:
        needed, found = sorted({model, *(n for n in artifact.files if not n.startswith("model."))}), sorted(files)
        raise OutputError(f"artifact {artifact.id} needs {', '.join(needed)}; found: {', '.join(found) or 'no file'}")
    for name, source in files.items():
        shutil.copyfile(source, folder / _plain(name))
        if file_sha256(folder / name) != artifact.files[name]:
            raise OutputError(
                f"{name} of artifact {artifact.id} is damaged: {source} is not the file that the run stored"
            )


def _plain(name: str) -> str:
    """Return a name that stays inside its folder."""
    if name != Path(name).name or name in ("", ".", "..", MANIFEST):
        raise ValueError(f"{name!r} is no file's name")
    return name
