"""A bundle's README.md: what it is, how to run it, the figures and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from string import Template

from deploy.facts import BundleFacts, BundleTask
from deploy.ladder import Ladder
from deploy.templates import template
from pipeline.records import Artifact, Measurement
from pipeline.report.table import NOT_MEASURED, NOTE, ZEROS, Row, comparison


def readme(artifact: Artifact, facts: BundleFacts, ladder: Ladder | None = None) -> str:
    """Return the text; ``ladder``: of an adaptive bundle."""
    return Template(template("README.md")).substitute(
        name=f"{facts.run_id}-{artifact.id}",
        model=_plain(facts.config.get("model") or "network"),
        device=_plain(facts.device_name),
        board=_plain(facts.device.board or facts.device.cpu),
        given=_given(facts),
        explained=_explained(facts),
        labels=_LABELS if facts.task is None else "",
        adaptive="" if ladder is None else _adaptive(ladder),
        controller="" if ladder is None else _CONTROLLER,
        table=_table(comparison(facts.base, artifact.after, facts.task.metric if facts.task else "accuracy")),
        note=_notes(artifact),
        condition=_condition(facts),
        measured=_measured(artifact.after.measurement),
        power=_power(artifact.after.measurement),
        verified=_verified(artifact, facts.task),
        doubts=_doubts(artifact.after.measurement),
        file=facts.format.file,
        runtime=_plain(facts.format.runtime),
        run=facts.run_id,
        seed=facts.seed,
    )


_LABELS = "| labels.txt | the classes, one a line, in the order of the outputs |\n"
_CONTROLLER = (
    "| controller.py, controller.json | choose among the networks, frame by frame; their settings |\n"
    "| variant-* | the networks beside it that the controller chooses among |\n"
)


def _adaptive(ladder: Ladder) -> str:
    """Return how the controller is used, and what it chooses among."""
    names = ", ".join(f"{one['name']} ({one['latency_ms']:.3g} ms)" for one in ladder.settings["variants"])
    count = len(ladder.settings["variants"])
    return (
        f"\nThis bundle adapts while it runs: frame by frame its controller chooses among {count} networks, "
        f"{_plain(names)}, or keeps the last answer.\n\n"
        '    from controller import Controller\n\n    adaptive = Controller.open(".")\n    for frame in camera:\n'
        "        print(adaptive.step(frame).label)\n\nThe figures below are of the network that answers without it.\n"
    )


def _condition(facts: BundleFacts) -> str:
    """Return for which condition of the data the network is, a paragraph; nothing where there was none."""
    if facts.condition is None:
        return ""
    others = ", ".join(f"{share:.1%} {_plain(name)}" for name, share in facts.condition.accuracy_under.items())
    tested = f" On the test split it answers right: {others}." if others else ""
    name = _plain(facts.condition.name)
    return f"Chosen and trained for images under {name}; base and pruned are read there.{tested}\n\n"


def _given(facts: BundleFacts) -> str:
    """Return what a file that the example takes may be called."""
    if facts.task is not None:
        return "inputs.npz"
    return "signal.npy" if len(facts.input.shape) == 2 else "image.png"


def _explained(facts: BundleFacts) -> str:
    if facts.task is None:
        return (
            f"prints the three likeliest of {len(facts.classes)} classes and how long one inference takes here. The "
            f"network takes {_taken(facts.input.shape)};\n`manifest.json` says under `input` how they are read and "
            "normalised, and `runtime.py` holds the very code that read them\nfor its training:\n\n"
            f'    from runtime import Model\n\n    print(Model.open(".").predict("{_given(facts)}").label)'
        )
    takes, gives = (
        ", ".join(f"{_plain(name)} ({' × '.join(map(str, shape))})" for name, shape in ends)
        for ends in (facts.task.inputs, facts.task.outputs)
    )
    return (
        f"prints the range of each output and how long one inference takes here. The network takes {takes} and answers "
        f"with {gives}; `manifest.json` says under `task` what they are called, and under `input` how pixels are "
        f"normalised. It is for {_plain(facts.task.name)}: what the outputs mean, that task's `postprocess` says.\n\n"
        '    from runtime import Model\n\n    outputs = Model.open(".").run(inputs)  # arrays by their names'
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


def _verified(artifact: Artifact, task: BundleTask | None) -> str:
    if artifact.device_accuracy is None or artifact.host_accuracy is None:
        return "The file was not checked with real images on the device."
    there = f"{artifact.device_accuracy:.2%}"
    there = f"{there} right there" if task is None else f"{_plain(task.metric)} {there} there"
    return (
        f"The file was checked on the device with {artifact.verified_images} real images:"
        f" {there}, {artifact.host_accuracy:.2%} on the host{_alike(artifact)}."
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
