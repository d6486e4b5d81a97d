"""Adaptive bundle: a run's ladder and its controller as a folder to deploy."""

from __future__ import annotations

from pathlib import Path

from deploy.bundle import write_bundle
from deploy.ladder import Ladder, VariantFile
from deploy.verify import verify_bundle
from pipeline import serialization
from pipeline.records.adaptation import Adaptation
from pipeline.run.artifact_recipe import bundle_facts, format_of
from pipeline.run.sample_file import sample_of
from pipeline.store import Store

PLAIN = "plain"
"""The variant that answers where the bundle is used without its controller."""


def write_adaptive(store: Store, found: Adaptation, output: Path, inventory: Path | None = None) -> None:
    """Write the bundle, and verify it.

    Args:
        store: of the run.
        found: what came of adapting it.
        output: a folder that is new or empty.
        inventory: as of ``pipeline.api.pull``.

    Raises:
        OutputError: the folder is not empty or cannot be written.
    """
    artifacts = {one.id: one for one in store.artifacts()}
    plain = artifacts[next(one.artifact for one in found.variants if one.name == PLAIN)]
    settings = serialization.from_text(store.blob(found.settings).read_text("utf-8"))
    names = {one["name"]: one["file"] for one in settings["variants"]}
    format = format_of(store, plain, inventory)
    files = {
        names[one.name]: VariantFile(
            source=store.blob(one.file_sha256), sha256=one.file_sha256, precision=one.precision
        )
        for one in found.variants
        if names[one.name] != format.file
    }
    about = {
        "cost_of": found.cost_of, "floor": found.floor, "ships": found.ships, "why": found.why, "rule": found.rule,
        "judged": [serialization.dump(one) for one in found.judged],
    }  # fmt: skip
    write_bundle(
        artifact=plain, files={name: store.blob(sha256) for name, sha256 in plain.files.items()},
        facts=bundle_facts(store, plain, format), output=output, sample=sample_of(store.path),
        ladder=Ladder(settings=settings, files=files, about=about),
    )  # fmt: skip
    verify_bundle(output)
