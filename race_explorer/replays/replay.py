"""What a replay holds: what is run, in which order, how that was found, and what must come of it.

Rules:
- The schedule says what is run. The trail says what the recorded run did, for the strict policy
  alone: a schedule that still fits leads to the same violation though the trail is another.
- Nothing in it depends on the machine, the time or the version of Python.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from race_explorer.case import Case
from race_explorer.recording import DIGEST_LENGTH, Recording
from race_explorer.replays.anchors import Deviation, deviations
from race_explorer.signature import signature

FORMAT: Final = "essa-replay/1"
VIOLATED: Final = "violated"
HOLDS: Final = "holds"


@dataclass(frozen=True, slots=True)
class Segment:
    """Steps of one actor in a row. digest: of the whole run up to the last of them."""

    actor: str
    digest: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expectation:
    """How the run ended. violation: its first line, for people; digest: of the whole run."""

    verdict: str
    signature: str
    violation: str
    steps: int
    digest: str
    trail: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class FoundBy:
    """How it was found: by which strategy, with which seed (-1: none), in which schedule, from 1.

    deviations, steps: of the run as it was found; replays: what shrinking it took.
    """

    strategy: str
    schedule: int
    seed: int = -1
    deviations: int = 0
    steps: int = 0
    replays: int = 0


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay file. source: digest of the scenario's text when it was recorded."""

    case: Case
    source: str
    schedule: tuple[Deviation, ...]
    found_by: FoundBy
    expect: Expectation


def replay_of(case: Case, recording: Recording, found_by: FoundBy) -> Replay:
    """The replay of a recorded run, as it is."""
    return Replay(case, source_digest(case), deviations(recording), found_by, expected(recording))


def expected(recording: Recording) -> Expectation:
    """What a run that does the same must come to."""
    violations = recording.violations
    return Expectation(
        verdict=verdict(recording),
        signature=signature(violations),
        violation=violations[0].partition("\n")[0] if violations else "",
        steps=len(recording.steps),
        digest=recording.digest,
        trail=tuple(_trail(recording)),
    )


def verdict(recording: Recording) -> str:
    """VIOLATED or HOLDS."""
    return VIOLATED if recording.violations else HOLDS


def source_digest(case: Case) -> str:
    """Of the module that the case's scenario stands in: another one may mean other steps."""
    module = importlib.import_module(case.definition.build.__module__)
    text = Path(str(module.__file__)).read_bytes()
    return hashlib.sha256(text.replace(b"\r\n", b"\n")).hexdigest()[:DIGEST_LENGTH]


def _trail(recording: Recording) -> Iterator[Segment]:
    for actor, group in groupby(recording.steps, key=lambda step: step.actor):
        steps = list(group)
        yield Segment(actor, steps[-1].digest, tuple(step.label for step in steps))
