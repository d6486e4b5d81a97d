"""A real agent to talk to: the zipapp, started as a child process by the Pythons there are to try it with."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipapp
from collections.abc import Callable
from pathlib import Path

import pytest

import device_agents
from tests.device_agents.harness import Agent, find_python36


@pytest.fixture(scope="session")
def archive(tmp_path_factory) -> Path:
    """The agent as one zipapp."""
    source = tmp_path_factory.mktemp("source")
    package = Path(device_agents.__file__).parent
    shutil.copytree(package, source / "device_agents", ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("zipapp") / "agent.pyz"
    zipapp.create_archive(source, target, main="device_agents.__main__:main", compressed=True)
    return target


@pytest.fixture(scope="session")
def compiled(archive, tmp_path_factory) -> Callable[[str], Path]:
    """Return by ``compiled(python)`` what every session has the agent compile itself to, compiled once for them all."""
    made: dict[str, Path] = {}

    def compiled(python: str) -> Path:
        if python not in made:
            made[python] = tmp_path_factory.mktemp("compiled") / "agent.pyz"
            with made[python].open("w+b") as file:
                subprocess.run([python, "-S", str(archive), "compile"], stdout=file, check=True)
        return made[python]

    return compiled


@pytest.fixture(scope="session")
def oldest_python() -> str:
    """Python 3.6 where it is installed, else this one."""
    return find_python36() or sys.executable


@pytest.fixture(params=["this python", "python 3.6"])
def python(request) -> str:
    """Each Python that the agent is tried with."""
    if request.param == "this python":
        return sys.executable
    found = find_python36()
    if found is None:
        pytest.skip("no python3.6 on PATH or in ~/.pyenv/versions: the oldest supported Python goes untried")
    return found


@pytest.fixture
def start(compiled, tmp_path):
    """Start agents on ``tmp_path``; at the end each has to go in peace."""
    started = []

    def start(python: str = sys.executable, *options: str, environment: dict[str, str] | None = None) -> Agent:
        agent = Agent([python, str(compiled(python)), "--dir", str(tmp_path), *options], environment)
        started.append(agent)
        return agent

    yield start
    for agent in started:
        agent.close()


@pytest.fixture
def agent(start, oldest_python) -> Agent:
    """An agent under the oldest Python; the tests of everything else start agents under this one."""
    return start(oldest_python)


@pytest.fixture
def each_agent(start, python) -> Agent:
    """An agent under each Python."""
    return start(python)


@pytest.fixture
def put(tmp_path):
    """Put bytes, or a null model's behaviour, into the agent's folder; return the file's name."""

    def put(content: bytes | dict, extension: str = "json") -> str:
        data = json.dumps(content).encode() if isinstance(content, dict) else content
        name = f"{hashlib.sha256(data).hexdigest()}.{extension}"
        (tmp_path / "files").mkdir(exist_ok=True)
        (tmp_path / "files" / name).write_bytes(data)
        return name

    return put
