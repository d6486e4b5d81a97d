"""Expected errors, as one tree.

    PipelineError                     exit code 1
    ├── UserError                     exit code 2: what was typed or written has to change
    │   ├── InventoryError            inventory.yaml or a profile
    │   ├── ConfigError               run.yaml or an option
    │   ├── ModelError                cannot be loaded, traced, or its weights do not fit
    │   ├── DataError                 missing, broken, or with too few classes
    │   ├── TargetError               no legal plan meets the target
    │   ├── RunNotFoundError          no such run id
    │   ├── OutputError               the output folder cannot be used
    │   └── BundleError               a bundle is not as it was written, or not signed as it has to be
    ├── DeviceError                   the board or the way to it; says which device
    │   ├── UnreachableError          no connection
    │   ├── HostKeyUnknownError       never trusted
    │   ├── HostKeyChangedError       another key than the one trusted
    │   ├── AuthenticationError       user or key refused
    │   ├── PythonMissingError        no usable python on the board
    │   ├── DiskFullError             nothing left to write on
    │   ├── BoardHeldError            somebody else measures on it
    │   ├── SessionLostError          cut in the middle; a new session may go on
    │   ├── ExchangeTimeoutError      no answer before the deadline
    │   └── AgentError                the agent answered nonsense, another version, or an error of its own
    ├── CandidateError                one candidate failed: recorded as a failed trial, the run goes on
    │   ├── CutError                  the surgery did not give the network that was planned
    │   ├── ExportError               the file differs from the network, or the device cannot load it
    │   ├── MeasureError              the runtime crashed, hung or refused the file on the device
    │   └── WorkerLostError           the worker that computed it was lost, and so were those that tried again
    ├── TrainerError                  exit code 2: the user's own trainer failed; fixed, the run can be resumed
    ├── ConverterError                a converter of model files cannot be installed or started
    ├── WorkersError                  workers cannot be started, reached or sent what they need; the run can be resumed
    ├── FederationError               sites cannot be joined, or the server or a site sent what cannot be used
    ├── StoreError                    a run's files, or a calibration's, are damaged or cannot be written
    │   └── RunInUseError             exit code 2: another process is writing the run
    └── StoppedError                  exit code 130: the user asked the run to stop; it can be resumed

A message says what was wrong, what was found, what would be right and, where it can, the command that fixes it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pipeline.printable import printable_lines


class PipelineError(Exception):
    """Root of every expected failure; its message can be shown anywhere, whoever had a part in its words."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(printable_lines(message))


class UserError(PipelineError):
    """What was typed or written has to change."""

    exit_code = 2


class InventoryError(UserError):
    """inventory.yaml or a profile cannot be used."""


class ConfigError(UserError):
    """run.yaml or an option cannot be used."""


class ModelError(UserError):
    """The model cannot be loaded or traced, or its weights do not fit."""


class DataError(UserError):
    """The data set is missing, broken or too small."""


class TargetError(UserError):
    """No legal plan meets the target."""


class RunNotFoundError(UserError):
    """There is no run of that name."""


class OutputError(UserError):
    """The output folder cannot be used."""


class BundleError(UserError):
    """A bundle's files are not what was written, do not agree, or are not signed as they have to be."""


class DeviceError(PipelineError):
    """The board, or the way to it, failed."""


class UnreachableError(DeviceError):
    """No connection could be made."""


class HostKeyUnknownError(DeviceError):
    """The host key was never trusted."""


class HostKeyChangedError(DeviceError):
    """The host shows another key than the one trusted."""


class AuthenticationError(DeviceError):
    """The user or the key was refused."""


class PythonMissingError(DeviceError):
    """The board has no usable python."""


class DiskFullError(DeviceError):
    """The board has no room left for the file."""


class BoardHeldError(DeviceError):
    """Somebody else measures on the board."""


class SessionLostError(DeviceError):
    """The connection or the agent ended in the middle of an exchange."""


class ExchangeTimeoutError(DeviceError):
    """No answer came before the deadline."""


class AgentError(DeviceError):
    """The agent answered nonsense, speaks another version, or reports an error of its own."""


class CandidateError(PipelineError):
    """One candidate failed; the run goes on."""


class CutError(CandidateError):
    """The surgery did not give the network that was planned."""


class ExportError(CandidateError):
    """The exported file differs from the network, or the device cannot load it."""


class MeasureError(CandidateError):
    """The runtime crashed, hung or refused the file on the device."""


class WorkerLostError(CandidateError):
    """The worker that computed a candidate was lost, and so were those that tried it again."""


class TrainerError(PipelineError):
    """The user's own trainer raised, or did not return the network with other weights."""

    exit_code = 2


class ConverterError(PipelineError):
    """A converter of model files cannot be installed or started."""


class WorkersError(PipelineError):
    """Workers cannot be started, reached, or sent what they need."""


class FederationError(PipelineError):
    """Sites cannot be joined, or the server or a site sent what cannot be used."""


class StoreError(PipelineError):
    """A run's files, or a calibration's, are damaged or cannot be written."""


class RunInUseError(StoreError):
    """Another process is writing the run."""

    exit_code = 2


class StoppedError(PipelineError):
    """The user asked the run to stop; it can be resumed."""

    exit_code = 130


def first_line(error: BaseException) -> str:
    r"""Return the first line of what an exception says; its class's name where it says nothing.

    >>> first_line(ValueError("bad shape\nmore")), first_line(NotImplementedError())
    ('bad shape', 'NotImplementedError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest known word, or nothing.

    >>> nearest("latncy", ["latency", "power"])
    " (did you mean 'latency'?)"
    >>> nearest("zzz", ["latency"])
    ''
    """
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
