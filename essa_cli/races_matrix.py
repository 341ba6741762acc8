"""`essa races kill-matrix`: every guard switched off in turn, over processes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from essa_cli.errors import CliError
from essa_cli.races_pool import examined
from essa_cli.races_series import series_matrix
from essa_cli.races_told import write
from guest_agent.kernel.guards import PRESETS
from race_explorer.case import FIXED_PRESET
from race_explorer.catalogue import guards
from race_explorer.kill_matrix import FAST, FULL, Cell, cells, examine, summary, table
from race_explorer.pictures.matrix import matrix_svg, matrix_table

SECONDS: Final = 600.0
FAST_SECONDS: Final = 42.0
"""Starting and ending the processes, and printing, come on top."""
CHUNK: Final = 16
"""Short searches that a process makes at a time."""

KILLED: Final = 0
NOT_KILLED: Final = 1
INCONCLUSIVE: Final = 3

EPILOG: Final = """Example: essa races kill-matrix --fast --jobs 2

Exit codes: 0 every guard is killed and nothing else; 1 not so; 2 bad input; 3 the budget ran out
before that was known."""


def kill_matrix(
    guard: Annotated[list[str] | None, typer.Option(help="Only this one; repeatable.")] = None,
    preset: Annotated[
        str, typer.Option(help="seed: which known defects of the 2005 series are found.")
    ] = FIXED_PRESET,
    budget: Annotated[
        float | None,
        typer.Option(min=1, help=f"Seconds for all; {SECONDS:g}, or {FAST_SECONDS:g} if --fast."),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Few seeds, few schedules.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 2,
    html_file: Annotated[Path | None, typer.Option("--html", help="Heat map to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Switch each guard off in turn: somebody must notice, and nobody with all on."""
    only = guard or []
    unknown = set(only) - {known.name for _, known in guards()}
    if unknown:
        raise CliError(f"no such guard: {', '.join(sorted(unknown))}")
    if preset not in PRESETS:
        raise CliError(f"--preset is {preset!r}; it must be {' or '.join(PRESETS)}")
    seconds = budget or (FAST_SECONDS if fast else SECONDS)
    if preset != FIXED_PRESET:
        if only or html_file:
            raise CliError(f"--guard and --html are for preset {FIXED_PRESET}")
        return series_matrix(jobs=jobs, seconds=seconds, as_json=as_json)
    effort = FAST if fast else FULL
    asked = cells(only, effort)
    with Console(stderr=True).status(f"{len(asked)} searches"):
        found = examined(examine, _chunks(asked), jobs=jobs, seconds=seconds)
    told = summary(only, found) | {"not_searched": len(asked) - len(found)}
    rows = table(only, found)
    if as_json:
        print(json.dumps(told))
    else:
        print("\n".join(matrix_table(rows)))
        print(f"median: over {effort.seeds} seeds, of schedules drawn until it is found")
        print(f"false alarms: {', '.join(told['false_alarms']) or 'none'}")
        print(f"only together: {', '.join(' + '.join(pair) for pair in told['pairs']) or 'none'}")
        print(f"searches that the budget left out: {told['not_searched']} of {len(asked)}")
    if html_file is not None:
        write(html_file, f"<!doctype html><meta charset=utf-8>{matrix_svg(rows)}")
    return exit_code(told, [cell for cell in asked if cell not in found])


def exit_code(told: Mapping[str, Any], not_searched: list[Cell]) -> int:
    """A false alarm, and a guard that was looked for everywhere and not found, are certain."""
    open_guards = {guard for cell in not_searched for guard in cell.off}
    alive = {name for name, row in told["guards"].items() if not row["killed_by"]}
    if told["false_alarms"] or alive - open_guards:
        return NOT_KILLED
    return INCONCLUSIVE if not_searched else KILLED


def _chunks(asked: list[Cell]) -> list[list[Cell]]:
    """Searches that may be long by themselves, short ones together; in their order."""
    chunks = [[cell] for cell in asked if cell.named]
    short = [cell for cell in asked if not cell.named]
    return [*chunks, *(short[at : at + CHUNK] for at in range(0, len(short), CHUNK))]
