"""Exhaustive search: depth first, each class of equivalent schedules at least once.

Rules:
- The last choice that can still be turned is turned; a search ends when none is left.
- Schedules that differ only in the order of independent steps are skipped (sleep sets); that
  rests on the declared accesses, which check mode compares with what steps really touch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from race_explorer.engine import DivergedError, Path, Touch, World, dependent
from race_explorer.report import End, OnProgress
from race_explorer.report import Report as Report
from race_explorer.strategies.strategy import Kind

NAME: Final = "exhaustive"


@dataclass(slots=True)
class _Node:
    """One decision of the current path. `sleep` and `done` map names to accesses."""

    names: tuple[str, ...]
    sleep: dict[str, tuple[Touch, ...]]
    done: dict[str, tuple[Touch, ...]]
    choice: int

    def advance(self, accesses: tuple[Touch, ...]) -> bool:
        """Turn to the next option that neither sleeps nor was tried; False if there is none."""
        self.done[self.names[self.choice]] = accesses
        for i, name in enumerate(self.names):
            if name not in self.done and name not in self.sleep:
                self.choice = i
                return True
        return False


def explore(
    build: Callable[[], World],
    *,
    schedules_max: int,
    sleep_sets: bool = True,
    stop_at_first: bool = True,
    on_progress: OnProgress | None = None,
) -> Report:
    """Depth-first search of all schedules, at most `schedules_max` of them, pruned ones included.

    on_progress: as for `campaign.search`.
    """
    report, stack = Report(NAME, budget=schedules_max), list[_Node]()
    while report.schedules + report.pruned < schedules_max:
        path, complete = _descend(build(), stack, sleep_sets=sleep_sets)
        if complete:
            report.add(path.record(), Kind(NAME))
        else:
            report.pruned += 1
            report.steps += len(path.steps)
        if stop_at_first and report.counterexample is not None:
            report.end = End.COUNTEREXAMPLE
            return report
        del stack[len(path.taken) :]
        while stack and not stack[-1].advance(path.taken[len(stack) - 1]):
            stack.pop()
        if not stack:
            report.end = End.EXHAUSTED
            return report
        if on_progress is not None and not on_progress(report):
            report.end = End.CALLER
            return report
    return report


def _descend(world: World, stack: list[_Node], *, sleep_sets: bool) -> tuple[Path, bool]:
    """Follow the stack, then first choices to the end; False if all that is left sleeps."""
    path = Path(world)
    sleep: dict[str, tuple[Touch, ...]] = {}
    while not path.violations and (options := world.options()):
        depth, names = len(path.choices), tuple(o.name for o in options)
        if depth == len(stack):
            awake = [i for i, name in enumerate(names) if name not in sleep]
            if not awake:
                return path, False
            stack.append(_Node(names, sleep, {}, awake[0]))
        node = stack[depth]
        if node.names != names:
            raise DivergedError(f"step {depth}: {names} offered, {node.names} before")
        accesses = options[node.choice].accesses
        tried = {**node.sleep, **node.done} if sleep_sets else {}
        sleep = {n: a for n, a in tried.items() if not dependent(a, accesses)}
        path.step(options, node.choice)
    return path, True
