"""What lies around a schedule: the same beginning, and then ever more deviations.

Rules:
- Schedules come by the number of deviations after the beginning: none, then every single one,
  then every two. With no bound on that number each schedule of that beginning comes once.
- Nothing is drawn: the order is fixed, and a budget cuts it off at the same place everywhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from race_explorer.engine import STEPS_MAX
from race_explorer.recycling import recycled
from race_explorer.replays.guides import Attempt, Indexed, attempt
from race_explorer.world import SimWorld


def around(
    build: Callable[[], SimWorld],
    beginning: Sequence[int],
    *,
    further_max: int,
    steps_max: int = STEPS_MAX,
) -> Iterator[Attempt]:
    """Runs that begin with these choices, and deviate up to `further_max` times after them.

    Runs of more than `steps_max` steps are cut off, and left out together with what is like them.
    """
    worlds, waiting = recycled(build), deque([(tuple(beginning), 0)])
    while waiting:
        fixed, further = waiting.popleft()
        made = attempt(worlds, Indexed(dict(enumerate(fixed, 1))), steps_max=steps_max)
        if made is None:
            continue
        yield made
        if further < further_max:
            choices = made.run.choices
            waiting.extend(
                ((*choices[:i], other), further + 1)
                for i in range(len(fixed), len(choices))
                for other in range(made.offered[i])
                if other != choices[i]
            )
