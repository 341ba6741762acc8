"""Is a run always the same? It is made twice, and compared step by step.

Rules:
- What is compared is all that a recording holds of a step, and where every program stands in
  the source before it.
- A difference is reported at the first step that has one: what comes later follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import CoroutineType, FrameType, GeneratorType
from typing import Any, Final

from race_explorer.case import Case
from race_explorer.engine import Option
from race_explorer.recording import RecordedStep, Recording, record_with
from race_explorer.world import SimWorld

PLUMBING: Final = (
    "race_explorer.actors",
    "race_explorer.recorded.guest",
    "race_explorer.world",
    "guest_agent.kernel.cpu",
)
"""Modules in which every program stands somewhere; where it was called from says more."""

Standing = tuple[tuple[str, str], ...]
"""(actor, place in the source) of every program, before a step."""


@dataclass(frozen=True, slots=True)
class Side:
    """A step as one of the two runs had it. text: all that can differ, named."""

    actor: str
    label: str
    text: tuple[tuple[str, str], ...]
    standing: Standing


@dataclass(frozen=True, slots=True)
class Difference:
    """The first step, from 1, in which two runs differ. A side is None if its run was over."""

    step: int
    first: Side | None
    second: Side | None

    def describe(self) -> str:
        """Several lines: what the two did, in what they differ, and where the actors stood."""
        if self.first is None or self.second is None:
            there = self.first or self.second
            what = "nothing" if there is None else f"{there.actor} {there.label}"
            return f"step {self.step}: one run was over, and the other took {what}"
        lines = [
            f"step {self.step}: {self.first.actor} {self.first.label} in the first run, "
            f"{self.second.actor} {self.second.label} in the second"
        ]
        for (name, one), (_, other) in zip(self.first.text, self.second.text, strict=True):
            if one != other:
                lines += [f"  {name}: {one}", f"  {' ' * len(name)}  {other}"]
        for number, side in (("first", self.first), ("second", self.second)):
            lines += [
                f"  {actor} stood at {place} in the {number}" for actor, place in side.standing
            ]
        return "\n".join(lines)


def check_twice(case: Case, choices: Sequence[int]) -> Difference | None:
    """Make a run of the case twice; None if nothing differs."""
    return compare(case.build, choices)


def compare(build: Callable[[], SimWorld], choices: Sequence[int]) -> Difference | None:
    """As `check_twice`, for any world. A choice that is not offered is the last that is."""
    (one, standing), (other, others_standing) = _watched(build, choices), _watched(build, choices)
    sides = list(_sides(one, standing)), list(_sides(other, others_standing))
    for step in range(max(map(len, sides))):
        first, second = (side[step] if step < len(side) else None for side in sides)
        if first != second:
            return Difference(step + 1, first, second)
    return None


def standing_at(program: Any) -> str:
    """Where a suspended coroutine stands, such as "guest_agent/kernel/page_hva.py:93 in f".

    It is the innermost place outside PLUMBING.
    """
    found, awaited = "", program
    while awaited is not None:
        frame: FrameType | None = None
        if isinstance(awaited, CoroutineType):
            frame, awaited = awaited.cr_frame, awaited.cr_await
        elif isinstance(awaited, GeneratorType):
            frame, awaited = awaited.gi_frame, awaited.gi_yieldfrom
        else:
            awaited = None
        if frame is None:
            continue
        module = str(frame.f_globals["__name__"])
        if module not in PLUMBING or not found:
            found = f"{module.replace('.', '/')}.py:{frame.f_lineno} in {frame.f_code.co_name}"
    return found


def _watched(
    build: Callable[[], SimWorld], choices: Sequence[int]
) -> tuple[Recording, list[Standing]]:
    """A recording, and where everybody stood before each of its steps and after the last."""
    world, standing, rest = build(), list[Standing](), iter(choices)

    def stand() -> Standing:
        return tuple((actor.name, standing_at(actor.program)) for actor in world.standing())

    def choose(options: Sequence[Option]) -> int:
        standing.append(stand())
        return min(next(rest, 0), len(options) - 1)

    recording = record_with(lambda: world, choose)
    return recording, [*standing, stand()]


def _sides(recording: Recording, standing: Sequence[Standing]) -> list[Side]:
    """Every step, and the end of the run as if it were one."""
    sides = [
        Side(step.actor, step.label, tuple(_text(step)), where)
        for step, where in zip(recording.steps, standing, strict=False)
    ]
    end = (("violations", repr(recording.violations)), ("digest", recording.digest))
    return [*sides, Side("the run", "ends", end, standing[-1])]


def _text(step: RecordedStep) -> list[tuple[str, str]]:
    return [
        ("could have run", repr(step.enabled)),
        ("touches", repr(step.accesses)),
        ("was told", step.said),
        ("the pages it names are then", repr(step.pages)),
        ("digest", step.digest),
    ]
