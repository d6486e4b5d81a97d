"""Runtimes: what loads a model file and runs it; one a file, found by its file's name.

A plugin has three functions:

installed() -> str or None        its version, without importing anything heavy; None when it cannot be used here
version() -> str                  its version, with everything imported, so that loading is timed without the import
load(path, options, seed) -> Model
                                  options: "threads", "affinity" (set by the caller already), "spinning",
                                  "build_timeout_s", and what the inventory's ``runtime_options`` say; one that the
                                  runtime does not have is a ValueError

and a Model has

inputs                            one (name, shape, dtype) for each input, unknown lengths as 1
batch                             images that one inference takes; None when any number will do
step()                            one inference on an input that was prepared, random from ``seed``
finite() -> bool                  whether one inference gives finite numbers only
about                             what it really runs with, to be recorded: {"precision": "fp16", ...}; may be missing
outputs(values, shape) -> bytes   all outputs for these little-endian float32 values, as such values, image by image;
                                  of a model with several inputs, shape is (images, values of all of them)

A plugin may have names more. The host reads them from the file's text, so they are written out, not computed:

LOADS                             "onnx", "tflite", ...: what its model files are; without it, what ``format:`` says
RUNS_ON                           "GPU", where that is not the processor
INSTALL                           the line of shell that installs it, where that is not ``pip install`` and its name;
                                  what follows a # is for people
ONNX_LIMITS                       {version: (opset, IR)}: the newest ONNX that it loads from that version on; without
                                  it, files are written for the oldest that is known
INT8_OPERATORS                    {version: (kind of ONNX operator, ...)}: what it computes in INT8 from that version
                                  on; without it, pairs are written around all that ONNX Runtime knows today
NOT_ON                            {platform.machine(): what to do}: processors that it cannot be had for
BUILDS                            see below

A runtime that builds engines on the board has BUILDS = True and two functions more, and its ``load`` is given the path
of an engine (see :mod:`device_agents.engines`) rather than the model's:

recipe(options) -> {"workspace_mb": ..., ...}
                                  all that decides what comes of a model; an engine is built once for each
build(model, recipe, workspace_mb) -> (bytes, about)
                                  the engine and what the Model's ``about`` will say; called in a process of its own,
                                  once more with half the workspace when its end speaks of memory

Whatever a runtime raises is taken for its refusal of the model.
"""

import contextlib
from typing import Any, Dict, Iterator, Tuple

from device_agents import plugins
from device_agents.errors import AgentError
from device_agents.protocol import BAD_REQUEST, REFUSED

_CONDITIONS = ("threads", "affinity", "spinning", "build_timeout_s")
"""What every runtime is told beside its own options."""


def open_runtime(name: str) -> Tuple[Any, str]:
    """Return the runtime's module and version, its library imported; BAD_REQUEST when this board cannot use it."""
    runtime = plugins.load("device_agents.runtimes", name)
    if plugins.call("device_agents.runtimes", name, "installed") is None:
        fix = getattr(runtime, "INSTALL", "pip install " + name).lstrip("# ")
        raise AgentError(BAD_REQUEST, "runtime %s is not installed for this python: %s" % (name, fix))
    try:
        return runtime, runtime.version()
    except Exception as error:  # a broken library raises what it likes while it is imported
        raise AgentError(BAD_REQUEST, "runtime %s cannot be used: %s: %s" % (name, type(error).__name__, error))


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turn whatever a runtime raises, and each raises its own kinds, into REFUSED."""
    try:
        yield
    except AgentError:
        raise
    except Exception as error:
        raise AgentError(REFUSED, "%s: %s" % (type(error).__name__, error))


def own(options: Dict[str, Any], defaults: Dict[str, Any]) -> Dict[str, Any]:
    """Return what the inventory says of ``defaults``' options, and the default of each other one.

    Raises:
        ValueError: an unknown option, or one that is not of its default's type; names those that there are.

    >>> own({"threads": 4, "fp16": True}, {"fp16": False, "workspace_mb": 256})
    {'fp16': True, 'workspace_mb': 256}
    """
    chosen = {name: value for name, value in options.items() if name not in _CONDITIONS}
    for name, value in chosen.items():
        if name not in defaults:
            raise ValueError("unknown runtime option %r; known: %s" % (name, ", ".join(sorted(defaults)) or "none"))
        if type(value) is not type(defaults[name]):
            raise ValueError("runtime option %s is %r, expected something like %r" % (name, value, defaults[name]))
    return dict(defaults, **chosen)


def one_of(name: str, value: Any, choices: Dict[str, Any]) -> Any:
    """Return what ``value`` stands for; a ValueError names the choices.

    >>> one_of("level", "high", {"low": 1, "high": 2})
    2
    """
    if value not in choices:
        raise ValueError("runtime option %s is %r, expected one of %s" % (name, value, ", ".join(sorted(choices))))
    return choices[value]
