"""Runs for the processes of a race: the replay files, and runs at random with what is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from random import Random

from race_explorer.case import Case
from race_explorer.engine import Run, run
from race_explorer.faults import FaultKind
from race_explorer.recording import Recording, record
from race_explorer.replays.policies import Policy, rerun
from race_explorer.replays.replay import FoundBy, Replay, replay_of
from race_explorer.replays.text import load

FILES = sorted((Path(__file__).parents[1] / "replays").glob("*.essa-replay"))
PATIENT_SECONDS = 60.0
TRIES = 400

Steps = Sequence[tuple[str, str]]
"""Actor and label."""

FAILING_IN = {
    FaultKind.REQUEST_LOST: "dirty-bit-in-transit",
    FaultKind.REPLY_LOST: "dirty-bit-in-transit",
    FaultKind.DUPLICATE: "slot-freed-before-its-page",
    FaultKind.FAULT_REPEATED: "cut-before-delivery",
    FaultKind.CUT: "dirty-bit-in-transit",
    FaultKind.CHECKPOINT: "slot-freed-before-its-page",
    FaultKind.POWER: "slot-freed-before-its-page",
    FaultKind.PAUSE: "dirty-bit-in-transit",
    FaultKind.READ_FAILS: "release-entry-outlived",
    FaultKind.WRITE_FAILS: "release-entry-outlived",
    FaultKind.TICK: "idle-vcpu-never-ticks",
}


def saved(name: str) -> Replay:
    """The replay of a file in tests/replays."""
    return load(next(file for file in FILES if file.name == f"{name}.essa-replay"))


@cache
def explored(replay: Replay) -> Recording:
    """What the explorer makes of it."""
    return rerun(replay, Policy.STRICT).recording


def with_fault(kind: FaultKind) -> tuple[Replay, Recording]:
    """A run in which that fails."""
    return drawn(Case(FAILING_IN[kind], faults=f"{kind}=1"), partial(_happens, kind))


def drawn(case: Case, wanted: Callable[[Steps], bool]) -> tuple[Replay, Recording]:
    """A run at random whose steps are like that."""
    recording = record(case.build, _run_with(case, wanted).choices)
    return replay_of(case, recording, FoundBy("random", 1)), recording


def _happens(kind: FaultKind, steps: Steps) -> bool:
    return any(actor.startswith(f"fault.{kind}") for actor, _ in steps)


def _run_with(case: Case, wanted: Callable[[Steps], bool]) -> Run:
    for seed in range(TRIES):
        draws = Random(seed)
        found = run(case.build, lambda options, draws=draws: draws.randrange(len(options)))  # type: ignore[misc]
        if wanted(found.steps):
            return found
    raise AssertionError(f"{wanted} never happens in {case.scenario}")
