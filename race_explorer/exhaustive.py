"""Exhaustive search: depth first, each class of equivalent schedules at least once.

Rules:
- The last choice that can still be turned is turned; a search ends when none is left.
- Schedules that differ only in the order of independent steps are skipped; that rests on the
  declared accesses, which check mode compares with what steps really touch.
- Where a run goes wrong the search goes no deeper: what would have come is not looked at.

What source sets are worth, in runs (complete + abandoned): of make-stable-overtakes sleep sets need
819 + 1,549, source sets 819 + 5 and half the time; of copy-source-discarded 195 + 1,126, against
195 + 0 and a quarter of the time. Plain search is not done with either after 4,700 runs. Where
sleep sets abandon little already, looking for races costs more than it saves: a third more time
for second-discard-fault (137 + 0 either way), an eighth more for idle-vcpu-never-ticks (227 + 675,
against 227 + 435). Finding what every guard is there for takes little more than half the time.
`python -m bench.explorer` measures these.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from race_explorer.engine import DivergedError, Path, World, dependent
from race_explorer.report import End, OnProgress
from race_explorer.report import Report as Report
from race_explorer.source_sets import Accesses, Node, Races
from race_explorer.strategies.strategy import Kind

NAME: Final = "exhaustive"


class Reduction(Enum):
    """Which schedules are skipped. All meet every class; what they meet in vain differs."""

    NONE = "none"
    SLEEP_SETS = "sleep sets"  # each class once, but most tries are found out half way
    SOURCE_SETS = "source sets"  # and besides, only tries that some race calls for


def explore(
    build: Callable[[], World],
    *,
    schedules_max: int,
    reduction: Reduction = Reduction.SOURCE_SETS,
    stop_at_first: bool = True,
    on_progress: OnProgress | None = None,
) -> Report:
    """Depth-first search of all schedules, at most `schedules_max` of them, pruned ones included.

    on_progress: as for `campaign.search`.
    """
    report, search = Report(NAME, budget=schedules_max), _Search(reduction)
    while report.schedules + report.pruned < schedules_max:
        path, complete = search.descend(build())
        if complete:
            report.add(path.record(), Kind(NAME))
        else:
            report.pruned += 1
            report.steps += len(path.steps)
        if stop_at_first and report.counterexample is not None:
            report.end = End.COUNTEREXAMPLE
            return report
        if not search.turn(path):
            report.end = End.EXHAUSTED
            return report
        if on_progress is not None and not on_progress(report):
            report.end = End.CALLER
            return report
    return report


class _Search:
    """The current path, and what is still to be tried along it."""

    def __init__(self, reduction: Reduction) -> None:
        self._stack: list[Node] = []
        self._sleeping = reduction is not Reduction.NONE
        self._races = Races(self._stack) if reduction is Reduction.SOURCE_SETS else None

    def descend(self, world: World) -> tuple[Path, bool]:
        """Follow the stack, then go on to the end; False if all that is left sleeps."""
        path, stack, races = Path(world), self._stack, self._races
        sleep: dict[str, Accesses] = {}
        while not path.violations and (options := world.options()):
            depth, names = len(path.choices), tuple(o.name for o in options)
            if depth == len(stack):
                if races is not None:
                    races.enter(options, world.waiting())
                awake = [i for i, name in enumerate(names) if name not in sleep]
                if not awake:
                    return path, False
                wanted = list(names) if races is None else [names[awake[0]]]
                stack.append(Node(names, sleep, wanted, awake[0]))
            node = stack[depth]
            if node.names != names:
                raise DivergedError(f"step {depth}: {names} offered, {node.names} before")
            if races is not None and depth == races.taken:
                races.take(names[node.choice])
            accesses = options[node.choice].accesses
            # Up to the last node of the stack it is known already who sleeps.
            if self._sleeping and depth + 1 == len(stack):
                tried = {**node.sleep, **node.done}
                sleep = {n: a for n, a in tried.items() if not dependent(a, accesses)}
            path.step(options, node.choice)
        if races is not None and not path.violations:
            races.enter([], world.waiting())
        return path, True

    def turn(self, path: Path) -> bool:
        """Turn the last choice of the path that can be turned; False if none can."""
        stack, races = self._stack, self._races
        if path.violations and stack:
            # Nobody else comes to a step behind a violation.
            last = stack[-1]
            last.wanted += [name for name in last.names if name not in last.wanted]
        while stack and not stack[-1].advance(path.taken[len(stack) - 1]):
            stack.pop()
        if races is not None and stack:
            races.back_to(len(stack) - 1)
        return bool(stack)
