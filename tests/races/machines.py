"""Random programs that do to one another all that a kernel and its host do.

Rules:
- A step says what it touches, and touches no more; what a program saw is part of the state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from hypothesis import strategies as st

from guest_agent.kernel.page import reads, writes
from guest_agent.kernel.ports import Access
from race_explorer.engine import ANY, Option


@dataclass(frozen=True, slots=True)
class Op:
    """One step of a program. x, y: cells, flags, locks or stages, as it needs them."""

    kind: str
    x: int = 0
    y: int = 0


Plan = dict[str, tuple[Op, ...]]
LATE = {"late0": (Op("copy", 0, 1), Op("read", 1)), "late1": (Op("write", 1),)}
"""Programs that a step of another one begins."""


@dataclass(slots=True)
class Memory:
    """All that the programs of a plan change."""

    cells: dict[int, object] = field(default_factory=dict)
    flags: dict[int, bool] = field(default_factory=dict)
    pending: dict[int, bool] = field(default_factory=dict)
    holders: dict[int, str] = field(default_factory=dict)
    stages: dict[int, int] = field(default_factory=dict)
    seen: dict[str, list[object]] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


class Machine:
    """Programs with everything that a kernel and its host do to one another.

    wait: until a flag is set. raise: an interrupt, which comes instead of a step `open`, that
    writes to a cell, and instead of `halt`, that waits for a flag as well.
    begin, cancel: a host's work in two stages, and what takes it away. begin_late: an actor.
    assert: goes wrong where the cell was written to.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan | LATE
        self.memory = Memory(places=dict.fromkeys(plan, 0))

    def _standing(self) -> Iterator[tuple[str, Op]]:
        for name, place in self.memory.places.items():
            if place < len(self._plan[name]):
                yield name, self._plan[name][place]

    def _option(self, name: str, op: Op) -> Option:
        return Option(name, op.kind, self._accesses(op), partial(self._run, name, op))

    def options(self) -> list[Option]:
        programs = [self._option(name, op) for name, op in self._standing() if self._ready(op)]
        stages = [
            Option(
                f"host.{number}.{stage}",
                "stage",
                (writes("stage", number), *((writes("cell", number),) if stage else ())),
                partial(self._stage, number),
            )
            for number, stage in sorted(self.memory.stages.items())
        ]
        return programs + stages

    def waiting(self) -> list[Option]:
        return [self._option(name, op) for name, op in self._standing() if not self._ready(op)]

    def violations(self) -> list[str]:
        return self.memory.wrong

    def finished(self) -> list[str]:
        return []

    def reached(self) -> set[str]:
        return set()

    def state(self) -> object:
        memory = self.memory
        numbered = (memory.cells, memory.flags, memory.pending, memory.holders, memory.stages)
        named = (memory.seen, memory.places)
        return [sorted(part.items()) for part in (*numbered, *named)]

    def _ready(self, op: Op) -> bool:
        if op.kind == "lock":
            return op.x not in self.memory.holders
        if op.kind == "halt":
            return bool(self.memory.flags.get(op.y) or self.memory.pending.get(op.x))
        return op.kind != "wait" or bool(self.memory.flags.get(op.x))

    def _accesses(self, op: Op) -> tuple[Access, ...]:
        match op.kind:
            case "read" | "assert":
                return (reads("cell", op.x),)
            case "write":
                return (writes("cell", op.x),)
            case "copy":
                return (reads("cell", op.x), writes("cell", op.y))
            case "sweep":
                return (writes("cell", ANY),)
            case "lock" | "unlock":
                return (writes("lock", op.x),)
            case "wait":
                return (reads("flag", op.x), reads("cell", op.y))
            case "set" | "clear":
                return (writes("flag", op.x),)
            case "raise":
                return (writes("irq", op.x),)
            case "open" | "halt":
                if self.memory.pending.get(op.x):
                    return (writes("irq", op.x),)
                other = writes("cell", op.y) if op.kind == "open" else reads("flag", op.y)
                return (reads("irq", op.x), other)
            case "begin" | "cancel":
                return (writes("stage", op.x),)
        return (writes("late", op.x),)

    def _stage(self, number: int) -> None:
        stages = self.memory.stages
        stages[number] += 1
        if stages[number] == 2:
            del stages[number]
            self.memory.cells[number] = ("stage", self.memory.cells.get(number))

    def _run(self, name: str, op: Op) -> None:
        memory, seen = self.memory, self.memory.seen.setdefault(name, [])
        memory.places[name] += 1
        match op.kind:
            case "read" | "wait":
                seen.append(memory.cells.get(op.x if op.kind == "read" else op.y))
            case "assert":
                if memory.cells.get(op.x) is not None:
                    memory.wrong.append(f"program {name} finds {memory.cells[op.x]}")
            case "write":
                memory.cells[op.x] = (name, memory.places[name])
            case "copy":
                memory.cells[op.y] = (name, memory.cells.get(op.x))
            case "sweep":
                memory.cells = {x: (name, old) for x, old in memory.cells.items()}
            case "lock":
                memory.holders[op.x] = name
            case "unlock":
                if memory.holders.get(op.x) == name:
                    del memory.holders[op.x]
            case "set" | "clear":
                memory.flags[op.x] = op.kind == "set"
            case "raise":
                memory.pending[op.x] = True
            case "open" | "halt":
                if memory.pending.get(op.x):
                    memory.pending[op.x] = False
                    memory.places[name] -= 1
                    seen.append("interrupt")
                elif op.kind == "open":
                    memory.cells[op.y] = (name, memory.cells.get(op.y))
            case "begin":
                memory.stages.setdefault(op.x, 0)
            case "cancel":
                seen.append(memory.stages.pop(op.x, None))
            case "begin_late":
                memory.places.setdefault(f"late{op.x}", 0)


KINDS = (
    *("read", "write", "write", "copy", "sweep", "lock", "wait", "set", "set", "clear"),
    *("open", "halt", "raise", "raise", "begin", "cancel", "begin_late", "assert"),
)
OPS = st.builds(Op, st.sampled_from(KINDS), st.integers(0, 1), st.integers(0, 1))


def programs_of(ops: list[Op]) -> tuple[Op, ...]:
    """Who takes a lock gives it back behind the next step."""
    found: list[Op] = []
    for op in ops:
        held = [each.x for each in found if each.kind == "lock"]
        found.append(op)
        found += [Op("unlock", x) for x in held if Op("unlock", x) not in found]
    return tuple(found)


PLANS = st.lists(
    st.lists(OPS, min_size=1, max_size=3).map(programs_of), min_size=2, max_size=3
).map(lambda programs: dict(zip("abc", programs, strict=False)))


def plan(**programs: tuple[Op, ...]) -> Plan:
    """Programs by name."""
    return programs
