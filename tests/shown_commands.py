"""The commands that the documents show, and a user's folder in which each of them runs for real, if more briefly."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from PIL import Image

from pipeline.cli.app import app
from pipeline.export.onnx.exporter import export
from pipeline.models import load_model
from pipeline.records import OnnxSupport
from pipeline.store import Store
from pipeline.store.facts import SEED
from tests.command_line import INVENTORY, Desk, finished, read_until
from tests.recordings import dense
from tests.scripted_boards import ScriptedBoard

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()
    if not name.startswith((".github/", "deploy/templates/", "tests/"))
)  # fmt: skip

NOT_RUN = {
    "git clone": "no network here",
    "make": "runs these tests",
    "pip install": "no network here; what it installs is what these tests run with",
    "sudo raspi-config": "a Raspberry Pi's own program",
    "sudo usermod": "would change this machine's users",
    "i2cdetect": "needs the I²C bus of a board",
    "sudo apt-get": "would change this machine",
    "sudo -u postgres": "would change this machine's PostgreSQL; tests have a server of their own",
    "sudo systemctl": "would change this machine",
    "export": "is the shell's own",
}
"""Beginning of a command → why no test runs it."""

PYTHON = {
    ("docs/adapting.md", 0): "watch.py",
    ("docs/extending/criterion.md", 0): "weight_spread.py",
    ("docs/extending/data-source.md", 0): "stripes.py",
    ("docs/extending/strategy.md", 0): "hill_climbing.py",
    ("docs/deploying.md", 0): "answer.py",
    ("docs/extending/task.md", 0): "within.py",
    ("docs/index.md", 0): "my_net.py",
    ("docs/index.md", 1): "from_python.py",
    ("docs/tasks.md", 0): "sizes.py",
    ("docs/tasks.md", 1): "shapes.py",
    ("docs/tasks.md", 2): "detector.py",
}
"""Page and number of a block of Python → the file of the user's folder that it is."""

BY_TEST_EXTENDING = {f"docs/extending/{kind}.md" for kind in ("format", "runtime", "sensor", "trainer")}
"""Pages whose files and inventories tests/test_extending.py runs on real agents."""

WORDS = {
    "NAME": "pi4", "postgresql://lab@db/runs?blobs=/mnt/lab/blobs": "sqlite:///shared.sqlite?blobs=blobs",
    "cifar10:DIR": "cifar10:cifar", "latency=0.5x": "latency=9x", "...": "", "…": "",
}  # fmt: skip
"""What a user fills in, and the target that so brief a search would miss."""
BRIEFLY = {
    "init": "new",
    "run": "--config brief.yaml --trials 2",
    "tune": "--config brief.yaml --trials 1 --method optuna --runs-budget 1",
    "devices bench-ops": "--widths 16,32 --sides 14",
    "devices calibrate": "--measurements 2 --budget 10m",
    "devices doctor": "--seconds 1",
    "devices setup": "--yes",
    "devices trust": "--yes",
}
"""Verb → options that shorten it or answer what it asks; of an option that is given twice, the last counts."""
SAME = {**WORDS, "latest": "RUN", "RUN…": "RUN"}
"""Words that do not make another command."""
CHOSEN = ("--output", "--target")
"""Options whose values do not make another command either."""
LONG = (("run",), ("tune",), ("adapt",), ("devices", "calibrate"))
"""Verbs of which commands that only say less than another one are left out."""

_BRIEF = """
model: my_net.py:make
target: latency=9x
threads: 1
precision: float32
base_training: {epochs: 0.2}
strategy_options: {first_simulated_episodes: 100, simulated_episodes: 50, first_updates: 5, updates: 2}
evaluation: {batch_norm_images: 32, search_images: 50, reconstruction_samples: 0}
fine_tuning: {finalists: 1, finalist_epochs: 0, epochs: 0.1, min_steps: 1, verify_images: 10, reconstruction_samples: 0}
"""


@dataclass(frozen=True)
class Shown:
    """A command as a page shows it."""

    page: str
    line: str
    in_block: bool
    """Whether it stands in a block of commands, and not in a sentence."""


def blocks(page: Path, language: str) -> list[str]:
    """Return the blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def shown(page: Path) -> Iterator[Shown]:
    """Yield the commands of a page: lines of its sh blocks, and code that begins with a command's name."""
    name = page.relative_to(ROOT).as_posix()
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if command := line.partition(" #")[0].strip():
                yield Shown(name, command, in_block=True)
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for command in re.findall(r"`((?:python benchmarks/|pipeline\s+[a-z])[^`]*)`", re.sub(r"\n> ?", " ", text)):
        yield Shown(name, " ".join(command.split()), in_block=False)


@cache
def lines(start: str = "") -> list[str]:
    """Return all commands that begin so, each once."""
    return sorted({one.line for page in PAGES for one in shown(page) if one.line.startswith(start)})


@cache
def whole(start: str) -> list[str]:
    """Return all commands that begin so and can be typed as they are shown; in a sentence some only name a verb."""
    found = {one.line for page in PAGES for one in shown(page) if one.line.startswith(start)
             if one.in_block or not lacks_arguments(one.line)}  # fmt: skip
    return sorted(found)


def command_of(line: str) -> tuple[Any, Any, list[str]]:
    """Return the typer command that a line calls, its context, and the words that it takes."""
    words = shlex.split(line.replace("...", "").replace("…", ""))[1:]
    command = _pipeline()
    context = command.context_class(command, info_name="pipeline")
    while hasattr(command, "resolve_command") and words and not words[0].startswith("-"):
        name, found, words = command.resolve_command(context, words)
        assert found is not None, line
        command, context = found, found.context_class(found, parent=context, info_name=name)
    return command, context, words


@cache
def _pipeline() -> Any:
    return typer.main.get_command(app)


def lacks_arguments(line: str) -> bool:
    """Return whether a line leaves out what its verb requires."""
    command, context, words = command_of(line)
    try:
        command.make_context(context.info_name, words, parent=context.parent)
    except Exception as error:
        if any(kind.__name__ == "UsageError" for kind in type(error).__mro__):  # typer brings click as its own
            return True
        raise
    return False


def typed(line: str, runs: Mapping[str, list[str]]) -> list[str]:
    """Return the words after `pipeline`, with what a user fills in, briefly.

    Args:
        runs: ``finished`` and ``interrupted`` ones.
    """
    known = list(runs["interrupted" if "--resume" in line else "finished"])
    words = shlex.split(line)[1:]
    filled = [known.pop(0) if word.rstrip("…") == "RUN" else WORDS.get(word, word) for word in words]
    more = "" if "--resume" in line else BRIEFLY.get(_verb(line), "")
    if "imagefolder:" in line:
        more = more.replace("brief.yaml", "brief_pictures.yaml")
    if "--task" in line:
        more = more.replace("brief.yaml", "brief_tasks.yaml")
    return [word for word in [*filled, *more.split()] if word]


def different(commands: Iterable[str]) -> list[str]:
    """Return commands that differ in more than in what is shortened; of those that do not, the one that says most.

    Nor do the name of a run or of a folder to write and the height of a target make another command. Of whole runs,
    adaptations and calibrations, those that only say less than another one are left out as well.
    """
    longest: dict[tuple[str, ...], str] = {}
    for line in sorted(commands, key=len):
        words = [SAME.get(word, word) for word in shlex.split(line)]
        shortened = {word for word in BRIEFLY.get(_verb(line), "").split() if word.startswith("--")}
        kept = [
            "" if before in CHOSEN else word
            for before, word in zip(["", *words], words, strict=False)
            if not {before, word} & shortened
        ]
        longest[tuple(word for word in kept if word)] = line
    long = [set(words) for words in longest if words[1:2] in LONG or words[1:3] in LONG]
    return sorted(line for words, line in longest.items() if not any(set(words) < run for run in long))


def _verb(line: str) -> str:
    return next((verb for verb in BRIEFLY if f"{line} ".startswith(f"pipeline {verb} ")), "")


class Project(Desk):
    """A user's folder with all that the documents name: network, weights, pictures, plugins, model, bundle, runs."""

    @classmethod
    def make(cls, folder: Path) -> None:
        """Fill a folder: takes two runs."""
        cls(folder)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        boards = []
        for name in ("pi4", "pi4-b"):  # other boards than local: lock and folder are their own
            ScriptedBoard(name, folder / name)
            agent = f"{{dir: {folder / name}/agent, python: {folder / name}/python}}"
            line = INVENTORY.splitlines()[-1].replace("local:", f"{name}:", 1)
            boards.append(line.replace("{dir: AGENT}", agent))
        pi4 = "\n".join(boards)
        own = (
            boards[0].replace("pi4:", "pi4-numpy:", 1).replace("{kind: local,", "{kind: local, runtime: reference,", 1)
        )
        lab = "groups: {lab: [local, pi4]}"
        inventory = f"{INVENTORY}{pi4}\n{own}\n{lab}\n".replace("AGENT", str(folder / "agent"))
        self.write("inventory.yaml", inventory.replace("max_s: 0.4", "max_s: 0.1"))  # no figure is looked at
        (folder / "plugins" / "runtimes").mkdir(parents=True)
        self.write("plugins/runtimes/reference.py", blocks(ROOT / "docs/extending/runtime.md", "python")[0])
        self.write("brief.yaml", _BRIEF)
        self.write("brief_pictures.yaml", f"{_BRIEF}image_size: 16\n")
        learnt = "base_training: {epochs: 12, learning_rate: 0.02}"  # a score of 0 is no base to compare with
        self.write("brief_tasks.yaml", _BRIEF.replace("base_training: {epochs: 0.2}", learnt))
        for (page, number), name in PYTHON.items():
            self.write(name, blocks(ROOT / page, "python")[number])
        (folder / "model.onnx").write_bytes(dense(seed=0))
        self._draw_pictures()
        self._draw_weights()
        interrupted = self.start("run", "--config", "brief.yaml", "--trials", "2")
        read_until(interrupted, "trial 0:")
        interrupted.send_signal(signal.SIGINT)
        assert finished(interrupted).code == 130
        mine = "--model my_net.py:make --weights my_net.pt --data imagefolder:photos"
        self.done(*typed(f"pipeline run {mine}", {"finished": []}))
        first, second = sorted(path.name for path in self.runs.iterdir() if path.is_dir())
        third = f"{second}-again"  # as if it had come to the same with another seed
        shutil.copytree(self.runs / second, self.runs / third)
        with Store.open(self.runs, third, write=True) as store:
            store.set(SEED, 1)
        self.write("ids.json", json.dumps({"interrupted": [first], "finished": [second, third]}))
        self.done("pull", "latest", "--output", "my-model")

    @property
    def ids(self) -> dict[str, list[str]]:
        """The runs: ``finished`` and ``interrupted`` ones."""
        found: dict[str, list[str]] = json.loads((self.folder / "ids.json").read_text())
        return found

    def copy(self, folder: Path) -> Desk:
        """Return a folder that is the same, with an agent of its own, and may be changed."""
        desk = Desk(folder)
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        inventory = (folder / "inventory.yaml").read_text()
        desk.write("inventory.yaml", inventory.replace(str(self.folder), str(folder)))
        return desk

    def _draw_pictures(self) -> None:
        random = np.random.default_rng(0)
        for label, name in enumerate(("cats", "dogs")):
            (self.folder / "photos" / name).mkdir(parents=True)
            for number in range(40):
                pixels = random.integers(0, 128, (16, 16, 3)) + 100 * label
                Image.fromarray(pixels.astype(np.uint8)).save(self.folder / f"photos/{name}/{number}.png")
        (self.folder / "cifar").mkdir()
        for name in ("train_0", "test"):
            pixels = random.integers(0, 255, (200, 32, 32, 3)).astype(np.uint8)
            np.savez(self.folder / f"cifar/{name}.npz", x=pixels, y=np.arange(200) % 10)

    def _draw_weights(self) -> None:
        """Save weights of the network that the documents show, for pictures of two classes."""
        for name in ("my_net.pt", "other.pt"):
            network = load_model(f"{self.folder / 'my_net.py'}:make", classes=2, channels=3, weights=None)
            last = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
            with torch.no_grad():  # answers cats, so that half is right, whatever the random rest makes of them
                last.weight.mul_(0.01)
                last.bias.copy_(torch.tensor([1.0, 0.0]))
            torch.save(network.state_dict(), self.folder / name)
            written = export(network.eval(), torch.randn(2, 3, 16, 16), OnnxSupport(17, 8))
            (self.folder / "net.onnx").write_bytes(written)
