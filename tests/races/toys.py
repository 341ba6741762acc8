"""Toy worlds whose bugs are known: programs of labelled steps over a few shared cells.

Rules:
- A program is a generator that stands before each step, as a guest's programs do, and says what
  it touches; noise is programs that touch nothing of anybody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from guest_agent.kernel.page import reads, writes
from guest_agent.kernel.ports import Access
from race_explorer.engine import Option

NOISE_ACTORS = 8
NOISE_STEPS = 40
LATE_STEPS = 20


def always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Stand:
    """What a program is about to do, and whether it can."""

    label: str
    accesses: tuple[Access, ...] = ()
    ready: Callable[[], bool] = always


@dataclass(slots=True)
class Cells:
    """What the programs share."""

    discarded: bool = False
    incarnation: int = 0
    faults: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)


Program = Callable[[Cells], Iterator[Stand]]


class Toy:
    """A world of such programs. Its outcome is the order in which steps were taken."""

    def __init__(self, programs: Mapping[str, Program]) -> None:
        self.cells = Cells()
        self._programs = {name: program(self.cells) for name, program in programs.items()}
        self._standing = {name: next(program) for name, program in self._programs.items()}

    def options(self) -> list[Option]:
        return [option for option in self._all() if self._standing[option.name].ready()]

    def waiting(self) -> list[Option]:
        return [option for option in self._all() if not self._standing[option.name].ready()]

    def _all(self) -> list[Option]:
        return [
            Option(name, stand.label, stand.accesses, partial(self._run, name))
            for name, stand in self._standing.items()
        ]

    def _run(self, name: str) -> None:
        self.cells.order.append(name)
        stand = next(self._programs[name], None)
        if stand is None:
            del self._standing[name]
        else:
            self._standing[name] = stand

    def violations(self) -> list[str]:
        return self.cells.wrong

    def finished(self) -> list[str]:
        stuck = sorted(self._standing)
        return [f"deadlock: {', '.join(stuck)}"] if stuck else []

    def reached(self) -> set[str]:
        return {"discarded"} if self.cells.discarded else set()


def private(name: str, count: int) -> Program:
    """So many steps that nobody else can see."""

    def program(cells: Cells) -> Iterator[Stand]:
        for _ in range(count):
            yield Stand("private", (writes(name),))

    return program


def noise() -> dict[str, Program]:
    """Idle vCPUs."""
    return {f"idle{i}": private(f"idle{i}", NOISE_STEPS) for i in range(NOISE_ACTORS)}


def evictor(cells: Cells) -> Iterator[Stand]:
    """Discards the page and tells the consumer which one it was."""
    yield Stand("choose", (reads("page"),))
    yield Stand("discard", (writes("page"), writes("faults")))
    cells.discarded = True
    cells.faults.append(cells.incarnation)


def consumer(cells: Cells) -> Iterator[Stand]:
    """Takes the page for the one that was discarded, whatever has become of it."""
    yield Stand("pop", (writes("faults"),), lambda: bool(cells.faults))
    incarnation = cells.faults.pop()
    yield Stand("apply", (writes("page"),))
    if incarnation != cells.incarnation:
        cells.wrong.append("wrong page discarded")


def test_then_set(cells: Cells) -> Iterator[Stand]:
    """Looks at the state and believes what it saw."""
    yield Stand("look", (reads("page"),))
    looked = cells.discarded
    yield Stand("set", (writes("page"),))
    if cells.discarded and not looked:
        cells.wrong.append("empty page set stable")


def reuser(steps: int) -> Program:
    """Frees the page and uses it for something else, after so many steps of its own."""

    def program(cells: Cells) -> Iterator[Stand]:
        for _ in range(steps):
            yield Stand("private", (writes("reuser"),))
        yield Stand("free", (writes("page"),))
        yield Stand("reuse", (writes("page"),))
        cells.incarnation += 1

    return program


BUGS: dict[str, dict[str, Program]] = {
    "toctou": {"evictor": evictor, "consumer": consumer, "guest": test_then_set},
    "aba": {"evictor": evictor, "consumer": consumer, "guest": reuser(0)},
    "late": {"evictor": evictor, "consumer": consumer, "guest": reuser(LATE_STEPS)},
}
