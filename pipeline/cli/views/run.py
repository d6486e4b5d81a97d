"""Terminal view of a stored run: trials, artifacts, base against pruned, groups."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from pipeline import serialization
from pipeline.cli.console import out
from pipeline.measurement.between_processes import Spread
from pipeline.measurement.calibration import Calibration
from pipeline.measurement.drift import corrected, drift_of
from pipeline.measurement.validity import INVALIDATING, why_invalid
from pipeline.records import REPLAY, UNTRIED, Artifact, Figures, Trial
from pipeline.report.contents import usages
from pipeline.store import Store
from pipeline.store.conditions import base_of, chosen_artifacts, conditions_of
from pipeline.store.facts import (
    BASE,
    CALIBRATION,
    DEVICE,
    FAILURE,
    FEDERATED,
    FLEET,
    PRECISION,
    RECORDING,
    RIVALS,
    SPACE,
    SPREADS,
)
from pipeline.store.spaces import require_plan, space_of_round
from pipeline.store.task import metric_name, puts_into_classes

_LEGEND = (
    "★ best reward that meets the target   ◆ Pareto front   ✗ misses the target   ? in doubt   ↯ stopped early\n"
    "latency: the ratio to the base model, measured in turns with it, times the base model's own: free of drift"
)

_LEGEND_OF_CONDITIONS = "{metric} and reward: by the mean over {names}; for: the one for which the plan was asked"

_KEY_WIDTH = 48


def print_run(store: Store) -> None:
    """Print trials, front, artifacts and the table base vs pruned, as far as the run has come."""
    front = {trial.index for trial in store.pareto()}
    best = store.best()
    out.print(f"[bold]{store.id}[/]  {store.status}", markup=True)
    if failure := store.get(FAILURE):
        out.print(str(failure), markup=False, style="red")
    if (device := store.get(DEVICE)) and device.get("kind") == REPLAY:
        out.print(f"replayed: {device['name']} answers from a recording, no board was measured", markup=False)
    trials, stored = store.trials(), store.get(BASE)
    base = None if stored is None else serialization.load(Figures, stored)
    if trials:
        pruned = "zero weights" if any(trial.plan.zeros for trial in trials) else "channels kept"
        names = conditions_of(store)
        asked = ("for",) if names else ()
        table = table_of("trial", *asked, pruned, metric_name(store), "latency", "of base", "reward", "")
        for trial in trials:
            index, *rest = _row(trial, base, trial.index in front, best is not None and trial.index == best.index)
            table.add_row(index, *([trial.condition] if names else []), *rest)
        out.print(table)
        out.print(_LEGEND, style="dim")
        if len(names) > 1:
            out.print(_LEGEND_OF_CONDITIONS.format(names=", ".join(names), metric=metric_name(store)), style="dim")
        _print_reasons(trials)
    else:
        out.print("no trials yet")
    _print_device(store, trials)
    _print_fleet(store)
    _print_artifacts(store.artifacts())
    print_comparison(store)
    _print_federated(store)
    if store.get(RECORDING):
        print_recording(store)
    if store.status in ("interrupted", "failed"):
        out.print(f"to resume: pipeline run --resume {store.id}", style="dim")


def _print_fleet(store: Store) -> None:
    """Print the boards of a run that has several, and what they differ by."""
    from pipeline.report.fleet import NOTE, rows, sentences, troubles

    fleet = store.get(FLEET)
    if fleet is None:
        return
    table = table_of("board", "", "measurements", "base model", "ratios there", "drift")
    signs = {"measuring": "✓", "lost": "✗ lost", "quarantined": "! quarantined"}
    for board, row in zip(fleet.boards, rows(fleet), strict=True):
        table.add_row(row.board, signs[board.status], row.measurements, row.base, row.effect, row.drift)
    out.print()
    out.print(table)
    for sentence in troubles(fleet):
        out.print(sentence, markup=False, style="yellow")
    for sentence in sentences(fleet):
        out.print(sentence, markup=False)
    out.print(NOTE, style="dim")


def _print_federated(store: Store) -> None:
    """Say what the run's policy has learnt together with other sites, and how it plans."""
    found = store.get(FEDERATED)
    if found is None:
        return
    out.print(
        f"federated policy: after round {found['round']} of {found['rounds']}, as site {found['site']}, which gave it "
        f"{found['updates']} updates; pipeline plan {store.id} --policy federated --target TARGET",
        markup=False,
    )


def print_recording(store: Store) -> None:
    """Say where the run's recording is and how it is played back."""
    path = store.path / str(store.get(RECORDING))
    size = f"{path.stat().st_size / 1e6:.1f} MB" if path.exists() else "missing"
    out.print(f"recording  {path} ({size}); to play it back, in inventory.yaml:", markup=False)
    out.print(f"           {store.required(DEVICE)['name']}-replayed: {{kind: replay, recording: {path.absolute()}}}",
              markup=False)  # fmt: skip


def print_comparison(store: Store) -> None:
    """Print the table base vs pruned, once there is a chosen artifact; of several conditions one for each."""
    found = chosen_artifacts(store)
    for chosen in found:
        _print_comparison(store, chosen)
    _print_conditions(store, found)


def _print_comparison(store: Store, chosen: Artifact) -> None:
    from pipeline.report.corners import alike
    from pipeline.report.table import comparison, notes, precision_in_words

    precision = "" if chosen.precision == "float32" else f", {precision_in_words(chosen.precision)}"
    table = table_of(chosen.condition, "base", f"pruned{precision}", "change")
    for row in comparison(base_of(store, chosen), chosen.after, metric_name(store)):
        table.add_row(row.measure, row.base, row.pruned, row.change)
    out.print()
    out.print(table)
    for sentence in notes(chosen.plan):
        out.print(sentence, style="dim")
    _print_corners(store, chosen)
    _print_rivals(store, chosen)
    if chosen.device_accuracy is not None and chosen.host_accuracy is not None:
        named = "" if puts_into_classes(store) else f"{metric_name(store)} "
        out.print(
            f"verified on the device with {chosen.verified_images} images: {named}{chosen.device_accuracy:.1%} there, "
            f"{chosen.host_accuracy:.1%} on the host{alike(chosen)}",
            style="dim",
        )
    if chosen.agreement is not None:
        out.print(
            f"INT8 puts {chosen.agreement:.1%} of the search split's images into the class of its float32 parent",
            style="dim",
        )
    out.print(f"pruned: {_in_words(store, chosen)}", markup=False, style="dim")


def _print_conditions(store: Store, chosen: list[Artifact]) -> None:
    """Print the plan for each condition of the data beside the others, where there are several."""
    from pipeline.report.conditions import NOTE, columns, condition_plans

    found = condition_plans(chosen, {one.condition: base_of(store, one) for one in chosen})
    if not found:
        return
    table = table_of(*columns(chosen))
    for one in found:
        table.add_row(*one.cells)
    out.print()
    out.print(table)
    out.print(NOTE, style="dim")


def _print_corners(store: Store, chosen: Artifact) -> None:
    """Print base and pruned network in both precisions beside each other, where the run computed in INT8 or FP16."""
    from pipeline.report.corners import NOTE, corners

    found = corners(base_of(store, chosen), store.get(PRECISION), chosen)
    if not found:
        return
    table = table_of("", metric_name(store), "latency", "model file")
    for one in found:
        table.add_row(one.network, one.accuracy, one.latency, one.size)
    out.print()
    out.print(table)
    out.print(NOTE, style="dim")


def _print_rivals(store: Store, chosen: Artifact) -> None:
    """Print the networks that might have been taken instead beside the pruned one, where any was measured."""
    from pipeline.report.rivals import NOTE, rivals

    known = store.get(RIVALS)
    found = [] if known is None else rivals(known, chosen.after)
    if not found:
        return
    table = table_of("", f"{metric_name(store)}, test split", "latency of base", "model file", "")
    for one in found:
        table.add_row(one.network, one.score, one.latency, one.size, one.verdict)
    out.print()
    out.print(table)
    out.print(NOTE, style="dim")


def print_groups(store: Store) -> None:
    """Print what could be cut in the network of the last round."""
    from pipeline.report.cuts import cuts

    space = store.get(SPACE)
    if space is None:
        out.print("not known yet: the run has not come so far")
        return
    table = table_of("group of channels", "channels", "levels, %", "MACs", "")
    for row in cuts(space):
        table.add_row(row.name, row.channels, row.levels, row.macs, row.remark)
    out.print(table)
    out.print("named for the layer that makes the channels; MACs: of all layers that shrink with them", style="dim")


def table_of(*columns: str) -> Table:
    """Return an empty table as all of the commands' tables look."""
    return Table(*columns, box=None, header_style="bold", pad_edge=False)


def _print_artifacts(artifacts: list[Artifact]) -> None:
    if not artifacts:
        return
    asked = ("for",) if any(one.condition for one in artifacts) else ()
    table = table_of("artifact", "trial", "round", *asked, "latency of base", "model file", "")
    for one in artifacts:
        ratio = one.after.measurement.ratio
        trial = "" if one.trial == UNTRIED else str(one.trial)
        table.add_row(
            one.id, trial, str(one.round), *([one.condition] if asked else []),
            f"{ratio.value:.3f}×" if ratio else "",
            f"{one.after.size_bytes / 1e3:,.0f} kB", "chosen" if one.chosen else "",
        )  # fmt: skip
    out.print()
    out.print(table)


def _print_reasons(trials: list[Trial]) -> None:
    """Explain the flags of quarantined measurements, each once."""
    for flag in dict.fromkeys(f for t in trials if t.failure and t.measurement for f in why_invalid(t.measurement)):
        out.print(f"{flag}: {INVALIDATING[flag]}", style="dim", markup=False)


def _print_device(store: Store, trials: list[Trial]) -> None:
    """Print how the device's time was spent in the search, and how its speed drifted."""
    spent = usages(store)
    for number, usage in spent.items():
        out.print((f"round {number}: " if len(spent) > 1 else "") + str(usage), markup=False)
    if drift := drift_of(trials):
        out.print(f"drift: {drift}", markup=False)
    for metric, spread in (store.get(SPREADS) or {}).items():
        out.print(f"{metric}: {serialization.load(Spread, spread)}", markup=False)
    if calibrated := store.get(CALIBRATION):
        out.print(f"device calibrated {serialization.load(Calibration, calibrated)}", markup=False)


def _row(trial: Trial, base: Figures | None, on_front: bool, best: bool) -> tuple[str | Text, ...]:
    if trial.failure is not None or trial.candidate is None or trial.measurement is None:
        accuracy = f"{trial.candidate.accuracy:.1%}" if trial.candidate else ""
        reason = trial.failure or "unknown"
        put_aside = reason.startswith("quarantined")
        return str(trial.index), _pruned(trial), accuracy, "", "", "", Text(
            reason if put_aside else f"failed: {reason}", style="yellow" if put_aside else "red"
        )  # fmt: skip
    m = trial.measurement
    marks = {"★": best, "◆": on_front, "✗": not trial.feasible, "?": bool(m.flags), "↯": m.early}
    return (
        str(trial.index),
        _pruned(trial),
        f"{trial.candidate.accuracy:.1%}",
        f"{corrected(m, base.measurement if base else None).value:.3g} ms",
        f"{m.ratio.value:.3f}×" if m.ratio else "",
        "" if trial.reward is None else f"{trial.reward:.3f}",
        "".join(mark for mark, holds in marks.items() if holds),
    )


def _pruned(trial: Trial) -> str:
    """Return what a trial prunes, in a table's cell: the channels that each group keeps, or how many weights are zero.

    A candidate that could not be built has no figure for the latter.
    """
    if trial.plan.zeros:
        return f"{trial.candidate.sparsity:.1%}" if trial.candidate and trial.candidate.sparsity is not None else ""
    return trial.key if len(trial.key) <= _KEY_WIDTH else f"{trial.key[: _KEY_WIDTH - 1]}…"


def _in_words(store: Store, chosen: Artifact) -> str:
    """Return what was cut; of a later round, what it cut from the network of the round before."""
    space = space_of_round(store, chosen.round)
    require_plan(store, space, chosen.plan, f"artifact {chosen.id}")
    if chosen.plan.zeros:
        zeros = space.zeros(chosen.plan).items()
        shares = ", ".join(f"{name.removesuffix('.weight')} {100 * share:.0f} %" for name, share in zeros)
        return f"single weights, of which are zero: {shares}"
    cuts = ", ".join(f"{g.name} {level} %" for g, level in zip(space.groups, chosen.plan.levels, strict=True) if level)
    later = f" (in round {chosen.round}, of what round {chosen.round - 1} had left)" if chosen.round > 1 else ""
    return (cuts or "nothing") + later
