"""The committed replays: one for every guard that a scenario misses, and for the 2005 series.

Rules:
- A file is named by the guards that are off, joined by "+"; where a second scenario misses the
  same ones, its name follows. Those of preset `seed` are named by the scenario.
- Making them is a search and a shrink each, bounded by counts: it gives the same files anywhere.

    python -m race_explorer.replays.library tests/replays
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from race_explorer.case import Case
from race_explorer.engine import Run
from race_explorer.exhaustive import explore
from race_explorer.recording import record
from race_explorer.recycling import recycled
from race_explorer.replays.policies import SCHEDULES_MAX as AROUND_MAX
from race_explorer.replays.policies import Policy, rerun
from race_explorer.replays.replay import VIOLATED, FoundBy, Replay, replay_of
from race_explorer.replays.text import SUFFIX, dumps
from race_explorer.scenarios import SCENARIOS
from race_explorer.shrinking import Shrunk, shrink

STRATEGY: Final = "exhaustive"
SEED_PRESET: Final = "seed"
SCHEDULES_MAX: Final = 60_000
SEED_SCHEDULES_MAX: Final = 4_000
"""Less than for a guard, because what is not found there may not be there."""


def replay_for(case: Case, run: Run, *, strategy: str, schedule: int, seed: int = -1) -> Replay:
    """The replay of a failing run, shrunk. Raises ValueError if the run does not fail.

    strategy, schedule, seed: how it was found, as in `FoundBy`.
    """
    shrunk = shrink(case, run.choices)
    found_by = FoundBy(
        strategy=strategy,
        schedule=schedule,
        seed=seed,
        deviations=shrunk.before.deviations,
        steps=shrunk.before.steps,
        replays=shrunk.replays,
    )
    return _recorded(shrunk, found_by)


def renewed(replay: Replay, *, schedules_max: int = AROUND_MAX) -> Replay | None:
    """The replay for today's code; None if its violation is not found around it any more.

    Raises ValueError for a replay of a run that holds.
    """
    if replay.expect.verdict != VIOLATED:
        raise ValueError("expect.verdict: only what is violated can be found again")
    outcome = rerun(replay, Policy.EXPLORE, schedules_max=schedules_max)
    if not outcome.reproduced:
        return None
    return _recorded(shrink(replay.case, outcome.recording.choices), replay.found_by)


def _recorded(shrunk: Shrunk, found_by: FoundBy) -> Replay:
    recording = record(shrunk.case.build, shrunk.run.choices)
    return replay_of(shrunk.case, recording, found_by)


def removals() -> dict[str, Case]:
    """Every removal that a scenario names, by the name of its file."""
    found: dict[str, Case] = {}
    for scenario in SCENARIOS.values():
        for guards, _ in scenario.removals():
            name = "+".join(guards)
            found[f"{name}.{scenario.name}" if name in found else name] = Case(
                scenario.name, without=guards
            )
    return found


def series() -> dict[str, Case]:
    """Every scenario under the guards of the 2005 series, by the name that its file would have."""
    return {f"{SEED_PRESET}.{name}": Case(name, preset=SEED_PRESET) for name in SCENARIOS}


def library() -> Iterator[tuple[str, Replay]]:
    """All files that belong into the library, by name."""
    for cases, budget in ((removals(), SCHEDULES_MAX), (series(), SEED_SCHEDULES_MAX)):
        for name, case in cases.items():
            report = explore(recycled(case.build), schedules_max=budget)
            if report.counterexample is not None:
                yield (
                    name,
                    replay_for(
                        case,
                        report.counterexample,
                        strategy=STRATEGY,
                        schedule=report.schedules,
                    ),
                )


def write_library(folder: Path) -> Iterator[Path]:
    """Write all files, one at a time; at the end remove those that do not belong there."""
    written: set[Path] = set()
    for name, replay in library():
        path = folder / f"{name}{SUFFIX}"
        path.write_text(dumps(replay), encoding="utf-8")
        written.add(path)
        yield path
    for path in folder.glob(f"*{SUFFIX}"):
        if path not in written:
            path.unlink()


if __name__ == "__main__":
    for path in write_library(Path(sys.argv[1])):
        print(path)
