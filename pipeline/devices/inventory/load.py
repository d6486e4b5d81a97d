"""The inventory: which boards there are, each resolved into one ``Device``.

Layers, the nearest wins: the kind's profile, ``defaults``, the groups in the order in which they stand, the device.

A mistake in one device's entry, or in what only that one needs (its kind, its way in OpenSSH's config), puts this
device out of use and no other one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import platformdirs

from pipeline import plugins, yaml_files
from pipeline.devices import agent_plugins
from pipeline.devices.inventory import ssh_config
from pipeline.devices.inventory.schema import InventoryFile, Profile
from pipeline.errors import InventoryError, nearest
from pipeline.export.format_plugin import FORMATS
from pipeline.records import DEFAULT_RUNTIME, Device, LockSettings, MeasureSettings, PowerSettings
from pipeline.regular_file import exists, home_expanded, is_folder
from pipeline.setting_keys import Where
from pipeline.yaml_files import Document

FILE_NAME = "inventory.yaml"

POWER_MEASURE: dict[str, float] = {"block_s": 2.0, "min_s": 10.0, "max_s": 60.0, "idle_s": 6.0, "timeout_s": 300.0}
"""How long to measure where a sensor is named, unless somebody says otherwise.

Power samples of one board are autocorrelated (lag-1 correlation about 0.9 on a Jetson Nano's 100 Hz trace),
so only windows of two seconds and more are near enough to independent; MLPerf Tiny asks for runs of 10 s.
"""

GROUP = "group:"
"""Begins a name that means all devices of a group."""
_SECRETS = ("password", "passwd", "passphrase", "secret", "token")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Inventory:
    """The registered devices; ``path`` is None where no file was found, and then there is just ``local``."""

    devices: Mapping[str, Device]
    path: Path | None = None
    unusable: Mapping[str, str] = field(default_factory=dict)
    """Registered devices that are out of use, each with the mistake and its line."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the devices of each group."""

    def selected(self, name: str) -> list[Device]:
        """Return the devices that ``name`` means: of ``group:NAME`` all, else the one of that name.

        Raises:
            InventoryError: as ``device``; or there is no such group, or nobody in it.
        """
        if not is_group(name):
            return [self.device(name)]
        group = name.removeprefix(GROUP)
        if group not in self.groups:
            there = f"the groups are: {', '.join(self.groups)}" if self.groups else "there are no groups"
            raise InventoryError(
                f"no group {group!r}{nearest(group, self.groups)}; {there}; one is written as groups: {{{group}: "
                f"{{devices: [NAME, NAME]}}}} in {self.path or FILE_NAME}"
            )
        if not self.groups[group]:
            raise InventoryError(f"group {group!r} has no devices; name some in {self.path}")
        return [self.device(member) for member in self.groups[group]]

    def device(self, name: str) -> Device:
        """Return the device ``name``.

        Raises:
            InventoryError: it is out of use; or there is none: names the nearest, the file, and how to register.
        """
        if name in self.devices:
            return self.devices[name]
        if name in self.unusable:
            raise InventoryError(self.unusable[name])
        known = [*self.devices, *self.unusable]
        there = f"{self.path} has: {', '.join(known)}" if self.path else f"there is no {FILE_NAME}, only: local"
        fix = f"add it under `devices:` in {self.path}" if self.path else "write one with `pipeline init`"
        raise InventoryError(f"no device {name!r}{nearest(name, known)}; {there}; {fix}")


def is_group(name: str) -> bool:
    """Return whether a name means all devices of a group.

    >>> is_group("group:lab"), is_group("pi4")
    (True, False)
    """
    return name.startswith(GROUP)


def load_inventory(path: Path | str | None = None, *, partial: bool = False) -> Inventory:
    """Read the inventory: ``path``, else ./inventory.yaml, else the user's own, else just the device ``local``.

    Args:
        partial: whether an inventory is of use in which every registered device is out of use.

    Raises:
        InventoryError: the file is missing; what concerns all devices in it, or without ``partial`` every single one,
            cannot be used; says the line and the nearest known key.
    """
    named = None if path is None else Path(path)
    if named is not None and not exists(named):
        raise InventoryError(f"no such inventory: {named}; `pipeline init` writes one to start from")
    found = named or next((p for p in _usual_places() if p.exists()), None)
    if found is None:
        return Inventory({"local": _Builder(InventoryFile(), Path.cwd()).device("local")})
    whole = yaml_files.read(found, InventoryError)
    yaml_files.say_old_keys(whole, InventoryFile)
    document, unusable = _usable(whole)
    _refuse_secrets((where for where in document.lines if where[:1] != ("devices",)), document)
    builder = _Builder(yaml_files.validate(document, InventoryFile), found.parent, document, unusable)
    devices: dict[str, Device] = {}
    for name in builder.names():
        try:
            devices[name] = builder.device(name)
        except InventoryError as e:
            unusable[name] = str(e)
    if unusable and not partial and not builder.written() & devices.keys():
        raise InventoryError(next(iter(unusable.values())))
    return Inventory(devices, found, unusable, builder.groups())


def kinds(beside: Path | None = None) -> dict[str, Path | Traversable]:
    """Return the kinds of board there are, each with its profile's file.

    A folder ``profiles`` beside the inventory adds kinds, or replaces those that are shipped.
    """
    folders: list[Path | Traversable] = [resources.files("profiles")]
    if beside and (beside / "profiles").is_dir():
        folders.append(beside / "profiles")
    files = [f for folder in folders for f in folder.iterdir() if f.name.endswith(".yaml")]
    return dict(sorted((f.name.removesuffix(".yaml"), f) for f in files))


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``above`` over ``below``: mappings are joined, anything else is replaced.

    A sensor's options belong to that sensor: another ``backend`` starts without them.

    >>> merge({"ssh": {"user": "pi", "port": 22}}, {"ssh": {"port": 2222}})
    {'ssh': {'user': 'pi', 'port': 2222}}
    >>> merge({"backend": "tegrastats", "rail": "POM_5V_IN"}, {"backend": "null"})
    {'backend': 'null'}
    """
    if above.get("backend", below.get("backend")) != below.get("backend"):
        return dict(above)
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _usual_places() -> Iterator[Path]:
    yield Path(FILE_NAME)
    yield Path(platformdirs.user_config_dir("pipeline")) / FILE_NAME


def _usable(document: Document) -> tuple[Document, dict[str, str]]:
    """Return the document less the devices whose entries cannot be read, and those, each with its mistake."""
    entries = document.data.get("devices")
    if not isinstance(entries, dict):
        return document, {}
    unusable: dict[str, str] = {}
    for name, entry in entries.items():
        alone = replace(document, data={"devices": {name: entry}})
        try:
            _refuse_secrets((where for where in document.lines if where[:2] == ("devices", name)), document)
            yaml_files.validate(alone, InventoryFile)
        except InventoryError as e:
            unusable[str(name)] = str(e)
    kept = {name: entry for name, entry in entries.items() if str(name) not in unusable}
    return replace(document, data={**document.data, "devices": kept}), unusable


def _refuse_secrets(places: Iterable[Where], document: Document) -> None:
    """An inventory is shared and committed; what logs in belongs into a key file or an agent."""
    for where in places:
        if where and str(where[-1]).lower() in _SECRETS:
            raise document.mistake(where, "no secrets in an inventory; use an SSH key (`ssh-copy-id USER@HOST`)")


class _Builder:
    """Builds devices from one inventory file, pointing at the line where something does not fit."""

    def __init__(
        self, file: InventoryFile, folder: Path, document: Document | None = None, unusable: Iterable[str] = ()
    ) -> None:
        self._file = file
        self._unusable = list(unusable)
        self._document = document
        self._folder = folder
        self._kinds = kinds(folder)
        self._profiles: dict[str, Profile] = {}
        own = folder / agent_plugins.FOLDER
        self._plugins = str(own) if document is not None and is_folder(own) else None
        self._known = {kind: agent_plugins.names(kind, self._plugins) for kind in agent_plugins.KINDS}
        self._check_groups()

    def names(self) -> list[str]:
        """Return the devices to resolve in the file's order; ``local`` is always there."""
        written = [*self._file.devices, *self._unusable]
        return list(self._file.devices) if "local" in written else ["local", *self._file.devices]

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Return the devices of each group."""
        return {name: tuple(group.devices) for name, group in self._file.groups.items()}

    def written(self) -> set[str]:
        """Return the devices that the file itself has."""
        return {*self._file.devices, *self._unusable}

    def device(self, name: str) -> Device:
        """Resolve one device."""
        if not _NAME.fullmatch(name):
            raise self._mistake(name, "a device's name holds letters, digits, '.', '_' and '-' only")
        entry = self._file.devices.get(name)
        kind = entry.kind if entry and "kind" in entry.model_fields_set else "local" if name == "local" else "linux"
        if kind not in self._kinds:
            raise self._mistake(
                name, f"unknown kind{nearest(kind, self._kinds)}; known: {', '.join(self._kinds)}", "kind"
            )
        profile = self._profile(kind)
        if profile.session != "ssh" and entry and entry.host:
            raise self._mistake(name, f"kind {kind} runs on this machine and takes no host; use kind: linux", "host")
        groups = {g: v for g, v in self._file.groups.items() if name in v.devices}
        layers = [profile, self._file.defaults, *groups.values(), *([entry] if entry else [])]
        settings: dict[str, Any] = {}
        for layer in layers:
            settings = merge(settings, layer.model_dump(exclude_unset=True))
        settings["tags"] = [*settings.get("tags", []), *(g for g in groups if g not in settings.get("tags", []))]
        return self._record(name, kind, profile, settings)

    def _profile(self, kind: str) -> Profile:
        if kind not in self._profiles:
            document = yaml_files.read(self._kinds[kind], InventoryError)
            yaml_files.say_old_keys(document, Profile)
            self._profiles[kind] = yaml_files.validate(document, Profile)
        return self._profiles[kind]

    def _record(self, name: str, kind: str, profile: Profile, settings: Mapping[str, Any]) -> Device:
        power = _power(settings.get("power", {}))
        if power.backend != "auto":
            self._require_plugin(name, "power", power.backend, "power")
        agent = settings.get("agent", {})
        pins = settings.get("onnx", {})
        runtimes = _runtimes(settings)
        plain = ("runtime_options", "channel_step", "max_upload_mb")
        return Device(
            name=name,
            kind=kind,
            ssh=self._address(name, settings) if profile.session == "ssh" else None,
            power=power,
            measure=self._measure(name, power, settings.get("measure", {})),
            onnx_max_opset=pins.get("max_opset"),
            onnx_max_ir=pins.get("max_ir"),
            runtime=runtimes[-1],
            runtimes=tuple(runtimes) if len(runtimes) > 1 else (),
            format=self._format(name, settings),
            modes={k: v for k, v in settings.get("modes", {}).items() if v is not None},
            lock=LockSettings(**settings.get("lock", {})),
            recording=self._recording(name, profile, settings),
            tags=tuple(settings["tags"]),
            user_groups=tuple(profile.user_groups),
            fixes=dict(profile.fixes),
            plugins=self._plugins,
            **{f"deploy_{key}": value for key, value in settings.get("deploy", {}).items()},
            **{f"agent_{k}" if k == "dir" else k: v for k, v in agent.items()},
            **{k: settings[k] for k in plain if k in settings},
        )

    def _format(self, name: str, settings: Mapping[str, Any]) -> str:
        """Return the format: a file of the user's own, else what the runtime loads, else what is written, else ONNX."""
        runtimes, written = _runtimes(settings), settings.get("format")
        for runtime in runtimes:
            self._require_plugin(name, "runtimes", runtime, "runtime")
        if written is not None and plugins.is_file(written):
            return str(self._folder / home_expanded(written))
        all_load = {runtime: agent_plugins.runtime_named(runtime, self._plugins).loads for runtime in runtimes}
        if len(set(all_load.values())) > 1:
            found = ", ".join(f"{runtime} loads {loads or 'any'}" for runtime, loads in all_load.items())
            raise self._mistake(name, f"runtimes to choose from have to load one format; {found}", "runtime")
        runtime, loads = next(iter(all_load.items()))
        if loads is not None and written not in (None, loads):
            raise self._mistake(
                name, f"runtime {runtime} loads {loads} files, not {written}; leave format out", "format"
            )
        known = plugins.names(FORMATS)
        if written is not None and written.replace("-", "_") not in known:
            there = f"known: {', '.join(known)}; or name a .py file"
            raise self._mistake(name, f"there is no format {written!r}{nearest(written, known)}; {there}", "format")
        return loads or written or "onnx"

    def _require_plugin(self, name: str, kind: agent_plugins.Kind, wanted: str, key: str) -> None:
        """Refuse a sensor or a runtime that the agent does not have."""
        known, thing = self._known[kind], {"power": "sensor", "runtimes": "runtime"}[kind]
        if wanted not in known:
            own = f"one of your own is a file {self._folder / agent_plugins.FOLDER / kind / wanted}.py"
            problem = f"there is no {thing} {wanted!r}{nearest(wanted, known)}; known: {', '.join(known)}; {own}"
            raise self._mistake(name, problem, key)

    def _recording(self, name: str, profile: Profile, settings: Mapping[str, Any]) -> str | None:
        """Return the recording's path, seen from the inventory's folder."""
        written = settings.get("recording")
        if (profile.session == "replay") != (written is not None):
            wanted = "needs `recording: FILE`" if written is None else "takes no recording; use kind: replay"
            raise self._mistake(name, f"this kind {wanted}", "recording")
        return written and str(self._folder / home_expanded(written))

    def _address(self, name: str, settings: Mapping[str, Any]) -> Any:
        ssh = settings.get("ssh", {})
        host = settings.get("host")
        try:
            if host is None and not ssh_config.known_to_ssh(name, ssh.get("config")):
                raise InventoryError("has no `host:`; write its address, or name the device as ~/.ssh/config does")
            return ssh_config.resolve(host or name, ssh)
        except InventoryError as e:
            raise self._mistake(name, str(e)) from e

    def _measure(self, name: str, power: PowerSettings, written: Mapping[str, Any]) -> MeasureSettings:
        sensor = power.backend not in ("null", "auto")
        values: dict[str, Any] = asdict(MeasureSettings()) | (POWER_MEASURE if sensor else {}) | dict(written)
        if sensor and values["block_s"] < POWER_MEASURE["block_s"]:
            raise self._mistake(
                name, f"with a power sensor block_s is at least {POWER_MEASURE['block_s']:g} s,"
                f" found {values['block_s']:g}; shorter blocks are not independent", "measure", "block_s",
            )  # fmt: skip
        if not values["block_s"] <= values["min_s"] <= values["max_s"]:
            raise self._mistake(
                name, "expected block_s <= min_s <= max_s,"
                f" found {values['block_s']:g}, {values['min_s']:g} and {values['max_s']:g} s", "measure",
            )  # fmt: skip
        cores = values["affinity"]
        return MeasureSettings(**{**values, "affinity": None if cores is None else tuple(cores)})

    def _check_groups(self) -> None:
        for group, content in self._file.groups.items():
            for position, name in enumerate(content.devices):
                known = [*self.names(), *self._unusable]
                if name not in known:
                    problem = f"{name!r} is not a device{nearest(name, known)}"
                    raise self._mistake_at(("groups", group, "devices", position), problem)

    def _mistake(self, name: str, problem: str, *where: str) -> Exception:
        return self._mistake_at(("devices", name, *where), problem)

    def _mistake_at(self, where: Where, problem: str) -> Exception:
        return self._document.mistake(where, problem) if self._document else InventoryError(problem)


def _runtimes(settings: Mapping[str, Any]) -> list[str]:
    """Return the runtimes to choose from; one, where it is named."""
    written = settings.get("runtime", DEFAULT_RUNTIME)
    return list(dict.fromkeys(written)) if isinstance(written, list) else [written]


def _power(settings: Mapping[str, Any]) -> PowerSettings:
    own = {k: v for k, v in settings.items() if k not in ("backend", "options")}
    return PowerSettings(backend=settings.get("backend", "null"), options=own | settings.get("options", {}))
