"""Strategy plugin: what a strategy's file declares beside ``create``, and a run's settings held against it."""

from __future__ import annotations

from types import ModuleType

from pydantic import BaseModel, ValidationError

from pipeline import plugins, serialization, setting_keys
from pipeline.config import RunConfig
from pipeline.errors import ConfigError, first_line, nearest
from pipeline.import_path import said

STRATEGIES = "pipeline.search.strategies"
OPTIONS = "strategy_options"


def strategy_of(config: RunConfig) -> ModuleType:
    """Return the strategy's file.

    Raises:
        ConfigError: there is no such strategy, or it has not got the mode or the target that the run asks for.
    """
    name, strategy = config.strategy, plugins.load(STRATEGIES, config.strategy)
    if config.mode not in getattr(strategy, "MODES", (RunConfig.model_fields["mode"].default,)):
        raise ConfigError(
            f"strategy {name} has no mode {config.mode}; leave mode out, or name a strategy that has it, such as dqn"
        )
    if config.sets_zeros and not getattr(strategy, "SETS_ZEROS", False):
        raise ConfigError(
            f"target {' '.join(config.target)} asks for single weights that are zero, strategy {name} cuts channels; "
            "add strategy purl, or give a target that channels reach: latency=0.5x, size=0.5x"
        )
    return strategy


def strategy_settings(config: RunConfig) -> BaseModel | None:
    """Return what ``strategy_options`` say, as the strategy's own ``Settings``; None: it has none.

    Raises:
        ConfigError: an unknown setting or an unfit value; names those that the strategy has.
    """
    name, options = config.strategy, dict(config.strategy_options)
    kind = settings_class(name)
    if kind is None:
        if options:
            raise ConfigError(f"{OPTIONS}: strategy {name} has no settings, found {', '.join(options)}; leave them out")
        return None
    known = setting_keys.known_keys(kind, ())
    options = setting_keys.with_current_names(kind, options)
    there = f"strategy {name} has: {', '.join(known) or 'none'}"
    if unknown := next((key for key in options if key not in known), None):
        current = setting_keys.current_name(kind, unknown)
        if current != unknown:
            problem = f"is the old name of {current}, which is given too; leave {unknown} out"
        else:
            problem = f"no such setting{nearest(unknown, known)}; {there}"
        raise ConfigError(f"{OPTIONS}.{unknown}: {problem}")
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        raise ConfigError(f"{OPTIONS}{_in_words(error)}; {there}") from error
    except Exception as error:  # a validator of the user's may raise anything
        raise ConfigError(f"{OPTIONS}: strategy {name} refuses them: {said(error)}; {there}") from error


def with_every_option(config: RunConfig) -> RunConfig:
    """Return the settings with every one of the strategy's own, as they are stored: its defaults may change.

    Raises:
        ConfigError: as ``strategy_settings``; or one of them cannot be stored.
    """
    settings = strategy_settings(config)
    if settings is None:
        return config
    _say_old_keys(type(settings), config)
    try:
        options = settings.model_dump(mode="json", by_alias=True)
        serialization.to_text(options)
    except ValueError as error:
        raise ConfigError(
            f"{OPTIONS}: settings of strategy {config.strategy} cannot be stored as JSON: {first_line(error)}; give "
            "them numbers, text, lists or mappings"
        ) from error
    return config.model_copy(update={OPTIONS: options})


def settings_class(strategy: str) -> type[BaseModel] | None:
    """Return a strategy's ``Settings``; None: it has none.

    Raises:
        ConfigError: there is no such strategy, or its ``Settings`` is no pydantic model.
    """
    kind: object = getattr(plugins.load(STRATEGIES, strategy), "Settings", None)
    if kind is None or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return kind
    raise ConfigError(f"strategy {strategy}: its Settings is no pydantic.BaseModel; see docs/extending/strategy.md")


def _say_old_keys(kind: type[BaseModel], config: RunConfig) -> None:
    for where in setting_keys.old_keys(kind, config.strategy_options):
        old, new = ((OPTIONS, *place) for place in (where, setting_keys.current_where(kind, where)))
        setting_keys.say_renamed(f"strategy {config.strategy}", old, new)


def _in_words(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = "".join(f".{step}" for step in first["loc"])
    if first["type"] == "missing":
        return f"{where}: is missing"
    problem = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
    return f"{where}: {problem}" if first["type"] == "value_error" else f"{where}: {problem}, found {first['input']!r}"
