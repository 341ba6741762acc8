"""Lost updates of a counter, by two programs, in our engine.

Rules:
- The programs are those of `frontrun_toy`: each adds 1 so many times, with a load and a store that
  others can come between. Here each of the two is a step; there every opcode is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from guest_agent.kernel.page import reads, writes
from guest_agent.kernel.ports import Access
from race_explorer.engine import Option

PROGRAMS: Final = ("a", "b")
INCREMENTS: Final = 3
STEPS: Final = len(PROGRAMS) * INCREMENTS * 2

_LOAD: Final = ("load", (reads("counter", 0),))
_STORE: Final = ("store", (writes("counter", 0),))


class LostUpdate:
    """A fresh counter and its programs. Wrong only at the end, so that every run gets there."""

    def __init__(self) -> None:
        self.value = 0
        self._programs = {name: self._program() for name in PROGRAMS}
        self._standing = {name: next(program) for name, program in self._programs.items()}

    def _program(self) -> Iterator[tuple[str, tuple[Access, ...]]]:
        for _ in range(INCREMENTS):
            yield _LOAD
            loaded = self.value
            yield _STORE
            self.value = loaded + 1

    def options(self) -> list[Option]:
        """Both programs, as long as they have steps."""
        return [
            Option(name, label, accesses, partial(self._go_on, name))
            for name, (label, accesses) in self._standing.items()
        ]

    def _go_on(self, name: str) -> None:
        step = next(self._programs[name], None)
        if step is None:
            del self._standing[name]
        else:
            self._standing[name] = step

    def waiting(self) -> list[Option]:
        """Nobody waits."""
        return []

    def violations(self) -> list[str]:
        """Nothing goes wrong under way."""
        return []

    def finished(self) -> list[str]:
        """Whether updates are lost."""
        right = len(PROGRAMS) * INCREMENTS
        return [] if self.value == right else [f"the counter is {self.value}, not {right}"]

    def reached(self) -> set[str]:
        """Nothing is marked."""
        return set()
