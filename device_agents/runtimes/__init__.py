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
outputs(values, shape) -> bytes   the first output for these little-endian float32 values, as such values

A runtime that pip cannot install says in INSTALL where it comes from.

A runtime that builds engines on the board has BUILDS = True and two functions more, and its ``load`` is given the path
of an engine (see :mod:`device_agents.engines`) rather than the model's:

recipe(options) -> {"workspace_mb": ..., ...}
                                  all that decides what comes of a model; an engine is built once for each
build(model, recipe, workspace_mb) -> (bytes, about)
                                  the engine and what the Model's ``about`` will say; called in a process of its own,
                                  once more with half the workspace when its end speaks of memory

Whatever a runtime raises is taken for its refusal of the model.
"""
