"""`python -m bench.cluster.instructions [--before DIRECTORY] [--json]`: by callgrind.

Instructions per 10,000 commands in the host, without metrics, with, scraped, and watched; of as
many in a guest's link, and of its schedule points. With --before another checkout is counted
too, which is how the price of a change is found. Needs valgrind; takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.cluster.instructed import HOST_SIDES, SIDES
from bench.progress import shown

ROOT: Final = Path(__file__).parents[2]
INSTRUCTED: Final = Path(__file__).with_name("instructed.py")
MARK: Final = "getloadavg"
UNIT: Final = 10_000
BEFORE_SIDES: Final = ("plain", "link", "points")
AIM_PERCENT: Final = 3.0
_TOTALS: Final = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)
_MEANINGS: Final = {
    "plain": "no metrics, nobody watches",
    "metrics": "--metrics, nobody scrapes",
    "scraped": "a scrape for each 10,000 commands",
    "watched": "one watcher",
    "link": "commands through a guest's link",
    "points": "schedule points of a guest",
}


class CallgrindError(Exception):
    """A run failed; one line."""


def count(side: str, number: int, root: Path = ROOT) -> int:
    """Instructions of so many, in the checkout at `root`. Raises CallgrindError."""
    with tempfile.TemporaryDirectory(prefix="essa-bench-") as name:
        parts = Path(name) / "parts"
        command = ["valgrind", "--tool=callgrind", f"--dump-before={MARK}"]
        command += [f"--callgrind-out-file={parts}", sys.executable, str(INSTRUCTED)]
        environment = {
            **os.environ,
            "PYTHONPATH": str(root),
            "PYTHONHASHSEED": "0",  # the same probes of dictionaries every time
            "PYTHONDONTWRITEBYTECODE": "1",
            "NO_PROXY": "*",
        }
        ran = subprocess.run(
            [*command, side, str(number)],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        second = parts.with_suffix(".2")  # from the first mark to the second
        if ran.returncode or not second.exists():
            last = (ran.stderr.strip().splitlines() or ["no output"])[-1]
            text = f"{side} under valgrind ended with code {ran.returncode}: {last}"
            raise CallgrindError(text)
        found = _TOTALS.search(second.read_text())
        assert found is not None
        return int(found[1])


def as_json(figures: dict[str, int], before: dict[str, int]) -> dict[str, Any]:
    """Plain data."""
    return {
        "per": UNIT,
        "instructions": figures,
        "percent_over_plain": {
            side: percent(figures[side], figures["plain"]) for side in HOST_SIDES
        },
        "before": before,
        "percent_over_before": {
            side: percent(figures[side], instructions) for side, instructions in before.items()
        },
        "aim_percent": AIM_PERCENT,
    }


def percent(now: int, then: int) -> float:
    """How many more, in percent."""
    return round((now / then - 1) * 100, 2)


def table(figures: dict[str, int], before: dict[str, int]) -> Table:
    """The same for people."""
    view = Table(title=f"instructions per {UNIT:,}", title_justify="left")
    view.add_column("side")
    for name in ("instructions", "over plain", "over before"):
        view.add_column(name, justify="right")
    for side, instructions in figures.items():
        over = then = ""
        if side in HOST_SIDES:
            over = f"{percent(instructions, figures['plain']):+.2f} %"
        if side in before:
            then = f"{percent(instructions, before[side]):+.2f} %"
        view.add_row(f"{side}: {_MEANINGS[side]}", f"{instructions:,}", over, then)
    view.caption = f"aim: at most {AIM_PERCENT:g} % over, for metrics and for a gate that is idle"
    return view


def main(arguments: list[str] | None = None) -> int:
    """An aim that is missed is shown, not punished."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.cluster.instructions", description=__doc__
    )
    parser.add_argument("--before", type=Path, metavar="DIRECTORY", help="another checkout, set up")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args(arguments)
    if shutil.which("valgrind") is None:
        print("bench.cluster.instructions: valgrind is not installed", file=sys.stderr)
        return 2
    if given.before is not None and not (given.before / "host_daemon").is_dir():
        print(f"bench.cluster.instructions: {given.before} is no checkout", file=sys.stderr)
        return 2
    before: dict[str, int] = {}
    figures: dict[str, int] = {}
    steps = len(SIDES) + (len(BEFORE_SIDES) if given.before else 0)
    try:
        with shown(steps, 16) as begins:
            for side in SIDES:
                begins(side)
                figures[side] = count(side, UNIT)
            for side in BEFORE_SIDES if given.before else ():
                begins(f"{side} before")
                before[side] = count(side, UNIT, given.before.absolute())
    except CallgrindError as error:
        print(f"bench.cluster.instructions: {error}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps(as_json(figures, before), indent=2))
    else:
        Console(width=max(Console().width, 100)).print(table(figures, before))
    return 0


if __name__ == "__main__":
    sys.exit(main())
