"""What lasts longer than a step: locks and flags that are held, interrupts, vCPUs disabled.

Rules:
- A lock is held from the step that takes it to the one of the same actor that gives it back.
- PG_locked and PG_state_change stand in the lane of who set them, until anybody clears them.
- A span without an end was still on when the run ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from race_explorer.pictures.cast import lane
from race_explorer.pictures.story import Moment, Shown
from race_explorer.pictures.telling import LOCK_KINDS, lock_name, releases
from race_explorer.recording import RecordedStep

_HELD_FLAGS: Final = ("locked", "state_change")


class Hold(StrEnum):
    """What kind of span it is."""

    LOCK = "lock"
    FLAG = "flag"
    DISABLED = "disabled"
    INTERRUPT = "interrupt"


@dataclass(frozen=True, slots=True)
class Span:
    """From one step to another, by index. last: None if the run ended first."""

    lane: str
    name: str
    hold: Hold
    first: int
    last: int | None


def spans(shown: Shown) -> tuple[Span, ...]:
    """All spans of a run, in the order of their beginnings."""
    found = [*_locks(shown), *_flags(shown), *_vcpus(shown)]
    return tuple(sorted(found, key=lambda span: (span.first, span.lane, span.hold, span.name)))


def _locks(shown: Shown) -> Iterator[Span]:
    held: dict[tuple[str, tuple[str, int]], tuple[int, str]] = {}
    for i, step in enumerate(shown.recording.steps):
        resource = _lock_of(step, shown.moments[i])
        if resource is None:
            continue
        key = (step.actor, resource)
        if not releases(step.label):
            held.setdefault(key, (i, lock_name(step.label)))
        elif key in held:
            first, name = held.pop(key)
            yield Span(lane(step.actor), name, Hold.LOCK, first, i)
    for (actor, _), (first, name) in held.items():
        yield Span(lane(actor), name, Hold.LOCK, first, None)


def _lock_of(step: RecordedStep, moment: Moment) -> tuple[str, int] | None:
    """The lock that a step takes or gives back."""
    if moment.taken:
        return None
    found = (access.resource for access in step.accesses if access.write)
    return next((resource for resource in found if resource[0] in LOCK_KINDS), None)


def _flags(shown: Shown) -> Iterator[Span]:
    held: dict[tuple[int, str], tuple[int, str]] = {}
    before = shown.recording.before
    for i, step in enumerate(shown.recording.steps):
        for old, new in zip(before, step.pages, strict=True):
            for flag in _HELD_FLAGS:
                key = (new.pfn, flag)
                if flag in new.flags and flag not in old.flags:
                    held[key] = (i, lane(step.actor))
                elif flag not in new.flags and key in held:
                    first, owner = held.pop(key)
                    yield Span(owner, _flag_name(shown, *key), Hold.FLAG, first, i)
        before = step.pages
    for key, (first, owner) in held.items():
        yield Span(owner, _flag_name(shown, *key), Hold.FLAG, first, None)


def _flag_name(shown: Shown, pfn: int, flag: str) -> str:
    page = f" of page {pfn}" if len(shown.recording.pfns) > 1 else ""
    return f"PG_{flag}{page}"


def _vcpus(shown: Shown) -> Iterator[Span]:
    """Runs of one actor's steps inside an interrupt, or with interrupts disabled otherwise."""
    steps = shown.recording.steps
    for actor in dict.fromkeys(step.actor for step in steps):
        own = [i for i, step in enumerate(steps) if step.actor == actor]
        yield from _runs(actor, own, [shown.moments[i].nested for i in own], Hold.INTERRUPT)
        disabled = [shown.moments[i].disabled and not shown.moments[i].nested for i in own]
        yield from _runs(actor, own, disabled, Hold.DISABLED)


_NAMES: Final = {Hold.INTERRUPT: "interrupt", Hold.DISABLED: "interrupts disabled"}


def _runs(actor: str, own: list[int], on: list[bool], hold: Hold) -> Iterator[Span]:
    first: int | None = None
    for place, (i, now) in enumerate(zip(own, on, strict=True)):
        if now and first is None:
            first = i
        elif not now and first is not None:
            yield Span(lane(actor), _NAMES[hold], hold, first, own[place - 1])
            first = None
    if first is not None:
        yield Span(lane(actor), _NAMES[hold], hold, first, own[-1])
