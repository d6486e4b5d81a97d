"""Rivals of a finished run: networks that its user might have taken instead, measured and scored as the run's own.

A rival is not pruned and not trained here: it is written in the run's format and precision, verified and measured
beside the run's base on the run's device, and scored on the run's data, read as the run reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

from torch import fx

from pipeline.baselines.stored import known_rivals
from pipeline.config import is_model_file
from pipeline.errors import ExportError, ModelError
from pipeline.evaluation.candidate_builder import score_as_deployed
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Listener, Note, Stage
from pipeline.export.format import open_format
from pipeline.export.format_plugin import model_format
from pipeline.export.signature import signature_of
from pipeline.models import load_model
from pipeline.models.safetensors_io import weights_bytes
from pipeline.pruning.complexity import measures_of
from pipeline.pruning.trace import trace
from pipeline.records import Baseline, Figures
from pipeline.run.artifact_recipe import portable
from pipeline.run.base_model import make_base
from pipeline.run.context import Context
from pipeline.run.device_verification import verify
from pipeline.run.inputs import require_answers
from pipeline.run.precision import as_decided
from pipeline.run.runner import Prepared
from pipeline.store import Store
from pipeline.store.facts import RIVALS


@dataclass(frozen=True, slots=True)
class RivalSpec:
    """A network and its weights, as the user names them."""

    model: str
    weights: Path | None
    """None: the model is a file that holds them."""


def parse_rival(text: str) -> RivalSpec:
    """Return the network and the weights that ``MODEL:WEIGHTS`` names.

    >>> parse_rival("net.py:make:small.pt")
    RivalSpec(model='net.py:make', weights=PosixPath('small.pt'))

    Raises:
        ModelError: the weights are missing.
    """
    if is_model_file(text):
        return RivalSpec(text, None)
    model, colon, weights = text.rpartition(":")
    if not colon or not Path(weights).suffix or weights.endswith(".py"):
        raise ModelError(
            f"rival {text!r} does not say where its weights are; write MODEL:WEIGHTS, such as net.py:make:small.pt or "
            "mobilenet_v2:small.pt, or give an ONNX file"
        )
    return RivalSpec(model, Path(weights))


def measure_rivals(
    ready: Prepared, store: Store, specs: Sequence[RivalSpec], *, listen: Listener, stopping: Callable[[], bool]
) -> None:
    """Measure and score the rivals that are not in a finished run's store yet; each one stands there when it is done.

    Raises:
        UserError: a rival cannot be loaded, or answers otherwise than the data want.
        PipelineError: what is stored stands, and the same command goes on there.
    """
    context = ready.context(store, listen=listen, stopping=stopping)
    base = make_base(context, ready.inputs.model)
    bench = Bench(context.boards, store, base.skeleton)
    for spec in specs:
        context.stop_if_requested()
        listen(Stage(f"Load rival {spec.model}"))
        network = _loaded(context, spec)
        name = f"{portable(spec.model)} ({sha256(weights_bytes(network)).hexdigest()[:8]})"
        if all(known.name != name for known in known_rivals(store)):
            made = Baseline(name=name, figures=_figures(context, bench, network, name))
            store.set(RIVALS, [*known_rivals(store), made])


def _loaded(context: Context, spec: RivalSpec) -> fx.GraphModule:
    data, example = context.data, context.example
    model = load_model(
        spec.model, classes=len(data.classes), channels=data.shape[0], weights=spec.weights,
        example=None if isinstance(example, tuple) else example, listen=context.listen,
    )  # fmt: skip
    network = trace(model, example, classes=len(data.classes), task=data.task)
    require_answers(network, data)
    return network


def _figures(context: Context, bench: Bench, network: fx.GraphModule, name: str) -> Figures:
    """Return a rival's figures; the test split is read here, this once for each rival."""
    data, kind = context.data, context.agent.device.format
    context.listen(Stage(f"Write rival {name} as {kind}"))
    try:
        format = open_format(kind, network, context.example, support=context.agent.onnx_support)
        own = as_decided(replace(context, format=format))
        file = own.format.file(network)
    except ExportError as error:
        raise ModelError(f"rival {name}: {error}") from error
    verified = verify(own, file, signature_of(network))
    context.listen(Stage(f"Measure rival {name} beside the base model"))
    measured = bench.measure_file(file, f"rival:{sha256(file).hexdigest()[:12]}", kind=model_format(kind).ending)
    context.listen(Stage(f"Score rival {name}"))
    limit = context.config.evaluation.search_images
    figures = Figures(
        search_accuracy=score_as_deployed(network, own.format, data.search, data.task, limit),
        test_accuracy=score_as_deployed(network, own.format, data.test, data.task),
        **asdict(measures_of(network, context.example)), size_bytes=len(file), measurement=measured,
    )  # fmt: skip
    scored = data.task.shown(figures.test_accuracy or 0.0)
    there = "" if verified.on_device is None else f", verified with {verified.images} images"
    context.listen(Note(f"rival {name}: {scored} on the test split{there}"))
    return figures
