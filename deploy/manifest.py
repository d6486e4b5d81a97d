"""manifest.json: what is in a bundle, how to feed it, what was measured, and how to make it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploy.facts import BundleFacts, BundleTask, NetworkInput
from pipeline import serialization
from pipeline.records import Artifact, Figures, channel_sparsity, layout

SCHEMA_VERSION = 1
"""Rises with every change that a reader of version 1 would misread."""


def manifest(artifact: Artifact, facts: BundleFacts, vectors: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the manifest says beside its list of files, as plain JSON values; ``vectors``: the test vectors."""
    return {
        "schema": SCHEMA_VERSION,
        "name": f"{facts.run_id}-{artifact.id}",
        "model": {
            "file": facts.format.file,
            "format": facts.format.name,
            "precision": artifact.precision,
            **({"float_layers": list(artifact.float_layers)} if artifact.float_layers else {}),
            **({} if artifact.weight_bits is None else {"weight_bits": artifact.weight_bits}),
        },
        "classes": list(facts.classes),
        **({} if facts.task is None else {"task": describe_task(facts.task)}),
        "input": describe_input(facts.input),
        **({} if facts.condition is None else {"condition": serialization.dump(facts.condition)}),
        "test_vectors": vectors,
        "plan": _plan(artifact, facts),
        "device": {"name": facts.device_name, **serialization.dump(facts.device)},
        "calibration": None if facts.calibration is None else serialization.dump(facts.calibration),
        "accuracy": _accuracy(artifact, facts),
        "figures": {
            "base": serialization.dump(facts.base),
            "before_fine_tuning": serialization.dump(artifact.before),
            "after_fine_tuning": serialization.dump(artifact.after),
            "float_parent": serialization.dump(artifact.float_parent),
            "uncertainty": "low and high bound the 95 % confidence interval of value",
            "channel_sparsity": _channel_sparsity(facts.base, artifact.after),
        },
        "run": {"id": facts.run_id, "trial": artifact.trial, "artifact": artifact.id, "round": artifact.round},
        "seeds": {"run": facts.seed},
        "versions": dict(facts.versions),
        "config": dict(facts.config),
        "git": facts.git,
    }


def describe_task(task: BundleTask) -> dict[str, Any]:
    """Return what the network is for; ``metric`` is what the figures under ``accuracy`` are called."""
    ends = {"inputs": task.inputs, "outputs": task.outputs}
    listed = {
        end: [{"name": name, "shape": list(shape), "type": "float32"} for name, shape in parts]
        for end, parts in ends.items()
    }
    return {"name": task.name, "metric": task.metric, **listed}


def describe_input(fed: NetworkInput) -> dict[str, Any]:
    """Return how a network is fed: shape, order of axes, how an image is read, scaled, cropped and normalised."""
    shape = fed.shape
    tensor = {"name": fed.name, "shape": list(shape), "layout": layout(shape), "type": "float32"}
    normalisation = {"mean": list(fed.mean), "std": list(fed.std)}
    if len(shape) not in (2, 3):
        return {**tensor, "layout": "N" + "".join(f"D{i}" for i in range(len(shape))), "kind": "values"}
    if len(shape) == 2:
        formula = {"formula": "(value - mean) / std, each channel for itself"}
        return {**tensor, "kind": "signal", "normalisation": {**normalisation, **formula}}
    first = "scaled to cover the shape" if fed.resize is None else f"its shorter side scaled to {fed.resize}"
    return {
        **tensor,
        "kind": "image",
        "upright": "turned as EXIF says",
        "depth": "8 bits; of 16 the upper 8, of floats from 0 to 1 the nearest; transparency is left out",
        "fit": f"{first}, {fed.interpolation}, and cropped to its centre",
        "resize": fed.resize,
        "interpolation": fed.interpolation,
        "colour": "grey" if shape[0] == 1 else "RGB",
        "normalisation": {**normalisation, "formula": "(pixel / 255 - mean) / std, each channel for itself"},
    }


def _plan(artifact: Artifact, facts: BundleFacts) -> dict[str, Any]:
    """The groups with their levels; of a plan made for another space (an earlier round), the levels alone.

    And the share of each weight tensor that is zero, where the plan set single weights to zero.
    """
    levels, groups = artifact.plan.levels, facts.space.groups
    plan: dict[str, Any] = {
        "criterion": artifact.plan.criterion,
        "key": artifact.key,
        "levels": list(levels),
        "zeros": facts.space.zeros(artifact.plan),
        "groups": None,
    }
    if len(levels) != len(groups):
        return plan
    kept = facts.space.kept(levels)
    plan["groups"] = [
        {"name": g.name, "layers": list(g.layers), "level": level, "channels": g.channels, "kept": k}
        for g, level, k in zip(groups, levels, kept, strict=True)
    ]
    return plan


def _channel_sparsity(base: Figures, pruned: Figures) -> float | None:
    """Return the share of the base network's channels that are gone; None: a run made by an older version."""
    if base.channels is None or pruned.channels is None:
        return None
    return channel_sparsity(base.channels, pruned.channels)


def _accuracy(artifact: Artifact, facts: BundleFacts) -> dict[str, Any]:
    """Scores, right answers or a task's own; the search split picked the network, the test split was read once."""
    return {
        name: {"search": figures.search_accuracy, "test": figures.test_accuracy}
        for name, figures in (
            ("base", facts.base),
            ("before_fine_tuning", artifact.before),
            ("after_fine_tuning", artifact.after),
        )
    } | {
        "verified": {
            "device": artifact.device_accuracy,
            "host": artifact.host_accuracy,
            "images": artifact.verified_images,
            "same_class": artifact.same_class,
        },
        "agreement_with_float_parent": artifact.agreement,
    }
