"""The packed agent: the same each time, small, and needing nothing beside it."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

from pipeline.devices.sessions.agent_zipapp import zipapp


def test_the_agent_packs_to_the_same_bytes_each_time_and_stays_small() -> None:
    first = zipapp()
    zipapp.cache_clear()
    assert zipapp() == first
    assert len(first.content) < 140_000
    names = zipfile.ZipFile(io.BytesIO(first.content)).namelist()
    assert {"__main__.py", "device_agents/protocol.py", "device_agents/runtimes/null.py"} <= set(names)
    assert not [n for n in names if "pycache" in n or n.endswith(".pyc")]


def test_the_packed_agent_runs_alone(tmp_path: Path) -> None:
    (tmp_path / "agent.pyz").write_bytes(zipapp().content)
    done = subprocess.run([sys.executable, "-I", str(tmp_path / "agent.pyz"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0
