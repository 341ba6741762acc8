"""Steps that are declared independent may change places, and nothing comes of it.

Method: a schedule of each scenario; wherever two neighbours of different actors are independent,
and the second could have come first, the run is made again with the two exchanged and the rest as
it was. Every step must be offered again, by the same actor with the same label, and the end must be
the same: verdict, pages, states, keys. It is what sleep sets rest on, and it asks nothing of check
mode: not which places there are, nor what needs no record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from race_explorer.case import Case
from race_explorer.checking.sampling import schedule_of
from race_explorer.engine import Option, dependent, run
from race_explorer.scenarios import SCENARIOS
from race_explorer.world import GUEST, SimWorld

SCHEDULES = (3, 4, 5)
PAIRS_MAX = 6
"""Of each schedule, spread over its length."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run, and what was offered before it."""

    name: str
    label: str
    offered: dict[str, Option]


@dataclass(frozen=True, slots=True)
class Ending:
    """What is left of a run."""

    steps: tuple[tuple[str, str], ...]
    violations: tuple[str, ...]
    pages: tuple[tuple[int, ...], ...]


def ending(world: SimWorld, steps: Sequence[tuple[str, str]], violations: Sequence[str]) -> Ending:
    kernel, host = world.kernel, world.host
    pages = tuple(
        (
            page.flags,
            page.count,
            page.mapcount,
            page.private,
            host.state_byte(GUEST, page.pfn),
            host.storage_key(GUEST, page.pfn),
        )
        for page in kernel.mem_map
    )
    return Ending(tuple(steps), tuple(violations), pages)


def walk(case: Case, schedule: int) -> tuple[list[Step], Ending]:
    """One schedule, with all that was offered on the way."""
    world, choose, steps = case.build(), schedule_of(5, schedule), list[Step]()

    def choose_and_note(options: Sequence[Option]) -> int:
        choice = choose(options)
        offered = {option.name: option for option in options}
        steps.append(Step(options[choice].name, options[choice].label, offered))
        return choice

    done = run(lambda: world, choose_and_note)
    return steps, ending(world, done.steps, done.violations)


def follow(build: Callable[[], SimWorld], names: Sequence[str]) -> Ending:
    """A run in which the named actors take their turns."""
    world, rest = build(), iter(names)

    def choose(options: Sequence[Option]) -> int:
        return [option.name for option in options].index(next(rest, ""))

    done = run(lambda: world, choose)
    return ending(world, done.steps, done.violations)


def may_change_places(steps: Sequence[Step], i: int) -> bool:
    """Whether steps i and i + 1 are independent, and the second could have come first."""
    first, second = steps[i], steps[i + 1]
    now, then = first.offered.get(second.name), second.offered[second.name]
    if now is None or second.name == first.name or now.label != then.label:
        return False
    if dependent(first.offered[first.name].accesses, then.accesses):
        return False
    # Transfers and the like are called by number: two that begin would change their names.
    after = steps[i + 2].offered if i + 2 < len(steps) else {}
    begun = [name for name in after if name not in first.offered and name[:3] != "cpu"]
    return len(begun) < 2


def exchanged(case: Case, steps: Sequence[Step], i: int) -> Ending | None:
    """How the run ends with steps i and i + 1 exchanged; None if a step is not offered then."""
    names = [step.name for step in steps]
    names[i : i + 2] = names[i + 1], names[i]
    try:
        return follow(case.build, names)
    except ValueError:
        return None


def in_order(end: Ending, i: int) -> Ending:
    """The same end of the run with steps i and i + 1 exchanged."""
    steps = list(end.steps)
    steps[i : i + 2] = steps[i + 1], steps[i]
    return Ending(tuple(steps), end.violations, end.pages)


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_independent_neighbours_may_change_places(name: str) -> None:
    case = Case(name)
    for schedule in SCHEDULES:
        steps, end = walk(case, schedule)
        pairs = [i for i in range(len(steps) - 1) if may_change_places(steps, i)]
        for i in pairs[:: max(1, len(pairs) // PAIRS_MAX)]:
            assert exchanged(case, steps, i) == in_order(end, i), f"{schedule}: steps {i}, {i + 1}"


def test_dependent_neighbours_may_not() -> None:
    """The method can fail: exchanged all the same, some of these end otherwise."""
    different = 0
    for name in ("answered-before-the-splice", "interrupted-holder", "last-put-in-an-interrupt"):
        case = Case(name)
        steps, end = walk(case, 3)
        for i in range(len(steps) - 1):
            offered = steps[i + 1].name in steps[i].offered
            if offered and steps[i].name != steps[i + 1].name and not may_change_places(steps, i):
                different += exchanged(case, steps, i) != in_order(end, i)
    assert different
