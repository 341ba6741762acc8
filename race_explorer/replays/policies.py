"""What a replay comes to with today's code, and how hard it is tried.

Rules:
- Strict: the run must be the recorded one, step by step; the first step that is not is told.
- Best effort: deviations whose anchors cannot be met are left out, and the verdict decides.
- Prefix, then explore: as best effort; if the verdict is another, schedules around it are tried
  within a budget, first those that part from the recorded run where it parted by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import Final

from race_explorer.recording import RecordedStep, Recording, record, record_with
from race_explorer.replays.anchors import deviations
from race_explorer.replays.around import around
from race_explorer.replays.guides import Anchored, Guided, steps_allowed
from race_explorer.replays.replay import (
    VIOLATED,
    Expectation,
    Replay,
    Segment,
    verdict,
)
from race_explorer.signature import signature

SCHEDULES_MAX: Final = 2_000
FURTHER_MAX: Final = 3
NO_VIOLATION: Final = "the end, and no violation"


class Policy(StrEnum):
    """What is done where the code no longer does what it did."""

    STRICT = "strict"
    BEST_EFFORT = "best-effort"
    EXPLORE = "prefix-then-explore"


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a run is first another than the recorded one. Both sides are one line each.

    step, until: the steps among which it is, from 1; the same where it is known exactly.
    """

    step: int
    until: int
    recorded: str
    now: str

    def describe(self) -> str:
        """Three lines for people."""
        here = f"step {self.step} differs"
        if self.until > self.step:
            here = f"steps {self.step} to {self.until} differ"
        return f"{here}:\n  recorded: {self.recorded}\n  now:      {self.now}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a replay came to.

    reproduced: in the sense of the policy. divergence: from the recorded run, if it is another;
    with `Policy.EXPLORE` that of the run that led there. honoured: deviations that were met.
    schedules: how many runs it took.
    """

    reproduced: bool
    recording: Recording
    divergence: Divergence | None
    honoured: int
    schedules: int = 1

    @property
    def signature(self) -> str:
        """Of the violation; "" if there was none."""
        return signature(self.recording.violations)


def rerun(replay: Replay, policy: Policy, *, schedules_max: int = SCHEDULES_MAX) -> Outcome:
    """Run a replay. schedules_max: for `Policy.EXPLORE`."""
    guide = Anchored(replay.schedule)
    recording = record_with(replay.case.build, Guided(guide))
    divergence = first_divergence(replay.expect, recording)
    same = _as_expected(replay.expect, recording)
    reproduced = divergence is None if policy is Policy.STRICT else same
    outcome = Outcome(reproduced, recording, divergence, len(guide.met))
    violated = replay.expect.verdict == VIOLATED
    if policy is Policy.EXPLORE and violated and not reproduced and divergence is not None:
        return _explore(replay, outcome, divergence, schedules_max)
    return outcome


def first_divergence(expect: Expectation, recording: Recording) -> Divergence | None:
    """Where a run is first another than the recorded one; None if it is the same to its end."""
    steps, position = recording.steps, 0
    for segment in expect.trail:
        found = _differs(segment, steps, position)
        if found is not None:
            return found
        position += len(segment.labels)
    after, end = position + 1, expect.violation or NO_VIOLATION
    if position < len(steps):
        return Divergence(after, after, end, _line(steps[position]))
    if recording.digest != expect.digest:
        now = "; ".join(recording.violations).partition("\n")[0] or NO_VIOLATION
        recorded = f"{end}; digest {expect.digest}"
        return Divergence(after, after, recorded, f"{now}; digest {recording.digest}")
    return None


def _differs(segment: Segment, steps: tuple[RecordedStep, ...], position: int) -> Divergence | None:
    """Where the steps from `position` on, from 0, are not this segment."""
    last = position + len(segment.labels)
    for number, label in enumerate(segment.labels, position + 1):
        recorded = f"{segment.actor} {label}"
        if number > len(steps):
            return Divergence(number, number, recorded, "the end")
        step = steps[number - 1]
        if (step.actor, step.label) != (segment.actor, label):
            return Divergence(number, number, recorded, _line(step))
    now = steps[last - 1].digest
    if now != segment.digest:
        what = f"{segment.actor} with digest"
        saw = "was offered, was told or did something else"
        return Divergence(position + 1, last, f"{what} {segment.digest}", f"{what} {now}: it {saw}")
    return None


def _line(step: RecordedStep) -> str:
    others = [f"{actor} {label}" for actor, label in step.enabled]
    return f"{step.actor} {step.label}, out of {', '.join(others)}"


def _as_expected(expect: Expectation, recording: Recording) -> bool:
    return (verdict(recording), signature(recording.violations)) == (
        expect.verdict,
        expect.signature,
    )


def _explore(
    replay: Replay, outcome: Outcome, divergence: Divergence, schedules_max: int
) -> Outcome:
    """Look around the run that is another for one that ends as expected."""
    beginnings = list(_beginnings(outcome.recording, divergence))
    share = max(1, (schedules_max - 1) // len(beginnings))
    limit, schedules = steps_allowed(replay.expect.steps), outcome.schedules
    for beginning in beginnings:
        tries = around(replay.case.build, beginning, further_max=FURTHER_MAX, steps_max=limit)
        for made in islice(tries, share):
            schedules += 1
            if signature(made.run.violations) == replay.expect.signature:
                found = record(replay.case.build, made.run.choices)
                return replace(outcome, reproduced=True, recording=found, schedules=schedules)
    return replace(outcome, schedules=schedules)


def _beginnings(recording: Recording, divergence: Divergence) -> Iterator[tuple[int, ...]]:
    """The run up to where it parted, then up to each deviation before that, then nothing."""
    parted = divergence.step - 1
    yield recording.choices[:parted]
    for deviation in reversed(deviations(recording)):
        if 1 < deviation.step <= parted:
            yield recording.choices[: deviation.step - 1]
    if parted:
        yield ()
