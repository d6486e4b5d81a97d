"""From a run's store to what a bundle is made of."""

from __future__ import annotations

from deploy.facts import BundleFacts
from pipeline import codec
from pipeline.errors import RunNotFoundError
from pipeline.pareto import device_costs, non_dominated
from pipeline.records import FULL, Artifact, DeviceFacts, Figures
from pipeline.spaces import space_of_round
from pipeline.store import Store


def picked(store: Store, wanted: str) -> list[Artifact]:
    """Return the artifacts that ``wanted`` names: ``best``, ``pareto`` (no other is better in everything) or an id.

    Raises:
        RunNotFoundError: there is none.
    """
    artifacts = store.artifacts()
    if wanted == "best":
        found = [a for a in artifacts if a.chosen]
    elif wanted == "pareto":
        found = _front(artifacts)
    else:
        found = [a for a in artifacts if a.id == wanted]
    if not found:
        ids = ", ".join(a.id for a in artifacts)
        there = f"it has: {ids}" if ids else "it has none yet"
        mend = "" if store.status == "finished" else f"; to go on with it: pipeline run --resume {store.id}"
        raise RunNotFoundError(f"run {store.id} ({store.status}) has no artifact {wanted!r}; {there}{mend}")
    return found


def bundle_facts(store: Store, artifact: Artifact) -> BundleFacts:
    """Return what a bundle says of where its network came from; the space is the one that its round cut."""
    told = store.get("input")
    return BundleFacts(
        run_id=store.id,
        classes=tuple(store.get("classes")),
        input_name=told["name"],
        input_shape=tuple(told["shape"]),
        mean=tuple(told["mean"]),
        std=tuple(told["std"]),
        space=space_of_round(store, artifact.round),
        device=codec.load(DeviceFacts, store.get("facts")),
        device_name=store.get("device")["name"],
        base=codec.load(Figures, store.get("base")),
        seed=store.get("seed"),
        versions=store.get("versions"),
        config=store.get("config"),
        git=store.get("git"),
    )


def _front(all_artifacts: list[Artifact]) -> list[Artifact]:
    """Return the artifacts that no other beats in everything; one fine-tuned in full replaces its brief one."""
    in_full = {a.trial for a in all_artifacts if a.id.endswith(FULL)}
    artifacts = [a for a in all_artifacts if a.id.endswith(FULL) or a.trial not in in_full]
    costs = device_costs([a.after.search_accuracy for a in artifacts], [a.after.measurement for a in artifacts])
    return [artifacts[i] for i in non_dominated(costs)]
