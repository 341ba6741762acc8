"""`python -m bench.cluster.instructions [--json]`: instructions per 10,000 commands, by callgrind.

With and without metrics, scraped, and watched; and per 10,000 schedule points of a guest without
a gate. Each figure is the difference of two runs, of which one does 10,000 more, so that what
starting costs falls out. Needs valgrind; takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.cluster.instructed import SIDES
from bench.progress import shown

UNIT: Final = 10_000
AIM_PERCENT: Final = 3.0
_COLLECTED: Final = re.compile(r"Collected : (\d+)")
_MEANINGS: Final = {
    "plain": "no metrics, nobody watches",
    "metrics": "--metrics, nobody scrapes",
    "scraped": "a scrape for each 10,000 commands",
    "watched": "one watcher",
}


class CallgrindError(Exception):
    """A run failed; one line."""


def count(side: str, number: int) -> int:
    """Instructions of a whole process that does so many. Raises CallgrindError."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += [sys.executable, "-m", "bench.cluster.instructed", side, str(number)]
    # Hashes, and with them the order of dictionaries' probes, must not differ between runs.
    environment = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        ["env", *(f"{k}={v}" for k, v in environment.items()), *command],
        capture_output=True,
        text=True,
        check=False,
    )
    found = _COLLECTED.search(ran.stderr)
    if ran.returncode or found is None:
        last = (ran.stderr.strip().splitlines() or ["no output"])[-1]
        raise CallgrindError(f"{side} under valgrind ended with code {ran.returncode}: {last}")
    return int(found[1])


def as_json(figures: dict[str, int]) -> dict[str, Any]:
    """Plain data."""
    return {
        "per": UNIT,
        "instructions": figures,
        "percent_over_plain": {side: _percent(figures, side) for side in _MEANINGS},
        "aim_percent": AIM_PERCENT,
    }


def _percent(figures: dict[str, int], side: str) -> float:
    return round((figures[side] / figures["plain"] - 1) * 100, 2)


def table(figures: dict[str, int]) -> Table:
    """The same for people."""
    view = Table(title=f"instructions per {UNIT:,} commands", title_justify="left")
    view.add_column("side")
    for name in ("instructions", "over plain", f"aim {AIM_PERCENT:g} %"):
        view.add_column(name, justify="right")
    for side, meaning in _MEANINGS.items():
        percent = _percent(figures, side)
        aim = "" if side in ("plain", "watched") else "met" if percent <= AIM_PERCENT else "missed"
        view.add_row(f"{side}: {meaning}", f"{figures[side]:,}", f"{percent:+.2f} %", aim)
    view.caption = f"{UNIT:,} schedule points of a guest without a gate: {figures['points']:,}"
    return view


def main(arguments: list[str] | None = None) -> int:
    """An aim that is missed is shown, not punished."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.cluster.instructions", description=__doc__
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args(arguments)
    if shutil.which("valgrind") is None:
        print("bench.cluster.instructions: valgrind is not installed", file=sys.stderr)
        return 2
    figures: dict[str, int] = {}
    try:
        with shown(2 * len(SIDES), 10) as begins:
            for side in SIDES:
                begins(side)
                fewer = count(side, UNIT)
                begins(side)
                figures[side] = count(side, 2 * UNIT) - fewer
    except CallgrindError as error:
        print(f"bench.cluster.instructions: {error}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps(as_json(figures), indent=2))
    else:
        Console(width=max(Console().width, 100)).print(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
