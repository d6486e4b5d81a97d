"""A bundle: a folder that holds a pruned network and all that is needed to run it, trust it and make it again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from deploy.companions import companions
from deploy.facts import BundleFacts
from deploy.folder import MANIFEST, file_sha256, new_folder
from deploy.ladder import Ladder, describe_ladder, write_ladder
from deploy.manifest import describe_input, describe_task, manifest
from deploy.readme import readme
from deploy.sealing import seal
from deploy.vectors import write_vectors
from pipeline.errors import OutputError
from pipeline.records import Artifact

__all__ = ["MANIFEST", "BundleFacts", "write_bundle"]


def write_bundle(
    *, artifact: Artifact, files: Mapping[str, Path], facts: BundleFacts, output: Path, sample: Path | None = None,
    ladder: Ladder | None = None,
) -> Path:  # fmt: skip
    """Write a bundle to ``output``, whole or not at all, and return its path.

    Args:
        artifact: the network; ``artifact.files`` says which content each file must have.
        files: where the content of each of ``artifact.files`` lies; the model file is among them.
        facts: where the network comes from.
        output: a folder that is new or empty.
        sample: a real image or signal, for the test vectors to begin with.
        ladder: further networks, and the controller that chooses among all; None: the one network.

    Raises:
        OutputError: the folder is not empty or cannot be written, or a file is not the one that the run stored.
    """
    with new_folder(output, "bundle") as folder:
        _fill(folder, artifact, files, facts, sample, ladder)
    return output.absolute()


def _fill(
    folder: Path, artifact: Artifact, files: Mapping[str, Path], facts: BundleFacts, sample: Path | None,
    ladder: Ladder | None,
) -> None:  # fmt: skip
    _copy_files(folder, artifact, files, facts.format.file)
    for name, text in companions(facts.format, facts.classes, facts.task).items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(readme(artifact, facts, ladder), encoding="utf-8")
    if ladder is not None:
        write_ladder(folder, ladder)
    task = None if facts.task is None else describe_task(facts.task)
    networks = {} if ladder is None else {name: variant.precision for name, variant in ladder.files.items()}
    vectors = write_vectors(
        folder, describe_input(facts.input), _precisions(artifact, facts), sample, task, others=networks
    )
    about = manifest(artifact, facts, vectors)
    seal(folder, about if ladder is None else {**about, "adaptation": describe_ladder(ladder)})


def _precisions(artifact: Artifact, facts: BundleFacts) -> dict[str, str]:
    """Return the precision of each model file: the chosen one's, and that of the float parent beside it."""
    parents = {name: "float32" for name in artifact.files if name.startswith("float32.")}
    return {facts.format.file: artifact.precision, **parents}


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
