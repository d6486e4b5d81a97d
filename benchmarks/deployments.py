"""Does a board that deploys are killed on always answer, and is every bundle that was changed in one place refused?

Each deploy runs in a process of its own that is killed (SIGKILL) before one of the system calls by which it writes,
drawn at random, or by a clock; then the version that runs answers an image, the old one's answer or the new one's.
Each spoilt bundle is a signed one changed in a random byte, file, name or mode.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # bundles and kills are the tests'

from deploy import runtime, signing
from deploy.verify import verify_bundle
from device_agents.arguments import Stage, Switch
from device_agents.deployment import Deployments
from device_agents.files import Files
from pipeline.errors import BundleError
from tests.deployments import CLASSES, WHITE, bundle, killed_before, spoil

CALLS = 120
"""More than the system calls by which one deploy writes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deploys", type=int, default=1000)
    parser.add_argument("--bundles", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_DATA_HOME"] = f"{name}/data"
        folder, chance = Path(name), random.Random(asked.seed)
        signing.new_key()
        bundles = [bundle(folder / f"bundle{best}", best) for best in range(3)]
        for one in bundles:
            signing.sign(one)
        deploys(folder, bundles, asked.deploys, chance)
        spoilt(folder, bundles[0], asked.bundles, chance)


def deploys(folder: Path, bundles: list[Path], count: int, chance: random.Random) -> None:
    """Print what answered after each of ``count`` deploys that were killed."""
    board, received = folder / "board", folder / "files"
    seen: collections.Counter[str] = collections.Counter()
    deploy(board, bundles[0], received)
    for number in range(count):
        old, new = answer(board), chance.randrange(3)
        send(bundles[new], received)
        if number % 2:
            killed = killed_before(chance.randrange(CALLS), partial(deploy, board, bundles[new], received))
        else:
            killed = killed_after(chance.uniform(0, 0.05), board, bundles[new], received)
        found = answer(board)
        seen["killed" if killed else "went through"] += 1
        seen["another answer" if found not in (old, new) else "old" if found != new else "new"] += 1
    deploy(board, bundles[0], received)  # clears up what the last one left
    print(f"{count} deploys: {', '.join(f'{seen[kind]} {kind}' for kind in sorted(seen))}; "
          f"{len(list((board / 'versions').iterdir()))} versions left", flush=True)  # fmt: skip
    if seen["another answer"]:
        sys.exit("a board answered as neither version does")


def killed_after(seconds: float, board: Path, folder: Path, received: Path) -> bool:
    """Deploy in a process that is killed after so many seconds; return whether it was."""
    child = os.fork()
    if not child:
        deploy(board, folder, received)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def deploy(board: Path, folder: Path, received: Path) -> None:
    """Stage what was sent and switch to it, as the agent does."""
    send(folder, received)
    contents = {path.name: runtime.file_sha256(path) for path in folder.iterdir()}
    version = contents["manifest.json"]
    staged = Deployments(str(board)).stage(Stage(str(board), version, contents), Files(str(received)))
    Deployments(str(board)).switch(Switch(str(board), "benchmark", staged["name"]))


def send(folder: Path, received: Path) -> None:
    """Put a bundle's files where the agent receives them."""
    received.mkdir(mode=0o700, exist_ok=True)
    for path in folder.iterdir():
        target = received / f"{runtime.file_sha256(path)}.bin"
        if not target.exists():
            part = target.with_name(f".part-{os.getpid()}")
            shutil.copy(path, part)
            part.replace(target)


def answer(board: Path) -> int:
    """Return the class that the version that runs gives for a white image, every file verified before."""
    return CLASSES.index(runtime.Model.open(board / "current").predict(WHITE).label)


def spoilt(folder: Path, made: Path, count: int, chance: random.Random) -> None:
    """Print how many of ``count`` spoilt bundles are refused by the name of what was changed."""
    named = taken = 0
    longest_s = 0.0
    for number in range(count):
        copy = folder / "spoilt" / str(number)
        shutil.copytree(made, copy)
        name = spoil(copy, chance)
        start = time.monotonic()
        try:
            verify_bundle(copy, trusted=signing.own_keys(), run=False)
            taken += 1
            print(f"taken, with {name} changed: {copy}", flush=True)
        except BundleError as error:
            named += name in str(error)
            if name not in str(error):
                print(f"refused, but {name} is not named: {error}", flush=True)
        longest_s = max(longest_s, time.monotonic() - start)
        shutil.rmtree(copy)
    print(f"{count} bundles, each changed in one byte, file, name or mode: {count - taken} refused, {named} by name, "
          f"{1000 * longest_s:.0f} ms at most")  # fmt: skip
    if named != count:
        sys.exit("not all were refused by name")


if __name__ == "__main__":
    main()
