"""The hunt: compositions under every guard of a preset, and what goes wrong in them.

Rules:
- Composition `n` of a hunt, and the schedules that it is tried under, depend on the seed and on
  `n` alone: a hunt may be cut into ranges that are made anywhere.
- Of everything that goes wrong in one way (`signature`) the first is kept, the others counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from race_explorer.campaign import search
from race_explorer.case import FIXED_PRESET, Case
from race_explorer.catalogue import lacks
from race_explorer.draws import Draws
from race_explorer.engine import Run
from race_explorer.hunt.composition import COMPOSED
from race_explorer.hunt.drawing import draw
from race_explorer.recycling import recycled
from race_explorer.signature import signature

STRATEGY: Final = "portfolio"
SCHEDULES_EACH: Final = 20
"""Schedules that one composition is tried under, if none of them goes wrong."""
CLOSING_SCHEDULES: Final = 400
"""Schedules without a violation after which a guard is said to close a hole."""


@dataclass(frozen=True, slots=True)
class Hole:
    """One way to go wrong, as it was first seen. number: of its composition in the hunt."""

    signature: str
    case: Case
    run: Run
    number: int


@dataclass(slots=True)
class Hunted:
    """What a hunt, or a range of it, has come to. seen: runs that went wrong, by signature."""

    compositions: int = 0
    schedules: int = 0
    steps: int = 0
    holes: dict[str, Hole] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def add(self, other: Hunted) -> None:
        """Take in a range that comes behind."""
        self.compositions += other.compositions
        self.schedules += other.schedules
        self.steps += other.steps
        for name, hole in other.holes.items():
            self.holes.setdefault(name, hole)
        for name, count in other.seen.items():
            self.seen[name] = self.seen.get(name, 0) + count


def composition_case(seed: int, number: int, preset: str, without: tuple[str, ...]) -> Case:
    """The case of one composition of a hunt."""
    text = str(draw(Draws(seed, number).below))
    return Case(COMPOSED, preset=preset, without=without, workload=text)


def hunt(
    preset: str,
    without: tuple[str, ...],
    *,
    seed: int,
    numbers: Iterable[int],
    on_progress: Callable[[Hunted], None] = lambda _: None,
) -> Hunted:
    """Try the compositions with these numbers. Raises ValueError for an unknown guard or preset."""
    found = Hunted()
    for number in numbers:
        case = composition_case(seed, number, preset, without)
        case.check()
        report = search(recycled(case.build), STRATEGY, SCHEDULES_EACH, number, classify_every=0)
        found.compositions += 1
        found.schedules += report.schedules
        found.steps += report.steps
        run = report.counterexample
        if run is not None:
            name = signature(run.violations)
            found.seen[name] = found.seen.get(name, 0) + 1
            found.holes.setdefault(name, Hole(name, case, run, number))
        on_progress(found)
    return found


def closing_guards(case: Case, name: str, schedules: int = CLOSING_SCHEDULES) -> list[str] | None:
    """The guards that the preset lacks and of which each alone closes the hole in this case.

    Closed: no schedule of so many ends in a violation of this signature. None: nothing can be
    said, because as many do not find it with no guard added either.
    """
    if not _found(case, name, schedules):
        return None
    missing = lacks(case.protections().guest)
    return [
        guard
        for guard in missing
        if not _found(
            replace(case, preset=FIXED_PRESET, without=tuple(g for g in missing if g != guard)),
            name,
            schedules,
        )
    ]


def _found(case: Case, name: str, schedules: int) -> bool:
    seen = False

    def look(report: object) -> bool:
        return not seen

    def build_and_run(number: int) -> bool:
        report = search(
            recycled(case.build),
            STRATEGY,
            SCHEDULES_EACH,
            number,
            classify_every=0,
            on_progress=look,
        )
        run = report.counterexample
        return run is not None and signature(run.violations) == name

    return any(build_and_run(number) for number in range(schedules // SCHEDULES_EACH))
