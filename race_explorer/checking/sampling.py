"""Schedules of a case under check mode: few, and as different as can be.

Rules:
- Everything follows from seed and number of the schedule, on every machine alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from race_explorer.case import Case
from race_explorer.checking.checked_world import checked
from race_explorer.draws import Draws
from race_explorer.engine import Chooser, Option, run

_STAY: Final = 4
"""Of so many steps all but one go on with whoever went last."""
_FIRST: Final = 8
_DOUBLINGS: Final = 4
"""Races are between so many steps long, and that doubled so many times less one."""
_HOST: Final = "host"


def check_case(case: Case, schedules: int, seed: int, labels: set[str] | None = None) -> list[str]:
    """What steps touched and had not declared, each once; empty if all is well.

    A run ends at the first such step. labels: gathers the labels of all steps taken. Raises
    ValueError for a case that does not exist.
    """
    case.check()
    build = checked(case.build)
    found: dict[str, None] = {}
    for schedule in range(schedules):
        world = build()
        run(lambda world=world: world, schedule_of(seed, schedule))  # type: ignore[misc]
        found.update(dict.fromkeys(world.undeclared))
        if labels is not None:
            labels |= world.labels
    return list(found)


def schedule_of(seed: int, schedule: int) -> Chooser:
    """The first option always, then the last, and from then on drawn ones.

    In turn: any option; rather whoever went last; and the host only from some step on, but then
    as far as it can go.
    """
    if schedule < 2:
        return lambda options: 0 if schedule == 0 else len(options) - 1
    draw = Draws(seed, schedule).below
    begin, taken, last = draw(_FIRST << draw(_DOUBLINGS)), 0, ""

    def choose(options: Sequence[Option]) -> int:
        nonlocal taken, last
        taken += 1
        choices = range(len(options))
        if schedule % 3 == 1 and draw(_STAY):
            wanted = [i for i in choices if _side(options[i].name) == last]
        elif schedule % 3 == 2:
            wanted = [i for i in choices if (_side(options[i].name) == _HOST) is (taken > begin)]
        else:
            wanted = []
        choice = wanted[draw(len(wanted))] if wanted else draw(len(options))
        last = _side(options[choice].name)
        return choice

    return choose


def _side(name: str) -> str:
    """Who a step belongs to: the host's stages and its paging device are one."""
    side = name.split(".")[0]
    return _HOST if side == "paging" else side
