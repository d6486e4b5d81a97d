"""The inventory: layers, defaults, and errors that say where and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.devices.inventory.load import Inventory, kinds, load_inventory
from pipeline.errors import InventoryError


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No inventory, no ssh config of whoever runs the tests."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return home


def written(text: str) -> Inventory:
    Path("inventory.yaml").write_text(text)
    return load_inventory()


def complaint(text: str) -> str:
    with pytest.raises(InventoryError) as e:
        written(text)
    assert "\n" not in str(e.value)
    return str(e.value)


def test_without_any_file_there_is_the_device_local() -> None:
    inventory = load_inventory(None)
    assert list(inventory.devices) == ["local"]
    assert inventory.path is None
    assert inventory.device("local").ssh is None
    assert inventory.device("local").power.backend == "auto"


def test_the_file_here_beats_the_one_in_the_users_configuration_folder(empty_home: Path) -> None:
    folder = empty_home / ".config" / "pipeline"
    folder.mkdir(parents=True)
    (folder / "inventory.yaml").write_text("devices: {mine: {host: a}}")
    assert load_inventory().path == folder / "inventory.yaml"
    assert "here" in written("devices: {here: {host: b}}").devices


def test_local_is_there_beside_the_registered_ones_and_can_be_overridden() -> None:
    assert list(written("devices: {pi: {host: a}}").devices) == ["local", "pi"]
    assert written("devices: {local: {measure: {threads: 2}}}").device("local").measure.threads == 2


def test_the_nearest_layer_wins_and_mappings_are_joined() -> None:
    inventory = written("""
defaults: {ssh: {user: everybody, port: 1}, measure: {threads: 1, ci_rel: 0.5}}
groups:
  lab: {devices: [pi, nano], ssh: {port: 2}, measure: {threads: 2}}
  late: {devices: [pi], ssh: {port: 3}}
devices:
  pi: {kind: raspberry-pi-4, host: 10.0.0.1, measure: {threads: 4}}
  nano: {kind: jetson-nano, host: 10.0.0.2}
""")
    pi, nano = inventory.device("pi"), inventory.device("nano")
    assert pi.ssh is not None
    assert nano.ssh is not None
    assert (pi.ssh.user, pi.ssh.port, nano.ssh.port) == ("everybody", 3, 2)
    assert (pi.measure.threads, pi.measure.ci_rel, nano.measure.threads) == (4, 0.5, 2)
    assert (pi.tags, nano.tags) == (("lab", "late"), ("lab",))


def test_a_group_can_be_a_plain_list_of_devices() -> None:
    assert written("groups: {lab: [pi]}\ndevices: {pi: {host: a, tags: [x]}}").device("pi").tags == ("x", "lab")


def test_a_group_that_names_an_unknown_device_is_refused_with_its_line() -> None:
    message = complaint("devices: {pi4: {host: a}}\ngroups:\n  lab:\n    devices: [pi5]\n")
    assert message == "inventory.yaml:4: groups.lab.devices.0: 'pi5' is not a device (did you mean 'pi4'?)"


def test_every_kind_that_ships_gives_a_device_and_says_what_it_is() -> None:
    assert {"raspberry-pi-4", "jetson-nano", "linux", "local"} <= set(kinds())
    for kind in kinds():
        host = {"local": "", "replay": "recording: r.gz"}.get(kind, "host: h")
        device = written(f"devices:\n  d:\n    kind: {kind}\n    {host}").device("d")
        assert (device.ssh is None) == (kind in ("local", "replay"))


def test_a_jetson_nano_knows_its_limits_and_its_sensor() -> None:
    nano = written("devices: {n: {kind: jetson-nano, host: h}}").device("n")
    assert (nano.onnx_max_opset, nano.onnx_max_ir, nano.channel_step) == (13, 8, 8)
    assert nano.power.backend == "tegrastats"
    assert nano.power.options == {"rail": "POM_5V_IN", "interval_ms": 20}
    assert "onnxruntime==1.10.0" in nano.fixes["runtime"]


def test_a_jetson_nano_runs_on_its_gpu_where_it_can_and_a_written_runtime_wins() -> None:
    nano = written("devices: {n: {kind: jetson-nano, host: h}}").device("n")
    assert (nano.runtimes, nano.runtime, nano.format) == (("tensorrt", "onnxruntime"), "onnxruntime", "onnx")
    for runtime in ("onnxruntime", "tensorrt", "[tensorrt]"):
        named = written(f"devices: {{n: {{kind: jetson-nano, host: h, runtime: {runtime}}}}}").device("n")
        assert (named.runtimes, named.runtime) == ((), runtime.strip("[]"))


def test_runtimes_to_choose_from_are_known_and_load_one_format() -> None:
    message = complaint("devices:\n  p:\n    host: h\n    runtime: [tflite, onnxruntime]\n")
    assert message.startswith("inventory.yaml:4: devices.p.runtime: runtimes to choose from have to load one format")
    assert "there is no runtime 'tensort' (did you mean 'tensorrt'?)" in complaint(
        "devices: {p: {host: h, runtime: [tensort, onnxruntime]}}"
    )


def test_a_board_without_a_sensor_is_usable_and_measures_in_short_blocks() -> None:
    pi = written("devices: {p: {kind: raspberry-pi-4, host: h}}").device("p")
    assert (pi.power.backend, pi.measure.block_s) == ("null", 0.025)
    assert pi.user_groups == ("video",)


def test_a_named_sensor_makes_blocks_long_enough_to_be_independent() -> None:
    pi = written("devices: {p: {kind: raspberry-pi-4, host: h, power: ina219}}").device("p")
    assert (pi.measure.block_s, pi.measure.min_s, pi.measure.max_s) == (2.0, 10.0, 60.0)
    message = complaint("devices:\n  p:\n    host: h\n    power: ina219\n    measure: {block_s: 0.5}")
    assert message.startswith("inventory.yaml:5: devices.p.measure.block_s: with a power sensor")


def test_another_sensor_starts_without_the_options_of_the_one_below() -> None:
    nano = written("devices: {n: {kind: jetson-nano, host: h, power: {backend: ina219, address: 0x41}}}").device("n")
    assert nano.power.options == {"address": 0x41}


@pytest.mark.parametrize("off", ["null", "{backend: null}", '"null"'])
def test_power_is_switched_off_however_null_is_spelled(off: str) -> None:
    nano = written(f"devices: {{n: {{kind: jetson-nano, host: h, power: {off}}}}}").device("n")
    assert (nano.power.backend, nano.power.options) == ("null", {})


@pytest.mark.parametrize("address", ["0x40", '"0x40"', "64"])
def test_an_i2c_address_is_read_however_it_is_spelled(address: str) -> None:
    device = written(f"devices: {{p: {{host: h, power: {{backend: ina219, address: {address}}}}}}}").device("p")
    assert device.power.options["address"] == 0x40


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A sensor and a runtime of one's own, ``mine``, beside the inventory."""
    for kind in ("power", "runtimes"):
        (tmp_path / "plugins" / kind).mkdir(parents=True)
    (tmp_path / "plugins/power/mine.py").write_text("def check(options): ...\ndef open(options): ...\n")
    text = "LOADS = 'tflite'\ndef installed(): ...\ndef version(): ...\ndef load(path, options, seed): ...\n"
    (tmp_path / "plugins/runtimes/mine.py").write_text(text)
    return tmp_path / "plugins"


def test_candidates_are_written_as_the_file_of_the_runtime_says(own: Path) -> None:
    assert written("devices: {p: {host: h, runtime: mine}}").device("p").format == "tflite"
    assert written("devices: {p: {host: h, runtime: tflite}}").device("p").format == "tflite"
    message = complaint("devices:\n  p:\n    host: h\n    runtime: mine\n    format: onnx")
    assert message.endswith(":5: devices.p.format: runtime mine loads tflite files, not onnx; leave format out")


def test_a_runtime_that_does_not_say_what_it_loads_gets_what_the_inventory_says(own: Path) -> None:
    (own / "runtimes/mine.py").write_text("def installed(): ...\ndef version(): ...\ndef load(*_): ...\n")
    formats = [
        written(f"devices: {{p: {{host: h, runtime: mine{more}}}}}").device("p").format
        for more in ("", ", format: tflite")
    ]
    assert formats == ["onnx", "tflite"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            "runtime: onnxruntme",
            "2: devices.p.runtime: there is no runtime 'onnxruntme' (did you mean 'onnxruntime'?); known: ",
        ),
        (
            "power: ina291",
            "2: devices.p.power: there is no sensor 'ina291' (did you mean 'ina219'?); known: ",
        ),
        ("runtime: fast", "one of your own is a file plugins/runtimes/fast.py"),
        ("power: {backend: my-meter}", "one of your own is a file plugins/power/my-meter.py"),
    ],
)
def test_a_sensor_or_runtime_that_no_agent_has_is_refused_with_the_nearest(entry: str, said: str) -> None:
    assert said in complaint(f"devices:\n  p: {{host: h, {entry}}}\n")


def test_without_an_inventory_no_code_of_the_folder_is_packed(own: Path) -> None:
    (own / "power/broken.py").write_text("def check(:\n")
    assert load_inventory(None).device("local").plugins is None
    assert complaint("devices: {p: {host: h}}").startswith("plugins/power/broken.py:1: not Python: ")


def test_a_sensor_of_your_own_gets_its_options_unchecked(own: Path) -> None:
    device = written("devices: {p: {host: h, power: {backend: mine, options: {pin: 4}}}}").device("p")
    assert device.power.options == {"pin": 4}


def test_a_profile_beside_the_inventory_adds_a_kind(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "my-board.yaml").write_text("summary: mine\nchannel_step: 32\n")
    assert written("devices: {d: {kind: my-board, host: h}}").device("d").channel_step == 32


def test_an_explicit_null_resets_what_a_layer_below_set() -> None:
    pi = written("devices: {p: {kind: raspberry-pi-4, host: h, channel_step: null}}").device("p")
    assert pi.channel_step is None


# ------------------------------------------------------------ OpenSSH's config


def test_openssh_config_fills_in_what_the_inventory_leaves_open(empty_home: Path) -> None:
    (empty_home / ".ssh" / "config").write_text(
        "Host nano\n HostName 10.1.2.3\n Port 2200\n User jet\n IdentityFile ~/.ssh/nano\n"
        " ProxyJump ops@gate:2022\n UserKnownHostsFile ~/.ssh/lab_hosts\nHost gate\n HostName 9.9.9.9\n User unused\n"
    )
    ssh = written("devices: {nano: {}, n2: {host: nano, ssh: {port: 1, user: me}}}").device("nano").ssh
    assert ssh is not None
    assert ssh.jump is not None
    assert (ssh.host, ssh.port, ssh.user) == ("10.1.2.3", 2200, "jet")
    assert ssh.identity_file == str(empty_home / ".ssh" / "nano")
    assert ssh.more_known_hosts == (str(empty_home / ".ssh" / "lab_hosts"),)
    assert (ssh.jump.host, ssh.jump.port, ssh.jump.user) == ("9.9.9.9", 2022, "ops")
    n2 = load_inventory().device("n2").ssh
    assert n2 is not None
    assert (n2.host, n2.port, n2.user) == ("10.1.2.3", 1, "me")


def test_a_chain_of_jump_hosts_is_followed_from_the_first() -> None:
    ssh = written("devices: {d: {host: c, ssh: {jump: 'u@a, b:23'}}}").device("d").ssh
    assert ssh is not None
    assert ssh.jump is not None
    assert ssh.jump.jump is not None
    assert [ssh.host, ssh.jump.host, ssh.jump.port, ssh.jump.jump.host] == ["c", "b", 23, "a"]
    assert ssh.jump.jump.jump is None


def test_a_proxyjump_for_every_host_does_not_send_the_jump_host_through_itself(empty_home: Path) -> None:
    (empty_home / ".ssh" / "config").write_text("Host *\n ProxyJump gate\n")
    ssh = written("devices: {d: {host: board}}").device("d").ssh
    assert ssh is not None
    assert ssh.jump is not None
    assert (ssh.jump.host, ssh.jump.jump) == ("gate", None)


def test_jump_hosts_in_a_circle_are_refused(empty_home: Path) -> None:
    (empty_home / ".ssh" / "config").write_text("Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    assert "never ends" in complaint("devices: {a: {}}")


def test_our_own_file_of_host_keys_is_the_one_written_and_openssh_is_read_too(empty_home: Path) -> None:
    ssh = written("devices: {d: {host: h}}").device("d").ssh
    assert ssh is not None
    assert ssh.known_hosts == str(empty_home / ".config" / "pipeline" / "known_hosts")
    assert ssh.more_known_hosts[0] == str(empty_home / ".ssh" / "known_hosts")


# ------------------------------------------------------------ one device's mistake

BROKEN = {
    "an alias that nobody knows": "{kind: raspberry-pi-4}",
    "an unknown kind": "{host: a, kind: raspbery}",
    "a kind whose profile is broken": "{host: a, kind: half-made}",
    "an unknown key": "{hots: a}",
    "no mapping": "3",
    "a port that is none": "{host: a, ssh: {port: many}}",
    "a config that is not there": "{host: a, ssh: {config: nowhere}}",
    "an alias with a setting that is not supported": "{host: odd}",
    "jump hosts in a circle": "{host: circle}",
    "a secret": "{host: a, ssh: {password: x}}",
    "blocks that contradict its sensor": "{host: a, power: ina219, measure: {block_s: 0.5}}",
    "a recording for a board": "{host: a, recording: r.gz}",
    "an address that is none": "{host: 'a b'}",
}


@pytest.mark.parametrize("entry", BROKEN.values(), ids=BROKEN)
def test_a_mistake_in_one_device_s_entry_puts_that_one_out_of_use(empty_home: Path, entry: str) -> None:
    (empty_home / ".ssh" / "config").write_text(
        "Match originalhost odd localnetwork 10.0.0.0/8\n Port 1\nHost circle\n ProxyJump ring\n"
        "Host ring\n ProxyJump circle\nHost good\n HostName 192.0.2.7\n"
    )
    Path("profiles").mkdir()
    Path("profiles/half-made.yaml").write_text("sumary: x\n")
    inventory = written(f"groups: {{lab: [bad, good]}}\ndevices:\n  bad: {entry}\n  good: {{}}\n  other: {{host: b}}\n")

    assert list(inventory.devices) == ["local", "good", "other"]
    assert inventory.device("good").tags == ("lab",)
    assert list(inventory.unusable) == ["bad"]
    with pytest.raises(InventoryError, match=r"inventory.yaml:3: devices.bad|half-made.yaml:1: summ"):
        inventory.device("bad")
    with pytest.raises(InventoryError, match=r"no device 'bat' \(did you mean 'bad'\?\)"):
        inventory.device("bat")


def test_the_implied_local_device_works_though_all_that_are_written_are_out_of_use() -> None:
    Path("inventory.yaml").write_text("devices: {bad: {kind: nothing, host: a}}")
    assert load_inventory(partial=True).device("local").ssh is None
    with pytest.raises(InventoryError, match="unknown kind"):
        load_inventory()


def test_a_mistake_in_what_all_devices_share_is_everybody_s() -> None:
    for shared in ("defaults: {ssh: {prot: 1}}", "groups: {lab: {devices: [], runtme: x}}", "version: 3"):
        Path("inventory.yaml").write_text(f"{shared}\ndevices: {{good: {{host: a}}}}\n")
        with pytest.raises(InventoryError, match=r"inventory.yaml:1: "):
            load_inventory(partial=True)


# ------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("devices:\n  pi:\n    hots: a\n", "inventory.yaml:3: devices.pi.hots: unknown key (did you mean 'host'?)"),
        (
            "devices:\n  pi:\n    host: a\n    ssh:\n      prot: 22\n",
            "inventory.yaml:5: devices.pi.ssh.prot: unknown key (did you mean 'port'?)",
        ),
        ("device: {}\n", "inventory.yaml:1: device: unknown key (did you mean 'devices'?)"),
        (
            "groups:\n  lab:\n    devices: []\n    runtme: x\n",
            "inventory.yaml:4: groups.lab.runtme: unknown key (did you mean 'runtime'?)",
        ),
        (
            "devices:\n  pi: {host: a, ssh: {port: many}}\n",
            "inventory.yaml:2: devices.pi.ssh.port: should be a valid integer, found 'many'",
        ),
        ("devices:\n  pi: {host: a, ssh: {port: 70000}}\n", "should be less than or equal to 65535, found 70000"),
        ("devices:\n  pi: {host: a, kind: jetson-nan}\n", "unknown kind (did you mean 'jetson-nano'?)"),
        ("devices:\n  pi: {kind: raspberry-pi-4}\n", "inventory.yaml:2: devices.pi: has no `host:`"),
        ("devices:\n  pi: {kind: local, host: a}\n", "takes no host"),
        ("devices:\n  'a b': {host: a}\n", "a device's name holds letters"),
        ("devices:\n  pi: {host: 'a b'}\n", "cannot read the address 'a b'"),
        ("devices:\n  pi: {host: 'a:99999'}\n", "cannot read the address"),
        (
            "devices:\n  pi:\n    host: a\n    host: b\n",
            "inventory.yaml:4: devices.pi.host: duplicate key, first in line 3",
        ),
        ("devices:\n  pi:\n    host: [a\n", "inventory.yaml:4:1: not YAML: expected ',' or ']'"),
        ("devices:\n\tpi: {}\n", "inventory.yaml:2:1: not YAML: found character"),
        ("- a\n- b\n", "inventory.yaml:1: expected `key: value` lines, found ['a', 'b']"),
        ("a: 1\n---\nb: 2\n", "not YAML: but found another document"),
        ("a: !!python/object:os.system x\n", "not YAML: could not determine a constructor"),
        ("version: 2\n", "inventory.yaml:1: version: should be 1, found 2"),
        ("devices:\n  pi: {host: a, ssh: {host_key_sha256: abc}}\n", "host_key_sha256: String should match pattern"),
        (
            "devices:\n  pi: {host: a, power: {backend: ina219, shunt_ohm: 1}}\n",
            "unknown key (did you mean 'shunt_ohms'?)",
        ),
        ("devices:\n  pi: {host: a, power: {backend: ina219, address: 0x99}}\n", "found 153"),
        (
            "devices:\n  pi: {host: a, measure: {min_s: 5, max_s: 1}}\n",
            "expected block_s <= min_s <= max_s, found 0.025, 5 and 1 s",
        ),
        ("devices:\n  pi: {host: a, ssh: {config: nowhere}}\n", "ssh.config: no such file: nowhere"),
        ("devices:\n  pi: 3\n", "inventory.yaml:2: devices.pi: "),
        ('devices:\n  pi: {host: a, agent: {dir: "a\\nb"}}\n', "devices.pi.agent.dir: String should match pattern"),
        ("devices:\n  7: {host: a}\n", "devices.7.[key]: should be a valid string"),
        ("devices: &a\n  pi: *a\n", "inventory.yaml:"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_would_be_right(text: str, expected: str) -> None:
    assert expected in complaint(text)


def test_how_much_of_the_board_s_memory_a_candidate_may_take_is_a_share() -> None:
    assert written("devices: {pi: {host: a}}").device("pi").measure.memory_share == 0.6
    assert written("devices: {pi: {host: a, measure: {memory_share: 1}}}").device("pi").measure.memory_share == 1


@pytest.mark.parametrize("share", ["0", "-0.5", "1.01", "60", "much", "true", ".nan"])
def test_a_share_of_the_memory_that_makes_no_sense_is_pointed_at(share: str) -> None:
    message = complaint(f"devices:\n  pi:\n    host: a\n    measure:\n      memory_share: {share}\n")
    assert message.startswith("inventory.yaml:5: devices.pi.measure.memory_share: ")


@pytest.mark.parametrize("key", ["password", "passphrase", "Token"])
def test_a_secret_is_refused_with_what_to_use_instead(key: str) -> None:
    message = complaint(f"devices:\n  pi:\n    host: a\n    ssh:\n      {key}: hunter2\n")
    assert message.startswith(f"inventory.yaml:5: devices.pi.ssh.{key}: no secrets in an inventory; use an SSH key")
    assert "hunter2" not in message


def test_an_unknown_device_names_the_nearest_the_file_and_how_to_register() -> None:
    inventory = written("devices: {jetson: {host: a}}")
    with pytest.raises(
        InventoryError, match=r"no device 'jetsn' \(did you mean 'jetson'\?\); inventory.* has: .*add it"
    ):
        inventory.device("jetsn")
    Path("inventory.yaml").unlink()
    with pytest.raises(InventoryError, match=r"there is no inventory.yaml, only: local; .* `pipeline init`"):
        load_inventory().device("pi")


def test_a_missing_or_unreadable_file_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"no such inventory: nowhere.yaml; `pipeline init`"):
        load_inventory(Path("nowhere.yaml"))
    with pytest.raises(InventoryError, match="cannot be read: Is a directory"):
        load_inventory(tmp_path)
    Path("binary.yaml").write_bytes(b"\xff\xfe\x00\x01\x02")
    with pytest.raises(InventoryError, match=r"binary.yaml"):
        load_inventory(Path("binary.yaml"))


def test_a_file_that_grows_without_end_through_aliases_is_read_in_no_time() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    assert "more than 100,000 values, aliases written out" in complaint("\n".join(lines))


@pytest.mark.parametrize(
    ("entry", "format"),
    [
        ("host: a", "onnx"),
        ("host: a, runtime: tflite", "tflite"),
        ("host: a, runtime: 'null', format: tflite", "tflite"),
        ("host: a, runtime: 'null'", "onnx"),
    ],
)
def test_a_device_s_format_is_what_its_runtime_loads_or_what_is_written(entry: str, format: str) -> None:
    assert written(f"devices: {{pi: {{{entry}}}}}").device("pi").format == format


def test_a_format_s_own_file_lies_beside_the_inventory(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "boards.yaml").write_text("devices: {pi: {host: a, format: half.py}, two: {host: b, format: /x/half.py}}")
    inventory = load_inventory(folder / "boards.yaml")
    assert inventory.device("pi").format == str(folder / "half.py")
    assert inventory.device("two").format == "/x/half.py"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (
            "format: onxx, runtime: 'null'",
            "there is no format 'onxx' (did you mean 'onnx'?); known: onnx, tflite; or name a .py file",
        ),
        ("format: tflite", "runtime onnxruntime loads onnx files, not tflite; leave format out"),
        ("format: ''", "format: "),
    ],
)
def test_a_format_that_is_not_there_or_does_not_fit_is_refused(entry: str, says: str) -> None:
    assert says in complaint(f"devices: {{pi: {{host: a, {entry}}}}}")
