"""Exhaustive search cut into subtrees, which may be searched anywhere and make one report.

Rules:
- The first DEPTH choices are turned one by one, with sleep sets; each way through them is a
  subtree, which inherits who sleeps there. Below, the search is `exhaustive.explore`.
- The subtrees together are one search, in a fixed order: the report does not depend on who
  searched which. It meets every class of equivalent schedules once, as `explore` does, but may
  abandon more of them: source sets do not reach above a cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from race_explorer.engine import Option, Run, Touch, World, dependent, replay
from race_explorer.exhaustive import NAME, explore
from race_explorer.report import End, Place, Report
from race_explorer.strategies.strategy import Kind

DEPTH: Final = 6
"""Some tens of subtrees of a short scenario, and a few schedules in a hundred abandoned."""
_ASLEEP: Final = "(whatever is left here was tried elsewhere)"

Build = Callable[[], World]
Sleep = Mapping[str, tuple[Touch, ...]]


@dataclass(frozen=True, slots=True)
class Subtree:
    """All schedules that begin with these choices, but for those that begin with a sleeper.

    sleep: who was tried before, with the accesses of the step.
    """

    choices: tuple[int, ...]
    sleep: Sleep


def subtrees(build: Build, depth: int = DEPTH) -> list[Subtree]:
    """The subtrees of a search, in its order. depth: choices above the cut."""
    return list(_below(build, (), {}, depth))


def _below(build: Build, choices: tuple[int, ...], sleep: Sleep, depth: int) -> Iterator[Subtree]:
    world = _Cut(_after(build, choices), sleep)
    # All is asked before the next world is built: there may be only one at a time.
    turns = [(index, option.name, option.accesses) for index, option in world.awake()]
    if not turns or len(choices) == depth:
        yield Subtree(choices, dict(sleep))
        return
    tried = dict(sleep)
    for index, name, accesses in turns:
        below = _still_asleep(tried, accesses)
        yield from _below(build, (*choices, index), below, depth)
        tried[name] = accesses


def search_subtree(build: Build, subtree: Subtree, schedules_max: int) -> Report:
    """Search one subtree; as `explore`, and up to its first violation."""

    def cut() -> World:
        return _Cut(_after(build, subtree.choices), subtree.sleep)

    report = explore(cut, schedules_max=schedules_max)
    asleep = report.reached.pop(_ASLEEP, 0)
    report.steps += len(subtree.choices) * (report.schedules + report.pruned)
    report.schedules -= asleep
    report.pruned += asleep
    if report.counterexample is not None and report.found is not None:
        report.found = Place(report.found.number - asleep, report.found.kind)
        report.counterexample = _whole(build, subtree, report.counterexample)
    return report


def joined(
    parts: Iterable[Report], schedules_max: int, search: Callable[[int, int], Report]
) -> Report:
    """One report of all subtrees in their order, each searched with the whole budget.

    parts: taken one by one, and no further than needed. search(number, budget): searches a
    subtree again with what is left of the budget, where that is less than the part took.
    """
    whole = Report(NAME, budget=schedules_max, end=End.EXHAUSTED)
    for number, given in enumerate(parts):
        left, part = schedules_max - whole.schedules - whole.pruned, given
        if part.schedules + part.pruned > left:
            part = search(number, left)
        if part.found is not None:
            whole.found = Place(whole.schedules + part.found.number, part.found.kind)
            whole.counterexample = part.counterexample
        whole.schedules += part.schedules
        whole.pruned += part.pruned
        whole.steps += part.steps
        whole.violated += part.violated
        whole.reached.update(part.reached)
        whole.end = part.end
        if part.end is not End.EXHAUSTED:
            break
    whole.kinds[Kind(NAME)] = whole.schedules
    return whole


class _Cut:
    """A world some way on, in which sleepers offer nothing until somebody touches what they do."""

    def __init__(self, world: World, sleep: Sleep) -> None:
        self._world = world
        self._sleep = sleep
        self._asleep: bool | None = None

    def awake(self) -> list[tuple[int, Option]]:
        """What is offered, with the world's own index of it."""
        if self._world.violations():
            return []
        offered = enumerate(self._world.options())
        return [(index, option) for index, option in offered if option.name not in self._sleep]

    def options(self) -> list[Option]:
        return [
            Option(option.name, option.label, partial(_touched, option), partial(self._run, option))
            for _, option in self.awake()
        ]

    def _run(self, option: Option) -> None:
        accesses = option.accesses
        self._sleep = _still_asleep(self._sleep, accesses)
        option.run()

    def waiting(self) -> list[Option]:
        return self._world.waiting()

    def violations(self) -> list[str]:
        return self._world.violations()

    def finished(self) -> list[str]:
        if self._world.violations():
            return self._world.violations()
        return [] if self._sleepers_left() else self._world.finished()

    def reached(self) -> set[str]:
        return {_ASLEEP} if self._sleepers_left() else self._world.reached()

    def _sleepers_left(self) -> bool:
        """Asked once, at the end: what settles a finished world may leave something to do."""
        if self._asleep is None:
            self._asleep = not self._world.violations() and bool(self._world.options())
        return self._asleep


def _touched(option: Option) -> tuple[Touch, ...]:
    return option.accesses


def _still_asleep(sleep: Sleep, accesses: Sequence[Touch]) -> Sleep:
    return {name: own for name, own in sleep.items() if not dependent(own, accesses)}


def _after(build: Build, choices: Sequence[int]) -> World:
    world = build()
    for choice in choices:
        world.options()[choice].run()
    return world


def _whole(build: Build, subtree: Subtree, run: Run) -> Run:
    """The run with its first choices, and all as the world itself numbers them."""
    world, choices = _Cut(_after(build, subtree.choices), subtree.sleep), [*subtree.choices]
    for choice in run.choices:
        choices.append(world.awake()[choice][0])
        world.options()[choice].run()
    return replay(build, choices)
