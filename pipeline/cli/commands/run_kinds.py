"""`pipeline run` on boards of several kinds: a search and a plan for each, one after the other, of one base model."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from deploy.folder import refuse_used
from pipeline.cli.commands.run import RunArguments, print_found, run_and_show, seen_through, typed_kinds
from pipeline.cli.console import err, out, print_json
from pipeline.cli.options import runs_option
from pipeline.cli.signals import StartUp, stop_requested
from pipeline.cli.views.live import view
from pipeline.cli.views.run import table_of
from pipeline.config import RunConfig
from pipeline.errors import CandidateError, DeviceError, PipelineError, StoppedError, TargetError, UserError
from pipeline.records import Device
from pipeline.report.run_json import as_json
from pipeline.store import Store
from pipeline.store.conditions import base_of, chosen_artifacts
from pipeline.store.facts import BASE_WEIGHTS
from pipeline.store.new_run import require_place
from pipeline.store.task import metric_name


@dataclass(frozen=True, slots=True)
class _Ended:
    """How the search on one kind of board ended."""

    board: Device
    config: RunConfig
    store: Store | None
    """None: it came to no network, ``why`` says what was wrong."""
    why: PipelineError | None = None


def run_kinds_and_show(arguments: RunArguments, *, json: bool) -> None:
    """Run on the boards that were typed; those of several kinds get a search each.

    Raises:
        UserError: something typed cannot be used; of several kinds, one of them came to no network.
    """
    kinds = [] if arguments.resume else typed_kinds(arguments)
    if len(kinds) < 2:
        run_and_show(arguments, json=json)
        return
    if arguments.ladder is not None:
        raise UserError("--ladder is of one kind's network; leave it out, then `pipeline adapt RUN` for each run")
    if arguments.output is not None:
        refuse_used(arguments.output, "bundles")
    require_place(arguments.runs)
    with ExitStack() as stack:
        ended = _all(arguments, kinds, stack.enter_context(stop_requested()), stack)
        folders = _pulled(arguments, ended)
        if json:
            print_json([as_json(one.store) for one in ended if one.store is not None])
        else:
            _print_ends(arguments, ended, folders)
    if failed := [one for one in ended if one.why is not None]:
        said = "; ".join(f"{one.board.name}: {one.why}" for one in failed)
        raise PipelineError(f"{len(failed)} of {len(ended)} kinds of boards came to no network: {said}")


def _all(
    arguments: RunArguments, kinds: Sequence[tuple[RunConfig, Device]], stopping: Callable[[], bool], stack: ExitStack
) -> list[_Ended]:
    """See the search on each kind through; one that fails leaves the others as they are."""
    ended: list[_Ended] = []
    trained: Path | None = None
    for number, (typed, board) in enumerate(kinds, 1):
        err.print(Text(f"kind {number} of {len(kinds)}: {board.kind} ({_boards_of(board)})", style="bold"))
        config = typed if trained is None else typed.model_copy(update={"weights": trained})
        try:
            with view() as show:
                start = StartUp(show, stopping)
                store = seen_through(arguments, None, config, board, start, stopping, stack)
        except StoppedError:
            for _, left in kinds[number:]:
                err.print(f"{_boards_of(left)}: not begun; run on it by itself, or on all anew", markup=False)
            raise
        except (CandidateError, DeviceError, TargetError) as error:  # of this kind; all else is wrong for all of them
            ended.append(_Ended(board, config, None, error))
            if number < len(kinds):
                err.print(f"{board.name} came to no network ({error}); the next kind's turn", markup=False)
            continue
        ended.append(_Ended(board, config, store))
        if trained is None and not config.is_trained:
            trained = store.path / "base.safetensors"
            shutil.copyfile(store.blob(store.required(BASE_WEIGHTS)), trained)
    return ended


def _boards_of(board: Device) -> str:
    return ", ".join(one.name for one in board.boards) or board.name


def _pulled(arguments: RunArguments, ended: Sequence[_Ended]) -> dict[str, Path]:
    """Write each kind's bundle, where that was asked for; return the folders by the runs' names."""
    from pipeline.api import pull

    if arguments.output is None:
        return {}
    arguments.output.mkdir(parents=True, exist_ok=True)
    places = {one.store.id: arguments.output / _folder_of(one.board) for one in ended if one.store is not None}
    for run, place in places.items():
        pull(run, place, runs=arguments.runs)
    return places


def _folder_of(board: Device) -> str:
    return board.name.replace(":", "-")


def _print_ends(arguments: RunArguments, ended: Sequence[_Ended], folders: dict[str, Path]) -> None:
    from pipeline.report.table import comparison

    found = [(one, one.store) for one in ended if one.store is not None]
    for one, store in found:
        out.print()
        out.print(Text(f"{one.board.kind} ({_boards_of(one.board)}), run {store.id}", style="bold"))
        print_found(store)
    if not found:
        return
    table = table_of("boards", "target", "as", "base", "pruned", "change")
    for one, store in found:
        for chosen in chosen_artifacts(store):
            metric = metric_name(store)
            rows = comparison(base_of(store, chosen), chosen.after, metric)
            wanted = [rows[0], next(row for row in rows if row.measure == "Latency, median")]
            for number, row in enumerate(wanted):
                names = (_boards_of(one.board), " ".join(one.config.target) or "none") if number == 0 else ("", "")
                table.add_row(*names, row.measure, row.base, row.pruned, row.change)
    out.print()
    out.print(table)
    out.print()
    for number, (one, store) in enumerate(found):
        label = "next    " if number == 0 else "        "
        if folder := folders.get(store.id):
            out.print(f"bundle  {folder}", markup=False)
            continue
        place = shlex.quote(f"my-model-{_folder_of(one.board)}")
        command = f"pipeline pull {store.id} --output {place}{runs_option(arguments.runs)}"
        out.print(Text(label).append(command, style="bold"), soft_wrap=True)
