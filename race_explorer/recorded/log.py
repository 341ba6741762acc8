"""The logs of a recorded run, read: lines become steps, or one error that names the line.

Rules:
- What a log says is foreign input: everything is checked that a step rests on, and nothing is
  believed about what comes of it.
- A log may be cut off, as its process was; its last line may be half a line then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from json import JSONDecodeError, loads
from typing import Any, Final, NamedTuple

from host_daemon.recording import STAGES
from shared.runlog.records import END, FAULT, FORMAT, TICK, Record

HOST_RECORDS: Final[dict[str, tuple[type, ...]]] = {
    "open": (dict,),
    "close": (int,),
    "execute": (int, int, int, str),
    "acknowledge": (int, int),
    "redeliver": (int,),
    "evict": (int, int),
    "withhold": (int, int),
    "page_out_done": (int, bool),
    "page_in_done": (int, object),
    **dict.fromkeys(STAGES.values(), (int, int)),
}
"""What each record of a host says before what has come of it."""


class LogError(ValueError):
    """A log that cannot be made sense of; one line that names the place."""


class Kind(Enum):
    """What a guest's step is."""

    STEP = "step"
    COMMAND = "command"
    ANSWER = "answer"
    TICK = "tick"
    FAULT = "fault"


class GuestStep(NamedTuple):
    """One step of a guest.

    actor: a vCPU or a device; of a fault -1. text: how the log spells it. value: of an answer the
    host's step, of a fault its number, of a step whether an interrupt comes first.
    """

    kind: Kind
    actor: int
    text: str
    value: int


@dataclass(frozen=True, slots=True)
class HostRun:
    """A host's log. ended: whether its process came to its end."""

    header: dict[str, Any]
    records: list[Record]
    ended: bool


@dataclass(frozen=True, slots=True)
class GuestRun:
    """A guest's log. result: what came of the run; None if it was stopped."""

    header: dict[str, Any]
    steps: list[GuestStep]
    result: dict[str, Any] | None


def role_of(lines: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Whose log it is, and its header. Raises LogError."""
    header = _json(lines[0], 1) if lines else None
    if not isinstance(header, dict) or "format" not in header:
        raise LogError("line 1: this is no log of a recorded run")
    if header["format"] != FORMAT:
        raise LogError(f"line 1: format is {header['format']!r}; it must be {FORMAT!r}")
    return str(header.get("role")), header


def host_run(lines: Sequence[str]) -> HostRun:
    """A host's log. Raises LogError."""
    _, header = role_of(lines)
    records: list[Record] = []
    for number, record in _records(lines):
        if record == [END]:
            return HostRun(header, records, ended=True)
        shape = HOST_RECORDS.get(record[0]) if isinstance(record[0], str) else None
        if shape is None:
            raise LogError(f"line {number}: no host's record is called {record[0]!r}")
        _check_host(record, shape, number)
        records.append(record)
    return HostRun(header, records, ended=False)


def _check_host(record: Record, shape: tuple[type, ...], number: int) -> None:
    said = record[1 : len(shape) + 1]
    rest = record[len(shape) + 1 :]
    good = len(said) == len(shape) and all(map(isinstance, said, shape))
    good = good and bool(rest) and isinstance(rest[0], str) and len(rest) <= 2
    if len(rest) == 2:
        good = good and _is_numbers(rest[1])
    if not good:
        raise LogError(f"line {number}: this is no record {record[0]!r}")


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def guest_run(lines: Sequence[str]) -> GuestRun:
    """A guest's log. Raises LogError."""
    _, header = role_of(lines)
    steps: list[GuestStep] = []
    spelled: list[str] = []
    for number, record in _records(lines):
        try:
            match record:
                case [str(name), dict(result)] if name == END:
                    return GuestRun(header, steps, result)
                case [str(name), int(vcpu)] if name == TICK:
                    steps.append(GuestStep(Kind.TICK, vcpu, TICK, 0))
                case [str(name), int(fault), str(text)] if name == FAULT:
                    steps.append(GuestStep(Kind.FAULT, -1, text, fault))
                case [int(actor), *items] if items:
                    steps += _row(actor, items, spelled)
                case _:
                    raise LogError("this is no guest's record")
        except (LogError, IndexError) as error:
            what = "a step that is not spelled yet" if isinstance(error, IndexError) else error
            raise LogError(f"line {number}: {what}") from None
    return GuestRun(header, steps, None)


def _row(actor: int, items: list[Any], spelled: list[str]) -> Iterator[GuestStep]:
    """An actor's steps in a row: numbers are texts, and complements of numbers too."""
    for item in items:
        match item:
            case str():
                spelled.append(item)
            case bool():
                raise LogError("true and false are no steps")
            case int():
                interrupted = item < 0
                text = spelled[~item if interrupted else item]
                yield GuestStep(Kind.STEP, actor, text, interrupted)
            case [str(text)]:
                yield GuestStep(Kind.COMMAND, actor, text, 0)
            case [int(step)]:
                yield GuestStep(Kind.ANSWER, actor, "", step)
            case _:
                raise LogError(f"{str(item)[:40]} is no step")


def _records(lines: Sequence[str]) -> Iterator[tuple[int, Record]]:
    """(number of the line, record). Half a line at the end is left out."""
    for number, line in enumerate(lines[1:], 2):
        if number == len(lines) and not line.endswith("\n"):
            return
        record = _json(line, number)
        if not isinstance(record, list) or not record:
            raise LogError(f"line {number}: this is no record")
        yield number, record


def _json(line: str, number: int) -> Any:
    try:
        return loads(line)
    except (JSONDecodeError, RecursionError):
        raise LogError(f"line {number}: this is no JSON") from None
