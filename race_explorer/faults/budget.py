"""Which faults may happen in a run, and how often each at most.

Rules:
- A budget is a value and a text such as "reply_lost=1,cut=1"; the empty text allows none. Equal
  budgets are equal texts.
- It bounds, and does not oblige: a run in which nothing fails is among those that it allows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

TIMES_MAX: Final = 9
"""Of one kind in one run; the number of schedules grows with every one."""


class FaultKind(StrEnum):
    """What may fail; `DOES` says how."""

    REQUEST_LOST = "request_lost"
    REPLY_LOST = "reply_lost"
    DUPLICATE = "duplicate"
    FAULT_REPEATED = "fault_repeated"
    CUT = "cut"
    CHECKPOINT = "checkpoint"
    POWER = "power"
    PAUSE = "pause"
    READ_FAILS = "read_fails"
    WRITE_FAILS = "write_fails"
    TICK = "tick"


DOES: Final[dict[FaultKind, str]] = {
    FaultKind.REQUEST_LOST: "a command is lost on its way to the host, and its connection with it",
    FaultKind.REPLY_LOST: "an outcome is lost on its way to the guest, and its connection with it",
    FaultKind.DUPLICATE: "a second copy of a command follows, whenever it likes",
    FaultKind.FAULT_REPEATED: "a second copy of a discard fault follows, whenever it likes",
    FaultKind.CUT: "both connections break; what is on its way is lost, either way",
    FaultKind.CHECKPOINT: "the host is stopped, and resumed from its checkpoint",
    FaultKind.POWER: "the host loses its state; the guest boots again from its disk",
    FaultKind.PAUSE: "a vCPU does nothing until it is resumed",
    FaultKind.READ_FAILS: "the paging device finds a page damaged: a machine check for the guest",
    FaultKind.WRITE_FAILS: "the paging device cannot write a page",
    FaultKind.TICK: "the timer interrupts a vCPU that has a use for it",
}
LINK_KINDS: Final = frozenset(
    (
        FaultKind.REQUEST_LOST,
        FaultKind.REPLY_LOST,
        FaultKind.DUPLICATE,
        FaultKind.FAULT_REPEATED,
        FaultKind.CUT,
        FaultKind.CHECKPOINT,
        FaultKind.POWER,
    )
)
"""Kinds that need to see a message on its way."""


@dataclass(frozen=True, slots=True)
class FaultBudget:
    """times: how often each kind may happen, in the order of the kinds; none that may not."""

    times: tuple[tuple[FaultKind, int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> FaultBudget:
        """The budget that a text describes. Raises ValueError that names what is wrong with it."""
        found: dict[FaultKind, int] = {}
        for part in text.split(",") if text.strip() else ():
            name, equals, count = (piece.strip() for piece in part.partition("="))
            if name not in list(FaultKind):
                raise ValueError(f"{name!r} is no fault; they are {', '.join(FaultKind)}")
            if not equals or not count.isdecimal() or not 1 <= int(count) <= TIMES_MAX:
                raise ValueError(f"{part.strip()!r}: a fault has a number, {name}=1 to {TIMES_MAX}")
            if name in found:
                raise ValueError(f"{name} stands there twice")
            found[FaultKind(name)] = int(count)
        return cls(tuple((kind, found[kind]) for kind in FaultKind if kind in found))

    def __str__(self) -> str:
        return ",".join(f"{kind}={count}" for kind, count in self.times)

    def __contains__(self, kind: FaultKind) -> bool:
        return any(kind is found for found, _ in self.times)

    def on_the_link(self) -> bool:
        """Whether messages have to be seen on their way."""
        return any(kind in LINK_KINDS for kind, _ in self.times)

    def smaller(self) -> list[FaultBudget]:
        """The same with one fault less, for shrinking."""
        return [
            replace(
                self, times=tuple((k, n - (k is kind)) for k, n in self.times if n > (k is kind))
            )
            for kind, _ in self.times
        ]


NO_FAULTS: Final = FaultBudget()
