"""From a network to a TFLite file by LiteRT's converter: slow, right, and in a process of its own."""

from __future__ import annotations

import copy
import logging
import re
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, fx

from pipeline.errors import ConverterError, ExportError, first_line
from pipeline.export.onnx.adaptive_pooling import AdaptivePooling
from pipeline.export.onnx.fault_localization import using
from pipeline.export.tflite.environment import VARIABLE

TIMEOUT_S = 1800.0
"""The largest of torchvision's networks takes two minutes on two cores."""

log = logging.getLogger(__name__)

_SCRIPT = Path(__file__).with_name("converter_script.py")


def convert(python: Path, network: fx.GraphModule, example: Tensor) -> bytes:
    """Return ``network`` as a TFLite file for batches of one image, as the converter writes it.

    Args:
        python: of the converter's environment.
        example: images, (N, C, H, W); only the shape matters.

    Raises:
        ExportError: the network cannot be converted; names the operator where the converter does.
        ConverterError: the converter itself does not run.
    """
    with tempfile.TemporaryDirectory(prefix="pipeline-convert-") as folder:
        program, model = Path(folder) / "network.pt2", Path(folder) / "network.tflite"
        _hand_over(network, example[:1], program)
        try:
            _run([str(python), str(_SCRIPT), str(program), str(model)])
        except ExportError as error:
            raise ExportError(f"{error}{_layer(network, example, str(error))}") from error
        return model.read_bytes()


def _layer(network: fx.GraphModule, example: Tensor, said: str) -> str:
    """Return which layer uses the operator that cannot be written, as the end of the sentence that says so."""
    named = re.search(r"operator '\w+\.(\w+)|torch\.(complex\w+)", said)
    found = using(network, example[:1], named.group(1) or named.group(2)) if named else None
    return f"; {found} uses it: express it by others" if found else ""


def _hand_over(network: fx.GraphModule, image: Tensor, path: Path) -> None:
    # A copy, in plain memory order: strides would go into the program.
    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.export's own deprecations
            with AdaptivePooling(products=False):  # a rewritten file knows no constants but weights
                program = torch.export.export(plain, (image.contiguous(),))
            torch.export.save(program, path)
    except Exception as error:  # torch.export raises whatever a graph's operator raises
        raise ExportError(f"torch.export cannot hand the network to the converter: {first_line(error)}") from error


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"the TFLite converter took longer than {TIMEOUT_S:g} s and was stopped") from error
    except OSError as error:
        raise ConverterError(f"the TFLite converter cannot be started: {error}; unset {VARIABLE}") from error
    if done.returncode == 0:
        return
    log.debug("the converter said: %s", done.stderr)
    if missing := re.search(r"^ModuleNotFoundError: (.*)", done.stderr, re.MULTILINE):
        raise ConverterError(f"{command[0]} has no litert-torch: {missing.group(1)}; unset {VARIABLE} to have one made")
    raise ExportError(f"the network cannot be converted to TFLite: {reason(done.stderr, done.returncode)}")


def reason(said: str, code: int) -> str:
    r"""Return what a failed conversion says went wrong, with the operator's name where it gives one.

    >>> reason("loc: error: failed to legalize operation 'stablehlo.fft' that was explicitly marked illegal", 1)
    "operator 'stablehlo.fft' cannot be written"
    >>> reason("Traceback\nRuntimeError: Lowering not found: aten.frexp.Tensor\n", 1)
    "operator 'aten.frexp.Tensor' cannot be written"
    >>> reason("", -9)
    'the converter was killed by signal 9 (out of memory?)'
    """
    if code < 0:
        return f"the converter was killed by signal {-code} (out of memory?)"
    named = re.search(r"failed to legalize operation '([\w.]+)'|[Ll]owering not found: ([\w.]+)", said)
    if named:
        return f"operator {named.group(1) or named.group(2)!r} cannot be written"
    lines = [line for line in said.splitlines() if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (lines or said.strip().splitlines() or ["it said nothing"])[-1]
