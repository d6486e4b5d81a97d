"""Public API: what a notebook or a script needs, in the command line's words.

import pipeline

measured = pipeline.profile("model.onnx", device="pi4")
run = pipeline.prune(
    device="pi4", model="my_net.py:make", weights="my_net.pt", data="imagefolder:photos", target="latency=20ms"
)
pipeline.pull(run.id, "my-model")
network = pipeline.load_pruned("my-model")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline import __version__, plugins, regular_file
from pipeline.config import load_config
from pipeline.devices.agent_client import open_agent
from pipeline.devices.inventory.boards import device_of
from pipeline.devices.inventory.load import Inventory, load_inventory
from pipeline.devices.recording import Recorder, as_recorded, header_of
from pipeline.devices.runtime_choice import runtimes_in_words
from pipeline.errors import ModelError, OutputError
from pipeline.evaluation.device_bench import WHOLE, longer, one_process_of
from pipeline.events import Listener, Stage, unheard
from pipeline.export.format_plugin import FORMATS, model_format, portable_format, require_usable
from pipeline.measurement.combining import combined
from pipeline.records import Device, Measurement
from pipeline.run.lifecycle import see_through
from pipeline.store import RunsRoot, Store, runs_root
from pipeline.store.new_run import create_run, require_place, require_writable
from pipeline.targets import parse_target

if TYPE_CHECKING:
    from torch import nn

    from deploy.verify import Verified
    from pipeline.answers import Deployed, Switched
    from pipeline.comparison.compare import Comparison
    from pipeline.deployment.push import Pushed
    from pipeline.quantization.quantized_model import QuantizedModel
    from pipeline.records.adaptation import Adaptation
    from pipeline.run.format_bundles import PulledFormat
    from pipeline.run.replanning import Replanned
    from pipeline.search.gym_env import PruningEnv

__all__ = [
    "Inventory",
    "adapt",
    "compare",
    "deploy",
    "deployed",
    "environment",
    "load_inventory",
    "load_pruned",
    "open_run",
    "plan",
    "profile",
    "prune",
    "pull",
    "pull_formats",
    "quantize",
    "roll_back",
    "verify",
]

RUNS = Path("runs")


def profile(
    model: Path | str,
    *,
    device: str = "local",
    inventory: Path | str | None = None,
    record: Path | str | None = None,
    on_event: Callable[[Mapping[str, object]], None] = lambda _: None,
) -> Measurement:
    """Return the figures of a model file on a registered device, measured in several fresh processes.

    Args:
        model: a file, or a bundle's folder, which is verified before.
        record: a new file for the raw samples, from which they can be played back.
        on_event: hears what the agent says meanwhile, such as who holds the board.

    Raises:
        ModelError: no such file, or none that the device could load.
        BundleError: the bundle is not as it was written.
        DeviceError, MeasureError: the device or its runtime failed.
    """
    file, registered = _model_file(Path(model)), as_recorded(load_inventory(inventory, partial=True).device(device))
    data, kept = read_model_file(file, registered), _path(record)
    if kept is not None:
        if regular_file.exists(kept):
            raise OutputError(f"{kept} is there already; give --record the name of a new file")
        require_writable(kept.parent)
    recorder = Recorder(registered.format)
    with open_agent(registered, on_event=on_event, record=recorder.heard if kept else None) as agent:
        require_usable(registered.format, data, agent.onnx_support, shown=str(file))
        agent.hold()
        settings = agent.settings_for(registered.measure)
        each = one_process_of(longer(settings, WHOLE))
        ending, measured = model_format(registered.format).ending, agent.device
        parts = [agent.measure(data, ending, settings=each) for _ in range(settings.processes)]
    if kept is not None:
        recorder.begin(kept, header_of(measured, {"model": file.name}, {"pipeline": __version__}))
        recorder.close()
    return combined(parts, ci_rel=each.ci_rel)


def prune(
    *,
    device: str | Sequence[str] = "local",
    config: Path | str | None = None,
    inventory: Path | str | None = None,
    runs: RunsRoot | str = RUNS,
    listen: Listener = unheard,
    stopping: Callable[[], bool] = lambda: False,
    **settings: Any,
) -> Store:
    """Search, fine-tune, export and verify, as `pipeline run` does; return the finished run, opened for reading.

    Args:
        device: a registered device or ``group:NAME``; several measure side by side.
        config: a run.yaml; ``settings`` beat it.
        runs: folder that holds the runs, or the URL of a database that hosts share.
        listen: hears every stage and trial.
        stopping: asked between trials; True ends the run so that `pipeline run --resume` goes on with it.
        settings: by the names of run.yaml: model, weights, data, target, trials, strategy, ...

    Raises:
        UserError: something brought does not fit, or no candidate meets the target.
        DeviceError: the device cannot be used.
    """
    target = settings.get("target")
    asked = {**settings, **({"target": (target,)} if isinstance(target, str) else {})}
    chosen = load_config(_path(config), asked)
    board = device_of(load_inventory(inventory, partial=True), [device] if isinstance(device, str) else device)
    place = runs_root(runs)
    require_place(place)
    with ExitStack() as stack:
        name = see_through(
            chosen,
            board,
            lambda checked: stack.enter_context(create_run(place, checked, board, _path(inventory))),
            listen=listen,
            stopping=stopping,
        ).id
    return Store.open(place, name)


def quantize(
    model: Path | str,
    *,
    data: str | None = None,
    device: str | None = None,
    output: Path | str | None = None,
    artifact: str = "best",
    images: int = 256,
    float_ends: bool = False,
    config: Path | str | None = None,
    inventory: Path | str | None = None,
    runs: RunsRoot | str = RUNS,
    listen: Listener = unheard,
    on_event: Callable[[Mapping[str, object]], None] = lambda _: None,
) -> QuantizedModel:
    """Quantize a float32 ONNX or TFLite classifier to INT8, judge it on the test split, measure it beside its parent.

    Args:
        model: a file, or a run, whose chosen network is taken with the run's own data and device.
        data: digits, cifar10:DIR, …; its training images calibrate. Default: the run's, or what ``config`` says.
        device: default: the run's, or local.
        output: a new folder for the bundle; None: nothing is written.
        artifact: of a run: ``best``, or an artifact's id.
        images: for calibration.
        float_ends: the first and the last layer stay float32.
        config: a run.yaml that says how images are read and normalised.
        listen: hears every stage.
        on_event: hears what the agent says meanwhile, such as who holds the board.

    Raises:
        ModelError: no such file, or none that can be quantized.
        DataError: the data do not fit it.
        ExportError: a runtime does not compute the file as it was meant.
        DeviceError, MeasureError: the device or its runtime failed.
    """
    from deploy.applied import write_applied
    from pipeline.quantization import bundle
    from pipeline.quantization.quantized_model import quantize_model  # torch takes seconds to import
    from pipeline.run.quantization_source import source_of

    listen(Stage("Load the data"))
    source = source_of(
        str(model),
        artifact=artifact,
        data=data,
        config=_path(config),
        inventory=_path(inventory),
        runs=runs_root(runs),
        device=device,
        listen=listen,
    )
    with open_agent(source.device, on_event=on_event) as agent:
        found = quantize_model(
            source.model, source.data, agent, shown=source.shown, images=images, keep_ends_float=float_ends,
            listen=listen,
        )  # fmt: skip
        board = agent.facts
    if output is not None:
        facts = bundle.facts(found, source=source.shown, device=source.device.name, board=board)
        write_applied(bundle.files(found), bundle.format_of(found), facts, Path(output))
    return found


def open_run(run: str = "latest", *, runs: RunsRoot | str = RUNS) -> Store:
    """Open a run for reading, by its id, the beginning of one, or ``latest``.

    Raises:
        RunNotFoundError: there is no such run.
        StoreError: it is damaged.
    """
    return Store.open(runs_root(runs), run)


def pull(
    run: str,
    output: Path | str,
    *,
    artifact: str = "best",
    condition: str = "",
    runs: RunsRoot | str = RUNS,
    inventory: Path | str | None = None,
) -> dict[str, Path]:
    """Write deployable bundles: the model file, manifest.json, labels, a runnable example, README.

    Args:
        output: a folder that is new or empty.
        artifact: ``best``, an artifact's id, or ``pareto``: all that no other beats, a folder each. Of a run of several
            conditions of the data ``best`` is one for each, in folders of their own.
        condition: of the data: only what was made for it; empty: for all.
        inventory: which the device's ``format:`` is taken from where that is a file of your own.

    Returns:
        Artifact's id → its folder.

    Raises:
        RunNotFoundError: there is no such run or artifact.
        OutputError: the folder is not empty or cannot be written.
    """
    from deploy.bundle import write_bundle
    from deploy.verify import verify_bundle
    from pipeline.run.artifact_recipe import bundle_facts, format_of, picked
    from pipeline.run.sample_file import sample_of

    folder = Path(output)
    with Store.open(runs_root(runs), run) as store:
        chosen = picked(store, artifact, condition)
        _require_empty(folder)
        several = artifact == "pareto" or len(chosen) > 1
        folders = {one.id: folder / one.id if several else folder for one in chosen}
        for one in chosen:
            files = {name: store.blob(sha256) for name, sha256 in one.files.items()}
            facts = bundle_facts(store, one, format_of(store, one, _path(inventory)))
            write_bundle(artifact=one, files=files, facts=facts, output=folders[one.id], sample=sample_of(store.path))
            verify_bundle(folders[one.id])
    return folders


def verify(bundle: Path | str, *, keys: Iterable[str] | None = None) -> Verified:
    """Return what is known of a bundle whose files are what was written: signature, and answers to the stored inputs.

    Args:
        keys: names of your own keys, or files of public keys, of which one has to have signed it; None: a signature by
            one of your own is checked, and none is required.

    Raises:
        BundleError: a file is not as it was written, answers otherwise, or the signature is not what it has to be.
    """
    from deploy.verify import verify_by_names

    return verify_by_names(Path(bundle), keys)


def deploy(
    bundle: Path | str,
    *,
    device: str = "local",
    inventory: Path | str | None = None,
    measure: bool = True,
    on_stage: Callable[[str], None] = lambda _: None,
    on_event: Callable[[Mapping[str, object]], None] = lambda _: None,
) -> Pushed:
    """Deploy a bundle on a registered board: verified, tried and measured there, then switched to in one step.

    Args:
        measure: also measure it, in turns with the version that runs.
        on_stage: hears what is being done.
        on_event: hears what the agent says meanwhile, such as who holds the board.

    Raises:
        BundleError: it is not as it was written, or not signed as the board wants it.
        MeasureError: it does not run there, or answers otherwise than the stored answers.
        DeviceError: the board or the way to it failed. Whatever is raised, the version that ran before still runs.
    """
    from pipeline.deployment import boards

    return boards.deploy(
        bundle, device, inventory, measure=measure, on_stage=on_stage, on_event=on_event
    )  # fmt: skip


def deployed(device: str = "local", *, inventory: Path | str | None = None) -> Deployed:
    """Return what runs on a board, what ran before it, and which keys it trusts."""
    from pipeline.deployment import boards

    return boards.deployed(device, inventory)


def roll_back(device: str = "local", *, inventory: Path | str | None = None) -> Switched:
    """Let the version run again that ran on a board before.

    Raises:
        DeviceError: there is none, or the board cannot be reached.
    """
    from pipeline.deployment import boards

    return boards.roll_back(device, inventory)


def pull_formats(
    run: str,
    output: Path | str,
    *,
    formats: Sequence[str] = (),
    precisions: Sequence[str] = (),
    artifact: str = "best",
    condition: str = "",
    runs: RunsRoot | str = RUNS,
    inventory: Path | str | None = None,
    listen: Listener = unheard,
) -> list[PulledFormat]:
    """Write a bundle of a run's network in each format and precision, compared with each other on stored images.

    Args:
        output: a folder that is new or empty; of several bundles each has a folder in it, called ``onnx-int8``.
        formats: of onnx, tflite and tensorrt; none: the run's own.
        precisions: of float32, int8 and fp16; none: the run's own.
        artifact: as of ``pull``, and so ``condition``.
        condition: see above.
        inventory: the one that the run was started with, unless it is named.
        listen: hears every stage.

    Raises:
        RunNotFoundError: there is no such run or artifact.
        ConfigError: there is no such format or precision, or the network cannot be had in it; names what can be.
        UserError: the run's data or code are not what they were.
        ExportError: the network cannot be written so, or a file answers otherwise than the float32 one.
        OutputError: the folder is not empty or cannot be written.
    """
    from pipeline.run.artifact_formats import kinds_of, written_formats  # torch takes seconds to import
    from pipeline.run.artifact_recipe import picked
    from pipeline.run.format_bundles import write_all

    folder = Path(output)
    with Store.open(runs_root(runs), run) as store:
        _require_empty(folder)
        chosen = [(one, kinds_of(store, one, formats, precisions)) for one in picked(store, artifact, condition)]
        several, pulled = artifact == "pareto" or len(chosen) > 1, []
        for one, kinds in chosen:
            own = folder / one.id if several else folder
            found = written_formats(store, one, kinds, inventory=_path(inventory), listen=listen)
            pulled += write_all(store, one, found, own)
    return pulled


def compare(names: Iterable[str], *, runs: RunsRoot | str = RUNS) -> Comparison:
    """Compare finished runs: seeds make groups, groups are tested against each other.

    Raises:
        UserError: a run has no result, or runs cannot be compared.
    """
    from pipeline.comparison.compare import comparison  # scipy takes its time to import
    from pipeline.comparison.run_figures import read

    entries = []
    for name in dict.fromkeys(names):
        with Store.open(runs_root(runs), name) as store:
            entries.append(read(store))
    return comparison(entries, {})


def adapt(
    run: str,
    output: Path | str,
    *,
    floor: float | None = None,
    deadline_ms: float | None = None,
    ladder: int = 4,
    budget_s: float = 1800.0,
    quick: bool = False,
    seed: int = 0,
    inventory: Path | str | None = None,
    runs: RunsRoot | str = RUNS,
    listen: Listener = unheard,
    stopping: Callable[[], bool] = lambda: False,
) -> Adaptation:
    """Make an adaptive bundle of a finished run: several networks, and what chooses among them frame by frame.

    Args:
        run: its id, the beginning of one, or ``latest``.
        output: the bundle's folder, new or empty.
        floor: accuracy on streams that is not to be missed; None: the chosen network's own there.
        deadline_ms: milliseconds that a frame may take.
        ladder: networks at most.
        budget_s: seconds for training and trying out.
        quick: a first look: short training, few frames.
        seed: of streams and of what is learnt.
        listen: hears every stage.
        stopping: asked now and then; true ends it with StoppedError, and what was made is kept.

    Raises:
        RunNotFoundError: there is no such run.
        UserError: the run is of a kind that has no ladder, or a setting cannot be met.
        DeviceError, MeasureError: the device or its runtime failed.
        OutputError: the folder is not empty or cannot be written.
    """
    from deploy.folder import refuse_used
    from pipeline.run import adaptation  # torch takes seconds to import
    from pipeline.run.adaptive_bundle import write_adaptive
    from pipeline.run.reconnecting import reconnected

    folder, known = Path(output), _path(inventory)
    settings = adaptation.AdaptSettings(
        floor=floor, deadline_ms=deadline_ms, most=ladder, budget_s=budget_s, quick=quick, seed=seed
    )
    with Store.open(runs_root(runs), run, write=True) as store:
        refuse_used(folder, "bundle")
        require_writable(folder)
        adaptation.require_adaptable(store)
        with reconnected(store, known, "variants", listen=listen) as ready:
            found = adaptation.adapt(ready, store, settings, listen=listen, stopping=stopping)
        write_adaptive(store, found, folder, known)
    return found


def environment(run: str = "latest", *, discount: float = 1.0, runs: RunsRoot | str = RUNS) -> PruningEnv:
    """Return a run's search as a Gymnasium environment, for an agent of your own; nothing is measured.

    An episode is a plan, a step is the level of one group. Rewards come from the models behind the search, the board's
    cost model and the accuracy model, with all that the run's trials have taught them.

    Args:
        run: its id, the beginning of one, or ``latest``.
        discount: by which the agent discounts: only then is the plan of the highest return the best plan.

    Raises:
        RunNotFoundError: there is no such run.
        UserError: the run ended before its search, an older version made it, or its plans are of single weights.
    """
    from pipeline.run.replanning import learnt_planner  # torch takes seconds to import
    from pipeline.search.gym_env import PruningEnv

    with Store.open(runs_root(runs), run) as store:
        return PruningEnv(learnt_planner(store), discount)


def plan(
    run: str,
    targets: Iterable[str],
    *,
    condition: str | None = None,
    policy: Literal["own", "federated"] = "own",
    runs: RunsRoot | str = RUNS,
) -> Replanned:
    """Return what a run's policy plans for targets that nobody searched for, such as ``latency=0.4x``.

    Nothing is measured: accuracy and costs are as the run's models predict them.

    Args:
        condition: of the data, such as ``fog:3``, of a run that has several.
        policy: the run's own, or that of the federation of sites which it took part in.

    Raises:
        RunNotFoundError: there is no such run.
        UserError: the run ended before its search, had no target in such a metric, has other conditions, or keeps no
            federated policy.
    """
    from pipeline.run.replanning import replan  # torch takes seconds to import

    with Store.open(runs_root(runs), run) as store:
        return replan(store, [parse_target(text) for text in targets], condition, policy)


def load_pruned(bundle: Path | str, model: nn.Module | str | None = None, *, task: str | None = None) -> nn.Module:
    """Return the pruned network of a pulled bundle, in eval mode.

    Args:
        model: a network of the same architecture, whatever its weights, or its name as of ``--model``: ``net.onnx``;
            None: built by the name in the recipe.
        task: ``file.py:TASK`` of a network that was pruned for a task of your own; None: the recipe's, which ships.

    Raises:
        ConfigError: the folder holds no recipe, or its task is not given.
        ModelError: the model is of another architecture.
    """
    from pipeline.models import load_model
    from pipeline.models.safetensors_io import WEIGHTS
    from pipeline.objective.load import load_task
    from pipeline.recipes import apply
    from pipeline.recipes.recipe import read_recipe

    folder = Path(bundle)
    recipe = read_recipe(folder)
    if model is None or isinstance(model, str):
        model = load_model(model or recipe.model, classes=recipe.classes, channels=recipe.input_shape[0], weights=None)
    return apply.load_pruned(model, recipe, folder / WEIGHTS, None if task is None else load_task(task))


def read_model_file(model: Path, device: Device) -> bytes:
    """Return a model file's content.

    Raises:
        ModelError: no such file, none that the device accepts, or a damaged one.
    """
    said = model.suffix.removeprefix(".").lower()
    if said in plugins.names(FORMATS) and said != model_format(device.format).ending:  # else the name is believed
        runs = portable_format(device.format)
        raise ModelError(
            f"{model} is of format {said}, but {device.name} runs {runs} files (runtime {runtimes_in_words(device)}); "
            "name a device whose runtime loads it"
        )
    try:
        data = regular_file.read_bytes(model, regular_file.MODEL_BYTES)
    except OSError as error:
        raise ModelError(f"{model}: {error.strerror}; give the path of a model file") from error
    require_usable(device.format, data, None, shown=str(model))
    return data


def _model_file(model: Path) -> Path:
    """Return the file to be measured; of a bundle's folder, once it is verified, its network."""
    if not regular_file.is_folder(model):
        return model
    from deploy.verify import verify_bundle

    _, manifest = verify_bundle(model, run=False)
    return model / str(manifest["model"]["file"])


def _path(typed: Path | str | None) -> Path | None:
    return None if typed is None else Path(typed)


def _require_empty(output: Path) -> None:
    try:
        used = regular_file.exists(output) and (not regular_file.is_folder(output) or any(output.iterdir()))
    except OSError as error:
        raise OutputError(f"{output} cannot be read: {error.strerror}; name a new folder") from error
    if used:
        raise OutputError(f"{output} is not an empty folder; name a new one, so that nothing of yours is mixed with it")
