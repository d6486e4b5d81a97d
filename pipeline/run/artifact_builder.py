"""Artifact builder: a trained network's files, verified and measured on the device, with the recipe of its cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from torch import fx

from pipeline.evaluation.candidate_builder import Builder
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Stage
from pipeline.export.format import float_parent
from pipeline.export.format_plugin import model_format
from pipeline.export.fp16_format import Fp16Onnx
from pipeline.export.quantization.open_int8 import INT8_FORMATS
from pipeline.export.signature import signature_of
from pipeline.measurement.feasibility import certainly_meets, certainly_misses
from pipeline.models import default_model
from pipeline.models.safetensors_io import WEIGHTS, weights_bytes
from pipeline.pruning.complexity import measures_of
from pipeline.recipes.recipe import RECIPE, to_text
from pipeline.records import FULL, Artifact, Figures, FloatParent, Measurement
from pipeline.run.artifact_recipe import recipe_of
from pipeline.run.context import Context
from pipeline.run.decisions import decisions_in_recipe
from pipeline.run.device_verification import verify
from pipeline.run.int8_finalist import QuantizedFinalist, quantize_finalist
from pipeline.run.training_stage import discard_checkpoint
from pipeline.targets import Metric


@dataclass(frozen=True, kw_only=True)
class ArtifactBuilder:
    """Makes a round's artifacts; each finished one is in the store at once."""

    context: Context
    builder: Builder
    bench: Bench
    limits: Mapping[Metric, float]

    def build(self, artifact: Artifact, network: fx.GraphModule, search_accuracy: float | None = None) -> Artifact:
        """Export a network, send it whole, verify and measure it; store it as ``artifact``.

        Its accuracy on the search split is read here unless it is given.
        """
        store, format = self.context.store, self.context.format
        int8 = quantize_finalist(self.context, network, artifact.id) if isinstance(format, INT8_FORMATS) else None
        model = format.file(network) if int8 is None else int8.data
        if int8 is not None and search_accuracy is None:
            search_accuracy = int8.accuracy
        verified = verify(self.context, model, signature_of(network))
        weights = store.put_blob(weights_bytes(network))
        written = model_format(self.context.agent.device.format)
        files = {written.file: store.put_blob(model), WEIGHTS: weights}
        parent = None if int8 is None else int8.parent
        if parent is not None:
            files[float_parent(written.ending)] = store.put_blob(parent)
        if isinstance(format, Fp16Onnx):  # the same file but for what it asks for
            parent = format.parent.file(network)
        done = replace(
            artifact,
            files=files | self._recipe(artifact, int8),
            after=self._figures(network, model, artifact.id, search_accuracy),
            device_accuracy=verified.on_device,
            host_accuracy=verified.on_host,
            verified_images=verified.images,
            same_class=verified.same_class,
            precision=format.precision,
            agreement=None if int8 is None else int8.agreement,
            float_layers=() if int8 is None else int8.float_layers,
            weight_bits=None if int8 is None else int8.weight_bits,
            float_parent=self._parent(parent, artifact.id),
        )
        store.add_artifact(done)
        discard_checkpoint(self.context, done.id)
        return done

    def measure(self, model: bytes, name: str) -> Measurement:
        """Return a whole file's figures; of a finalist that is too near a target to tell, from a second look as well.

        That is taken whichever side of the target the first one was on: else luck would only ever help.
        """
        self.context.listen(Stage(f"Measure the whole file of {name}"))
        key = f"{self.bench.round}:whole:{name}"
        kind = model_format(self.context.agent.device.format).ending
        found = self.bench.measure_file(model, key, kind=kind)
        if name.endswith(FULL) or certainly_meets(found, self.limits) or certainly_misses(found, self.limits):
            return found
        self.context.listen(Stage(f"Measure {name} once more: too near the target to tell"))
        return self.bench.measure_file(model, key, looks=2, kind=kind)

    def _parent(self, file: bytes | None, name: str) -> FloatParent | None:
        """Return the float32 file's own figures, of the one that is handed over."""
        if file is None or not name.endswith(FULL):
            return None
        self.context.listen(Stage(f"Measure the float32 file of {name}"))
        kind = model_format(self.context.agent.device.format).ending
        found = self.bench.measure_file(file, f"{self.bench.round}:whole:{name}:float32", kind=kind)
        return FloatParent(size_bytes=len(file), measurement=found)

    def _recipe(self, artifact: Artifact, int8: QuantizedFinalist | None) -> dict[str, str]:
        """Return the file that says what was cut; none where an earlier round, of an older version, has none."""
        config, data = self.context.config, self.context.data
        model, decisions = config.model or default_model(data), decisions_in_recipe(self.context.store)
        if int8 is not None and "precision" in decisions:
            decisions["precision"] = {**decisions["precision"], "float_layers": list(int8.float_layers)}
        recipe = recipe_of(self.context.store, self.builder, artifact, model, config, decisions)
        return {} if recipe is None else {RECIPE: self.context.store.put_blob(to_text(recipe).encode())}

    def _figures(self, network: fx.GraphModule, model: bytes, name: str, search_accuracy: float | None) -> Figures:
        measures = measures_of(network, self.builder.example)
        return Figures(
            search_accuracy=self.builder.accuracy(network) if search_accuracy is None else search_accuracy,
            test_accuracy=None, **asdict(measures), size_bytes=len(model),
            measurement=self.measure(model, name),
        )  # fmt: skip
