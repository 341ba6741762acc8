"""The step engine: one choice at a time, by whatever makes the choices.

Rules:
- A world offers options: what each actor would do next, and what that touches. Running one
  is one atomic step; a run is its list of choices, and replays from it.
- Everything that could happen otherwise is a choice between options: order, faults, ticks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

ANY: Final = -1
STEPS_MAX: Final = 20_000
"""Longer than any scenario; a run that comes here does not end."""


class Touch(Protocol):
    """One declared access; the guest kernel's `Access` is one."""

    @property
    def resource(self) -> tuple[str, int]: ...  # kind, number; ANY is every number of the kind

    @property
    def write(self) -> bool: ...  # whether the step may change it


class Option:
    """What one actor would do next.

    accesses: what that touches, or a function that tells. It is asked once at most, and has to be
    asked before anybody takes a step; most options are looked at for nothing but their names.
    """

    __slots__ = ("_accesses", "label", "name", "run")

    def __init__(
        self,
        name: str,
        label: str,
        accesses: tuple[Touch, ...] | Callable[[], tuple[Touch, ...]],
        run: Callable[[], None],
    ) -> None:
        self.name = name
        self.label = label
        self.run = run
        self._accesses = accesses

    @property
    def accesses(self) -> tuple[Touch, ...]:
        """What the step touches."""
        accesses = self._accesses
        if not isinstance(accesses, tuple):
            self._accesses = accesses = accesses()
        return accesses


class World(Protocol):
    """One fresh instance of a scenario."""

    def options(self) -> list[Option]:
        """The enabled steps, in an order that depends on nothing but the steps taken."""

    def waiting(self) -> list[Option]:
        """Steps that somebody stands before and cannot take as things are; not to be run."""

    def violations(self) -> list[str]:
        """What has gone wrong so far."""

    def finished(self) -> list[str]:
        """Asked when no step is enabled: what is wrong with ending here."""

    def reached(self) -> set[str]:
        """Which of the scenario's interesting situations have occurred."""


Chooser = Callable[[Sequence[Option]], int]
"""Asked before every step: the index of the option that is next."""


@dataclass(frozen=True, slots=True)
class Run:
    """One schedule: its choices, its steps (actor, label), and how it ended."""

    choices: tuple[int, ...]
    steps: tuple[tuple[str, str], ...]
    violations: tuple[str, ...]
    reached: frozenset[str]


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
class Path:
    """A run under way. touching: whether it is kept in `taken` what the steps touch."""

    world: World
    touching: bool = True
    choices: list[int] = field(default_factory=list)
    steps: list[tuple[str, str]] = field(default_factory=list)
    taken: list[tuple[Touch, ...]] = field(default_factory=list)
    violations: tuple[str, ...] = ()

    def step(self, options: Sequence[Option], choice: int) -> None:
        """Take one step, and look what it did."""
        option = options[choice]
        self.choices.append(choice)
        self.steps.append((option.name, option.label))
        if self.touching:
            self.taken.append(option.accesses)
        option.run()
        self.violations = tuple(self.world.violations())
        if len(self.steps) == STEPS_MAX and not self.violations:
            self.violations = (f"no end after {STEPS_MAX} steps",)

    def record(self) -> Run:
        """What the run was, now that it is over."""
        return Run(
            tuple(self.choices),
            tuple(self.steps),
            self.violations or tuple(self.world.finished()),
            frozenset(self.world.reached()),
        )


def run(build: Callable[[], World], choose: Chooser) -> Run:
    """Run one schedule to its end or to its first violation."""
    path = Path(build(), touching=False)
    while not path.violations and (options := path.world.options()):
        path.step(options, choose(options))
    return path.record()


def replay(build: Callable[[], World], choices: Sequence[int]) -> Run:
    """Run one schedule again; past its end the first option. Raises DivergedError."""
    rest = iter(choices)
    taken = 0

    def choose(options: Sequence[Option]) -> int:
        nonlocal taken
        choice = next(rest, 0)
        if choice >= len(options):
            raise DivergedError(f"step {taken}: choice {choice} of {len(options)}")
        taken += 1
        return choice

    return run(build, choose)
