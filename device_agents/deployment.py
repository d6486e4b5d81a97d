"""Bundles deployed on this board: the version that runs, the one before it, and a switch between them in one step.

The folder, which is its user's alone (see ``folder.py``):

    current -> versions/0003-16dc9053a235      renamed into place: whoever opens it finds one version or the other
    versions/NUMBER-CONTENT/                   a bundle as it was written; read-only, so that nobody leaves files in it
    versions/.staging-NUMBER-CONTENT/          one that is not complete, not tried, or not switched to yet
    about/NUMBER-CONTENT.json                  {"before": the version that ran before it, "deployed", "by", "checked"}
    trusted/SHA256.pem                         public keys; with any there, only bundles signed by one of them are taken

A cut at any moment leaves ``current`` as it was: files are staged, flushed to the disk and compared with their
checksums before the link changes, and nothing that it leads to is ever written to. What was left over is removed at
the next stage.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

from device_agents import launch, processes, programs
from device_agents.arguments import Deployment, SelfTest, Stage, Switch, Trust
from device_agents.errors import AgentError
from device_agents.files import Files
from device_agents.folder import FolderError, secure
from device_agents.protocol import BAD_REQUEST, CORRUPT, DISK_FULL, HELD, REFUSED, TIMEOUT
from device_agents.signature import checked_by_openssl

MANIFEST, CHECKSUMS, SIGNATURE = "manifest.json", "SHA256SUMS", "model.sig"

_VERSION = re.compile(r"([0-9]{4,9})-[0-9a-f]{12}")
_STAGING = ".staging-"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")
_MOST_MANIFEST_BYTES = 16 * 1024**2
_MOST_FILES = 64
_WAIT_S = 10.0
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def status(asked: Deployment) -> Dict[str, Any]:
    """Return what is deployed; a board on which nothing ever was stays as it is."""
    folder = os.path.abspath(os.path.expanduser(asked.dir))
    if asked.tidy or os.path.lexists(folder):
        return Deployments(folder).status(asked.tidy)
    there = folder
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    disk = os.statvfs(there)
    return {
        "folder": folder,
        "current": None,
        "previous": None,
        "problem": None,
        "trusted": [],
        "contents": [],
        "free_bytes": disk.f_bavail * disk.f_frsize,
        "verifier": programs.find("openssl") is not None,
    }


class Deployments:
    """What is deployed below ``folder``, by the words of the user's inventory."""

    def __init__(self, folder: str) -> None:
        with _explained():
            self._root = secure(folder)
            self._versions, self._about, self._trusted = (
                secure(os.path.join(self._root, name)) for name in ("versions", "about", "trusted")
            )
        self._current = os.path.join(self._root, "current")

    # ---------------------------------------------------------------- what is there

    def status(self, tidy: bool = False) -> Dict[str, Any]:
        """Return what runs, what ran before it, what is trusted, and which contents are here already."""
        if tidy:
            with self._alone(), _explained():
                self._tidy()
        current = self._running()
        previous = self._before(current)
        disk = os.statvfs(self._root)
        kept = [name for name in (current, previous) if name is not None]
        return {
            "folder": self._root,
            "current": self._described(current),
            "previous": self._described(previous),
            "problem": None if current is None else _damage(os.path.join(self._versions, current)),
            "trusted": [self._read(os.path.join(self._trusted, name)) for name in self._key_files()],
            "contents": sorted({sha256 for name in kept for sha256 in self._contents(name).values()}),
            "free_bytes": disk.f_bavail * disk.f_frsize,
            "verifier": programs.find("openssl") is not None,
        }

    def trust(self, asked: Trust) -> Dict[str, Any]:
        """Add a public key to those that are trusted, or remove it."""
        name = hashlib.sha256(asked.pem.encode("ascii")).hexdigest() + ".pem"
        path = os.path.join(self._trusted, name)
        with self._alone():
            if asked.forget:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(path)
            else:
                self._write(path, asked.pem.encode("ascii"))
            _flush(self._trusted)
        return {"trusted": [self._read(os.path.join(self._trusted, one)) for one in self._key_files()]}

    # ---------------------------------------------------------------- a version comes

    def stage(self, asked: Stage, files: Files) -> Dict[str, Any]:
        """Put a bundle together of what was sent and of what is here already, and check it.

        Returns:
            {"name", "signature": valid, unsigned or unchecked, "key"}; ``name`` is that of a version that is here
            already, where its files are as they were written.

        Raises:
            AgentError: CORRUPT for contents that are not here, DISK_FULL, REFUSED for a bundle that is none, or not
                signed as this board wants it.
        """
        with self._alone(), _explained():
            self._tidy()
            name = self._same(asked.version)
            if name is None:
                name = self._next(asked.version)
                self._fill(os.path.join(self._versions, _STAGING + name), asked, files)
            place = self._place(name)
            state, key = self._signature(place)
            return {"name": name, "signature": state, "key": key}

    def _fill(self, staging: str, asked: Stage, files: Files) -> None:
        """Write the staged files; the staging folder goes again where that fails."""
        sources = self._sources()
        os.mkdir(staging, 0o700)
        try:
            for name, sha256 in sorted(asked.contents.items()):
                if not isinstance(name, str) or not _NAME.fullmatch(name):
                    raise AgentError(BAD_REQUEST, "%.100r is no file's name" % (name,))
                self._bring(os.path.join(staging, name), str(sha256), sources.get(str(sha256)), files)
            problem = _damage(staging)
            if problem is None and _sha256(os.path.join(staging, MANIFEST)) != asked.version:
                problem = "%s is not the one that was announced" % MANIFEST
            if problem is not None:
                raise AgentError(REFUSED, "the bundle is not as it was written: %s" % problem)
            _flush(staging)
            os.chmod(staging, 0o555)
            _flush(self._versions)
        except BaseException:
            _remove(staging)
            raise

    def _bring(self, target: str, sha256: str, source: Optional[str], files: Files) -> None:
        """Copy a content, from a version that has it or else from what was sent, which is removed then."""
        if source is None or not _copied(source, target, sha256):
            sent = files.paths([sha256 + ".bin"])[0]
            if sent is None or not _copied(sent, target, sha256):
                raise AgentError(CORRUPT, "file %s.bin changed while it was read: send it again" % sha256)
            with contextlib.suppress(FileNotFoundError):
                os.remove(sent)

    def self_test(self, asked: SelfTest) -> Dict[str, Any]:
        """Run the stored inputs through a version, in a process of its own, and return how far its answers are off."""
        place = self._place(asked.staged)
        command = [sys.executable, "-B", os.path.join(place, "runtime.py"), "self-test"]
        if asked.runtime:
            command += ["--runtime", asked.runtime]
        if not os.path.exists(command[2]):
            raise AgentError(REFUSED, "the bundle has no runtime.py to run it with: pull it again")
        with tempfile.TemporaryFile() as said:
            try:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    timeout=asked.timeout_s,
                    env=dict(launch.environment(), OMP_NUM_THREADS="1"),
                    preexec_fn=functools.partial(processes.die_with, os.getpid()),
                )
            except subprocess.TimeoutExpired:
                raise AgentError(TIMEOUT, "the self-test did not end within %g s" % asked.timeout_s)
            said.seek(max(0, said.tell() - 2000))
            words = said.read().decode("utf-8", "replace").strip().splitlines()[-1:] or ["nothing"]
        try:
            found = json.loads(done.stdout.decode("utf-8").strip().splitlines()[-1])
            return {key: found[key] for key in ("file", "inputs", "difference", "tolerance", "ok", "seconds")}
        except (ValueError, KeyError, TypeError, IndexError):
            raise AgentError(REFUSED, "the self-test %s: %s" % (processes.ending(done.returncode), words[0]))

    def offer(self, files: str) -> Dict[str, Any]:
        """Copy the model that runs now to where the agent measures files; return its name there, or null."""
        current = self._running()
        if current is None:
            return {"file": None}
        place = os.path.join(self._versions, current)
        model = str(_manifest(place)["model"]["file"])
        sha256 = self._contents(current)[model]
        name = "%s.%s" % (sha256, model.rpartition(".")[2])
        target = os.path.join(secure(files), name)
        if not os.path.lexists(target):
            part = os.path.join(files, ".part-offer-%d" % os.getpid())
            with _explained():
                if not _copied(os.path.join(place, model), part, sha256):
                    raise AgentError(REFUSED, "%s of the version that runs is damaged: deploy it again" % model)
            os.replace(part, target)
        return {"file": name}

    def switch(self, asked: Switch) -> Dict[str, Any]:
        """Let ``current`` lead to a version, which is checked once more; without a name, to the one before.

        Raises:
            AgentError: REFUSED where there is none, it is damaged, or its signature is not what it has to be.
        """
        with self._alone(), _explained():
            running = self._running()
            name = asked.name if asked.name is not None else self._before(running)
            if name is None:
                raise AgentError(REFUSED, "there is no version to go back to")
            if name != running:
                self._let_run(name, running, asked)
            self._tidy()
            return {"current": self._described(self._running()), "previous": self._described(self._before(name))}

    def _let_run(self, name: str, running: Optional[str], asked: Switch) -> None:
        place = self._place(name)
        problem = _damage(place)
        if problem is not None:
            raise AgentError(REFUSED, "version %s is damaged: %s" % (name, problem))
        state, key = self._signature(place)
        if state == "unchecked" and self._key_files() and not asked.vouched:
            raise AgentError(REFUSED, "nobody has checked the signature: this board has no openssl")
        checked = "board" if state == "valid" else "host" if state == "unchecked" and asked.vouched else None
        about = {"before": running, "deployed": asked.deployed, "by": asked.owner, "checked": checked, "key": key}
        if asked.name is None:  # a version that comes back is still the one that was deployed then
            about = dict(self._note_of(name), before=running)
        self._write(os.path.join(self._about, name + ".json"), json.dumps(about).encode("utf-8"))
        final = os.path.join(self._versions, name)
        if place != final:
            os.rename(place, final)
            _flush(self._versions)
        link = os.path.join(self._root, ".current-%d" % os.getpid())
        with contextlib.suppress(FileNotFoundError):
            os.remove(link)
        os.symlink(os.path.join("versions", name), link)
        os.rename(link, self._current)
        _flush(self._root)

    # ---------------------------------------------------------------- inside

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from deploying here meanwhile; a killed process lets go by itself."""
        lock = os.open(os.path.join(self._root, "lock"), os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            until = time.monotonic() + _WAIT_S
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() > until:
                        raise AgentError(HELD, "somebody else is deploying to %s: try again later" % self._root)
                    time.sleep(0.05)
            yield
        finally:
            os.close(lock)

    def _running(self) -> Optional[str]:
        """Return the version that ``current`` leads to."""
        try:
            name = os.path.basename(os.readlink(self._current))
        except FileNotFoundError:
            return None
        except OSError:
            raise AgentError(BAD_REQUEST, "%s is no link: move it away" % self._current)
        return name if self._is_there(name) else None

    def _before(self, name: Optional[str]) -> Optional[str]:
        before = None if name is None else self._note_of(name).get("before")
        return before if isinstance(before, str) and before != name and self._is_there(before) else None

    def _is_there(self, name: str) -> bool:
        return _VERSION.fullmatch(name) is not None and os.path.isdir(os.path.join(self._versions, name))

    def _place(self, name: str) -> str:
        """Return a version's folder, staged or not."""
        if _VERSION.fullmatch(name):
            for place in (os.path.join(self._versions, name), os.path.join(self._versions, _STAGING + name)):
                if os.path.isdir(place) and not os.path.islink(place):
                    return place
        raise AgentError(REFUSED, "there is no version %.60r any more: deploy it again" % (name,))

    def _next(self, version: str) -> str:
        numbers = [int(found.group(1)) for found in map(_VERSION.fullmatch, self._names()) if found]
        return "%04d-%s" % (1 + max(numbers + [0]), version[:12])

    def _same(self, version: str) -> Optional[str]:
        """Return a version of this very manifest whose files are as they were written."""
        for name in (self._running(), self._before(self._running())):
            place = os.path.join(self._versions, name or "")
            if name and name.endswith(version[:12]) and _damage(place) is None:
                if _sha256(os.path.join(place, MANIFEST)) == version:
                    return name
        return None

    def _names(self) -> List[str]:
        names = os.listdir(self._versions)
        return [name[len(_STAGING) :] if name.startswith(_STAGING) else name for name in names]

    def _tidy(self) -> None:
        """Remove whatever is neither the version that runs nor the one before it."""
        running = self._running()
        kept = {running, self._before(running)}
        for folder, ending in ((self._versions, ""), (self._about, ".json")):
            for name in os.listdir(folder):
                if name[: len(name) - len(ending)] not in kept:
                    _remove(os.path.join(folder, name))
        for name in os.listdir(self._root):
            if name.startswith(".current-"):
                _remove(os.path.join(self._root, name))

    def _contents(self, name: str) -> Dict[str, str]:
        """Return the sha256 of each of a version's files, by what its manifest says."""
        place = os.path.join(self._versions, name)
        try:
            listed = {file: entry["sha256"] for file, entry in _manifest(place)["files"].items()}
            for file in (MANIFEST, CHECKSUMS, SIGNATURE):
                if os.path.exists(os.path.join(place, file)):
                    listed[file] = _sha256(os.path.join(place, file))
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return {file: sha256 for file, sha256 in listed.items() if isinstance(sha256, str) and _NAME.fullmatch(file)}

    def _sources(self) -> Dict[str, str]:
        running = self._running()
        kept = [name for name in (running, self._before(running)) if name]
        return {sha256: os.path.join(self._versions, name, file) for name in kept
                for file, sha256 in self._contents(name).items()}  # fmt: skip

    def _described(self, name: Optional[str]) -> Optional[Dict[str, Any]]:
        if name is None:
            return None
        place, note = os.path.join(self._versions, name), self._note_of(name)
        try:
            manifest = _manifest(place)
            title, size = str(manifest.get("name", name)), sum(entry["bytes"] for entry in manifest["files"].values())
            version = _sha256(os.path.join(place, MANIFEST))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            title, size, version = name, 0, ""
        words = {key: note.get(key) for key in ("deployed", "by", "checked")}
        return dict(words, name=name, title=title[:200], version=version, bytes=size)

    def _note_of(self, name: str) -> Dict[str, Any]:
        try:
            note = json.loads(self._read(os.path.join(self._about, name + ".json")))
            return note if isinstance(note, dict) else {}
        except (OSError, ValueError):
            return {}

    def _key_files(self) -> List[str]:
        return sorted(name for name in os.listdir(self._trusted) if re.fullmatch(r"[0-9a-f]{64}\.pem", name))

    def _signature(self, place: str) -> Tuple[str, Optional[str]]:
        """Return whether a bundle is signed as this board wants it, and the key; see ``stage``."""
        manifest = _manifest(place)
        trusted = [os.path.join(self._trusted, name) for name in self._key_files()]
        said = manifest.get("signature")
        if said is None:
            if trusted:
                raise AgentError(REFUSED, "the bundle is unsigned, and this board takes bundles of trusted keys alone")
            return "unsigned", None
        key = str(said.get("key", ""))[:64] if isinstance(said, dict) else ""
        path = os.path.join(self._trusted, key + ".pem")
        if path not in trusted:
            if trusted:
                raise AgentError(REFUSED, "the bundle is signed by %.16s, which this board does not trust" % key)
            return "unchecked", key
        program = programs.find("openssl")
        if program is None:
            return "unchecked", key
        names = {name: _sha256(os.path.join(place, name)) for name in os.listdir(place) if name != SIGNATURE}
        try:
            checked_by_openssl(program, os.path.join(place, SIGNATURE), path, names)
        except ValueError as error:
            raise AgentError(REFUSED, "%s is not the signature of these files: %s" % (SIGNATURE, error))
        return "valid", key

    def _read(self, path: str) -> str:
        with open(path, "rb") as file:
            return file.read(1 << 16).decode("utf-8", "replace")

    def _write(self, path: str, content: bytes) -> None:
        part = os.path.join(os.path.dirname(path), ".part-%d" % os.getpid())
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)


def _damage(place: str) -> Optional[str]:
    """Return what of a bundle's folder is not as its manifest says; None where all is."""
    try:
        manifest = _manifest(place)
        files = {name: (_whole(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
        own = {MANIFEST} | ({CHECKSUMS} if "checksums" in manifest else set())
        own |= {SIGNATURE} if manifest.get("signature") else set()
        if manifest["model"]["file"] not in files:
            return "%s names a model file that is not there" % MANIFEST
        found = {entry.name: entry.stat(follow_symlinks=False) for entry in os.scandir(place)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return "%s cannot be read (%.200s)" % (MANIFEST, error)
    for name in sorted(set(files) | own):
        if name not in found:
            return "%s is missing" % name
    for name, status in sorted(found.items()):
        if name not in files and name not in own:
            return "%.100s is no file of this bundle" % name
        if not stat.S_ISREG(status.st_mode):
            return "%s is no file" % name
        if name in files and status.st_size != files[name][0]:
            return "%s differs" % name
    for name, (_, sha256) in sorted(files.items()):
        if _sha256(os.path.join(place, name)) != sha256:
            return "%s differs" % name
    return None


def _whole(number: Any) -> int:
    """Return a number that JSON gave, where it is a whole one: it may be any other value, infinity among them."""
    if type(number) is not int:
        raise ValueError("%.100r is no number of bytes" % (number,))
    return number


def _manifest(place: str) -> Dict[str, Any]:
    with open(os.path.join(place, MANIFEST), "rb") as file:
        text = file.read(_MOST_MANIFEST_BYTES + 1)
    if len(text) > _MOST_MANIFEST_BYTES:
        raise ValueError("it has more than %d bytes" % _MOST_MANIFEST_BYTES)
    manifest = json.loads(text.decode("utf-8"))
    if not isinstance(manifest, dict) or len(manifest["files"]) > _MOST_FILES:
        raise ValueError("it is no bundle's")
    return manifest


def _copied(source: str, target: str, sha256: str) -> bool:
    """Copy a file, to the disk, and return whether it is what it should be; what is not is removed."""
    digest = hashlib.sha256()
    try:
        with open(source, "rb") as old, open(target, "wb") as new:
            os.fchmod(new.fileno(), 0o644)
            for chunk in iter(lambda: old.read(1 << 20), b""):
                digest.update(chunk)
                new.write(chunk)
            new.flush()
            os.fsync(new.fileno())
    except FileNotFoundError:
        return False
    if digest.hexdigest() != sha256:
        os.remove(target)
        return False
    return True


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _flush(folder: str) -> None:
    """Bring a folder's entries to the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(path: str) -> None:
    """Remove whatever lies there, a read-only folder too."""
    if os.path.isdir(path) and not os.path.islink(path):
        with contextlib.suppress(OSError):
            os.chmod(path, 0o700)
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except FolderError as error:
        raise AgentError(BAD_REQUEST, "cannot use the folder of deployed bundles: %s" % error)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise AgentError(DISK_FULL, "no space left on the device for %s: free some" % error.filename)
        raise AgentError(BAD_REQUEST, "%s: %s" % (error.filename, error.strerror))
