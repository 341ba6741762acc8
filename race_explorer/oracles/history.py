"""The history of a guest's memory as its vCPUs and devices had it, taken apart by page.

Rules:
- A command acts on one block at a time, and blocks know nothing of each other: a history has an
  order that explains it exactly if the part of every page has one.
- An array is one command for each page in it. What it does on one page it does in one go.
- The number of a discard fault is no part of the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from race_explorer.oracles.specification import FAULT, Answer, Call, Essas, States
from shared.commands import Command, EssaArray, EssaArrayOutcome, FaultPending, Outcome


@dataclass(frozen=True, slots=True)
class Event:
    """A command was submitted, or, with an outcome, answered."""

    issuer: int
    command: Command
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """Part of an event. number: of the command; one for all its pages."""

    number: int
    pfn: int
    call: Call


@dataclass(frozen=True, slots=True)
class Answered:
    """Part of an event."""

    number: int
    pfn: int
    answer: Answer


@dataclass(slots=True)
class History:
    """Numbers the commands of a run. An issuer has one command at a time."""

    _count: int = 0
    _numbers: dict[int, int] = field(default_factory=dict)

    def parts(self, event: Event) -> Iterator[Submitted | Answered]:
        """What the event is for each page that it touches, in the order of the command."""
        if event.outcome is None:
            self._count += 1
            self._numbers[event.issuer] = self._count
            for pfn, call in _calls(event.command):
                yield Submitted(self._count, pfn, call)
        elif event.issuer in self._numbers:
            number = self._numbers.pop(event.issuer)
            for pfn, answer in _answers(event.command, event.outcome):
                yield Answered(number, pfn, answer)


def pages_of(command: Command) -> list[int]:
    """The pages that a command acts on."""
    return list(_elements(command)) if isinstance(command, EssaArray) else [command.pfn]


def _elements(array: EssaArray) -> dict[int, list[int]]:
    """The indexes of an array's elements by page, pages in the order of their first."""
    found: dict[int, list[int]] = {}
    for i, pfn in enumerate(array.pfns.tolist()):
        found.setdefault(pfn, []).append(i)
    return found


def _calls(command: Command) -> Iterator[tuple[int, Call]]:
    if not isinstance(command, EssaArray):
        yield command.pfn, command
        return
    orcs = command.orcs.tolist()
    for pfn, indexes in _elements(command).items():
        yield pfn, Essas(tuple(orcs[i] for i in indexes), command.problem_state)


def _answers(command: Command, outcome: Outcome) -> Iterator[tuple[int, Answer]]:
    if isinstance(command, EssaArray):
        assert isinstance(outcome, EssaArrayOutcome)
        for pfn, indexes in _elements(command).items():
            yield pfn, States(tuple(outcome.states[i] for i in indexes))
        return
    assert not isinstance(outcome, EssaArrayOutcome)
    yield command.pfn, FAULT if isinstance(outcome, FaultPending) else outcome
