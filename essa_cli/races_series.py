"""`essa races kill-matrix --preset seed`: which known defects of the 2005 series are found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from essa_cli.races_pool import examined
from race_explorer.series_defects import MUST_BE_FOUND, scenarios, sight, summary

REPLAYS: Final = Path("tests/replays")
"""In a checkout; the files there are named by preset and scenario."""


def series_matrix(*, jobs: int, seconds: float, as_json: bool) -> int:
    """Print the table. 0: all that must be found is, 1: not so, 3: the time ran out before."""
    asked = scenarios()
    with Console(stderr=True).status(f"{len(asked)} searches"):
        found = examined(sight, [[name] for name in asked], jobs=jobs, seconds=seconds)
    left_out = len(asked) - len(found)
    told = summary(found) | {"not_searched": left_out}
    for defect in told["defects"]:
        for sighting in defect["found_by"]:
            sighting["replay"] = _file(sighting["replay"])
    if as_json:
        print(json.dumps(told))
    else:
        _print(told)
    if not told["missing_rows"]:
        return 0
    return 3 if left_out else 1


def _file(name: str) -> str | None:
    """The committed replay, by the path under which the commands find it from here."""
    path = REPLAYS / name
    for root in (Path(), Path(__file__).parents[1]):
        if (root / path).exists():
            return str(root / path)
    return None


def _print(told: dict[str, Any]) -> None:
    table = Table("rows", "guard that is missing", "scenario", "schedules", "replay")
    for defect in told["defects"]:
        rows, guard = " ".join(defect["rows"]) or "-", defect["guard"]
        for sighting in defect["found_by"]:
            count, replay = f"{sighting['schedules']:,}", sighting["replay"] or "-"
            table.add_row(rows, guard, sighting["scenario"], count, replay)
            rows, guard = "", ""
        if not defect["found_by"]:
            table.add_row(rows, guard, "not found", "", "")
    console = Console()
    console.print(table, soft_wrap=True)
    known = ", ".join(MUST_BE_FOUND)
    missing = ", ".join(told["missing_rows"]) or "none"
    print(f"of {known}, not found: {missing}; searches left out: {told['not_searched']}")
