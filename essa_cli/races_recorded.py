"""`essa races replay DIRECTORY`: a run of real processes, made again in the explorer."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from essa_cli.recorded_runs import read_run
from race_explorer.recorded.rerun import Rerun

SLICE: Final = 5_000
"""Steps between two looks at the clock."""
LINE_SECONDS: Final = 5.0
SHOWN_MAX: Final = 5
"""Violations that are printed."""


def replay_recorded(directories: Sequence[Path], *, as_json: bool) -> int:
    """Make the recorded run again; 1 if it comes to be another. Raises CliError."""
    name = " ".join(map(str, directories))
    rerun = read_run(directories)
    if sys.stderr.isatty():
        _with_bar(rerun)
    else:
        _with_lines(rerun)
    rerun.finish()
    if as_json:
        print(json.dumps([{"file": name, **rerun.plain()}]))
    else:
        _print(name, rerun)
    return 1 if rerun.divergence else 0


def _with_bar(rerun: Rerun) -> None:
    columns = TextColumn("steps"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        shown = progress.add_task("steps", total=rerun.step_count)
        while rerun.advance(SLICE):
            progress.update(shown, completed=rerun.steps)


def _with_lines(rerun: Rerun) -> None:
    last = time.monotonic()
    while rerun.advance(SLICE):
        if time.monotonic() - last > LINE_SECONDS:
            last = time.monotonic()
            print(f"{rerun.steps:,} of {rerun.step_count:,} steps", file=sys.stderr)


def _print(name: str, rerun: Rerun) -> None:
    wrong = rerun.wrong()
    verdict = wrong[0].partition("\n")[0] if wrong else "holds"
    good = "NOT REPRODUCED" if rerun.divergence else "reproduced"
    print(f"{good}: {name}: {rerun.steps:,} of {rerun.step_count:,} steps: {verdict}")
    for violation in wrong[1:SHOWN_MAX]:
        print(f"  {violation.partition(chr(10))[0]}")
    if len(wrong) > SHOWN_MAX:
        print(f"  and {len(wrong) - SHOWN_MAX} more")
    if rerun.divergence:
        print(rerun.divergence.describe())
    elif not rerun.complete:
        print("  a log is cut off: it was made again as far as the logs go")
