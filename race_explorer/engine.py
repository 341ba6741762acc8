"""The step engine: one choice at a time, to exhaustion or by a given list.

Rules:
- A world offers options: what each actor would do next, and what that touches. Running one
  is one atomic step; a run is its list of choices.
- Schedules that differ only in the order of independent steps are skipped (sleep sets).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

ANY = -1


class Touch(Protocol):
    """One declared access; the guest kernel's `Access` is one."""

    @property
    def resource(self) -> tuple[str, int]: ...  # kind, number; ANY is every number of the kind

    @property
    def write(self) -> bool: ...  # whether the step may change it


@dataclass(frozen=True, slots=True)
class Option:
    """What one actor would do next."""

    name: str
    label: str
    accesses: tuple[Touch, ...]
    run: Callable[[], None]


class World(Protocol):
    """One fresh instance of a scenario."""

    def options(self) -> list[Option]:
        """The enabled steps, in an order that depends on nothing but the steps taken."""

    def violations(self) -> list[str]:
        """What has gone wrong so far."""

    def finished(self) -> list[str]:
        """Asked when no step is enabled: what is wrong with ending here."""

    def reached(self) -> set[str]:
        """Which of the scenario's interesting situations have occurred."""


@dataclass(frozen=True, slots=True)
class Run:
    """One schedule: its choices, its steps (actor, label), and how it ended."""

    choices: tuple[int, ...]
    steps: tuple[tuple[str, str], ...]
    violations: tuple[str, ...]
    reached: frozenset[str]


@dataclass(slots=True)
class Report:
    """What a search has found. exhausted: no schedule is left."""

    schedules: int = 0
    pruned: int = 0  # abandoned: what is left differs from a schedule tried by order alone
    steps: int = 0
    exhausted: bool = False
    counterexample: Run | None = None
    reached: Counter[str] = field(default_factory=Counter)


class DivergedError(Exception):
    """The world did not offer what it offered before: it is not deterministic."""


def dependent(a: Sequence[Touch], b: Sequence[Touch]) -> bool:
    """Whether the order of two steps with these accesses can matter."""
    for x in a:
        kind, number = x.resource
        for y in b:
            other_kind, other = y.resource
            if (
                kind == other_kind
                and (x.write or y.write)
                and (number == other or ANY in (number, other))
            ):
                return True
    return False


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


@dataclass(slots=True)
class _Path:
    world: World
    choices: list[int] = field(default_factory=list)
    steps: list[tuple[str, str]] = field(default_factory=list)
    taken: list[tuple[Touch, ...]] = field(default_factory=list)
    violations: tuple[str, ...] = ()

    def step(self, options: list[Option], choice: int) -> None:
        option = options[choice]
        self.choices.append(choice)
        self.steps.append((option.name, option.label))
        self.taken.append(option.accesses)
        option.run()
        self.violations = tuple(self.world.violations())

    def record(self) -> Run:
        return Run(
            tuple(self.choices),
            tuple(self.steps),
            self.violations or tuple(self.world.finished()),
            frozenset(self.world.reached()),
        )


def replay(build: Callable[[], World], choices: Sequence[int]) -> Run:
    """Run one schedule again; past its end the first option. Raises DivergedError."""
    path, rest = _Path(build()), iter(choices)
    while not path.violations and (options := path.world.options()):
        choice = next(rest, 0)
        if choice >= len(options):
            raise DivergedError(f"step {len(path.steps)}: choice {choice} of {len(options)}")
        path.step(options, choice)
    return path.record()


def explore(
    build: Callable[[], World],
    *,
    schedules_max: int,
    sleep_sets: bool = True,
    stop_at_first: bool = True,
) -> Report:
    """Depth-first search of all schedules, at most `schedules_max` of them."""
    report, stack = Report(), list[_Node]()
    while report.schedules + report.pruned < schedules_max:
        path, complete = _descend(build(), stack, sleep_sets=sleep_sets)
        report.steps += len(path.steps)
        if not complete:
            report.pruned += 1
        else:
            report.schedules += 1
            run = path.record()
            report.reached.update(run.reached)
            if run.violations and report.counterexample is None:
                report.counterexample = run
                if stop_at_first:
                    return report
        del stack[len(path.taken) :]
        while stack and not stack[-1].advance(path.taken[len(stack) - 1]):
            stack.pop()
        if not stack:
            report.exhausted = True
            return report
    return report


def _descend(world: World, stack: list[_Node], *, sleep_sets: bool) -> tuple[_Path, bool]:
    """Follow the stack, then first choices to the end; False if all that is left sleeps."""
    path = _Path(world)
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
