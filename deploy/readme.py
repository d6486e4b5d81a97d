"""A bundle's README.md: what it is, how to run it, the figures and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from string import Template

from deploy.facts import BundleFacts
from deploy.templates import template
from pipeline.records import Artifact, Measurement
from pipeline.report.table import NOT_MEASURED, NOTE, ZEROS, Row, comparison


def readme(artifact: Artifact, facts: BundleFacts) -> str:
    """Return the text."""
    signal = len(facts.input.shape) == 2
    return Template(template("README.md")).substitute(
        name=f"{facts.run_id}-{artifact.id}",
        model=_plain(facts.config.get("model") or "network"),
        device=_plain(facts.device_name),
        board=_plain(facts.device.board or facts.device.cpu),
        classes=len(facts.classes),
        given="signal.npy" if signal else "image.png",
        taken=_taken(facts.input.shape),
        table=_table(comparison(facts.base, artifact.after)),
        note=_notes(artifact),
        measured=_measured(artifact.after.measurement),
        power=_power(artifact.after.measurement),
        verified=_verified(artifact),
        doubts=_doubts(artifact.after.measurement),
        file=facts.format.file,
        runtime=_plain(facts.format.runtime),
        run=facts.run_id,
        seed=facts.seed,
    )


def _taken(shape: Sequence[int]) -> str:
    if len(shape) == 2:
        channels = "1 channel" if shape[0] == 1 else f"{shape[0]} channels"
        return f"signals of {channels} with {shape[1]} samples (.npy, or a table of numbers, a channel a line)"
    planes, height, width = shape
    return f"{'grey' if planes == 1 else 'RGB'} images of {width} × {height} pixels"


def _notes(artifact: Artifact) -> str:
    paired = [NOTE] if artifact.after.measurement.ratio else []
    return " ".join([*paired, *([ZEROS] if artifact.plan.zeros else [])])


def _table(rows: Sequence[Row]) -> str:
    lines = ["| | base | pruned | change |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(map(_plain, (row.measure, row.base, row.pruned, row.change)))} |" for row in rows]
    return "\n".join(lines)


def _measured(measurement: Measurement) -> str:
    threads = "1 thread" if measurement.threads == 1 else f"{measurement.threads} threads"
    text = f"{measurement.inferences} timed inferences of one image, {_plain(measurement.runtime)}, {threads}"
    if measurement.ratio is None:
        return f"{text}; the base model did not run beside it, so the change of latency is not paired"
    return f"{text}, in turns with the base model within the same minute"


def _power(measurement: Measurement) -> str:
    power = measurement.power
    if power is None:
        return f"Power and energy: {NOT_MEASURED}."
    idle = "idle power unknown" if power.idle_w is None else f"idle {power.idle_w:.3g} W"
    seen = "which estimates that of the whole" if power.estimated else "which sees the whole"
    return f"Power: {power.samples} samples of {_plain(power.source)}, {seen} {power.scope}; {idle}."


def _verified(artifact: Artifact) -> str:
    if artifact.device_accuracy is None or artifact.host_accuracy is None:
        return "The file was not checked with real images on the device."
    return (
        f"The file was checked on the device with {artifact.verified_images} real images:"
        f" {artifact.device_accuracy:.2%} right there, {artifact.host_accuracy:.2%} on the host"
        f"{_alike(artifact)}."
    )


def _alike(artifact: Artifact) -> str:
    return "" if artifact.same_class is None else f", {artifact.same_class:.1%} of them into the same class"


def _doubts(measurement: Measurement) -> str:
    if not measurement.flags:
        return "Nothing spoke against the measurement: no throttling, no change of clock, no excess noise was seen."
    return f"**Take the figures with care**: {', '.join(map(_plain, measurement.flags))}."


def _plain(value: object) -> str:
    """Return text that Markdown shows as it is, in one cell of a table."""
    text = " ".join(str(value).split())
    for sign in "\\`|<>*_":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("](", "]\\(")  # what would be a link
