"""What an oracle is: a promise, and a watcher that looks whether one run keeps it.

Rules:
- A watcher looks between steps and changes nothing. What it does at the end of a run, when nobody
  races any more, may change what it likes.
- What it says is text that depends on the run alone: it takes part in digests and signatures.
- Who has said something once is not asked again: what comes later follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from race_explorer.engine import Option
from race_explorer.oracles.history import Event
from race_explorer.world import SimWorld


@dataclass(slots=True)
class Scene:
    """What watchers see of a run.

    events: commands submitted and answered since the last look, in order. settled: discard faults
    whose handler has got a reference since, or was refused one. offered: the options before the
    step that was taken since, and taken: which it was; None if that was no step of the race, but
    one of its preparation or of its end.
    """

    world: SimWorld
    events: list[Event] = field(default_factory=list)
    settled: list[int] = field(default_factory=list)
    offered: tuple[Option, ...] = ()
    taken: Option | None = None


class Watcher(Protocol):
    """An oracle's eye on one run."""

    def look(self) -> Iterable[str]:
        """What is wrong now, or went wrong since the last look. Called after every step."""
        ...

    def end(self) -> Iterable[str]:
        """What is wrong with ending here. Called once, when nobody can go on any more."""
        ...


@dataclass(frozen=True, slots=True)
class Oracle:
    """name: what its violations begin with. promise: what holds if it says nothing.

    begin: its watcher of a run that begins with the next step.
    """

    name: str
    promise: str
    begin: Callable[[Scene], Watcher]


def run_at_rest(world: SimWorld, program: Coroutine[Any, None, None]) -> bool:
    """Run a program to its end while nobody races; False if a violation has ended it."""
    try:
        world.prepare(program)
    except AssertionError:
        if not world.violations():
            raise
        return False
    return True


def vcpu_of(option: Option) -> int | None:
    """The vCPU whose step it is, if it is a vCPU's."""
    number = option.name.removeprefix("cpu")
    return int(number) if option.name.startswith("cpu") and number.isdigit() else None
