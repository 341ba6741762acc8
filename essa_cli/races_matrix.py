"""`essa races kill-matrix`: every guard switched off in turn, over processes."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from essa_cli.errors import CliError
from essa_cli.races_told import write
from race_explorer.catalogue import guards
from race_explorer.kill_matrix import Cell, cells, examine, summary, table
from race_explorer.pictures.matrix import matrix_svg, matrix_table

FAST_SCHEDULES: Final = 20
SCHEDULES: Final = 300

EPILOG: Final = """Example: essa races kill-matrix --fast --jobs 2

Exit codes: 0 every guard is killed and nothing else; 1 not so; 2 bad input."""


def kill_matrix(
    guard: Annotated[list[str] | None, typer.Option(help="Only this one; repeatable.")] = None,
    budget: Annotated[float, typer.Option(min=1, help="Seconds for all searches.")] = 600,
    fast: Annotated[bool, typer.Option("--fast", help="Few schedules with all on.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 2,
    html_file: Annotated[Path | None, typer.Option("--html", help="Heat map to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Switch each guard off in turn: somebody must notice, and nobody with all on."""
    only = guard or []
    unknown = set(only) - {known.name for _, known in guards()}
    if unknown:
        raise CliError(f"no such guard: {', '.join(sorted(unknown))}")
    asked = cells(only, FAST_SCHEDULES if fast else SCHEDULES)
    with Console(stderr=True).status(f"{len(asked)} searches"):
        found = _examined(asked, jobs, budget)
    told = summary(only, found) | {"not_searched": len(asked) - len(found)}
    rows = table(only, found)
    if as_json:
        print(json.dumps(told))
    else:
        print("\n".join(matrix_table(rows)))
        print(f"false alarms: {', '.join(told['false_alarms']) or 'none'}")
        print(f"only together: {', '.join(' + '.join(pair) for pair in told['pairs']) or 'none'}")
        print(f"searches that the budget left out: {told['not_searched']}")
    if html_file is not None:
        write(html_file, f"<!doctype html><meta charset=utf-8>{matrix_svg(rows)}")
    killed = all(row["killed_by"] for row in told["guards"].values())
    return 0 if killed and not told["false_alarms"] and not told["not_searched"] else 1


def _examined(asked: list[Cell], jobs: int, seconds: float) -> dict[Cell, int | None]:
    """What was found within the time; what is not in it was not searched to its end."""
    end = time.monotonic() + seconds
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    running: dict[Future[int | None], Cell] = {pool.submit(examine, cell): cell for cell in asked}
    done, late = wait(running, timeout=max(0.0, end - time.monotonic()))
    for process in list((pool._processes or {}).values()) if late else []:
        process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)
    return {cell: future.result() for future, cell in running.items() if future in done}
