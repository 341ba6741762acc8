"""Races on a real host and guest: every replay file, every kind of fault, and what goes wrong.

Goal: a schedule that is enforced comes to what the explorer makes of it, choice by choice, and one
that cannot be enforced is never called good or bad. Method: one host and one guest for all files.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from essa_cli.gate.processes import Cluster
from essa_cli.gate.race import INCONCLUSIVE
from race_explorer.case import Case
from race_explorer.faults import FaultKind
from race_explorer.replays.replay import VIOLATED
from race_explorer.replays.text import load
from tests.gate.runs import FILES, PATIENT_SECONDS, Steps, drawn, explored, saved, with_fault

pytestmark = pytest.mark.process

SOON_SECONDS = 1.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(PATIENT_SECONDS) as found:
        yield found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.removesuffix(".essa-replay"))
def test_every_replay_is_the_same_on_processes(cluster: Cluster, file: Path) -> None:
    replay = load(file)
    found = cluster.enforce(replay, explored(replay))
    assert found.agrees, found.difference or found.reason
    assert found.verdict == replay.expect.verdict
    assert len(found.steps) == replay.expect.steps
    assert found.violation == replay.expect.violation


@pytest.mark.parametrize("kind", FaultKind)
def test_every_fault_is_the_same_on_processes(cluster: Cluster, kind: FaultKind) -> None:
    found = cluster.enforce(*with_fault(kind))
    assert found.agrees, found.difference or found.reason
    assert any(actor.startswith(f"fault.{kind}") for actor, _ in found.steps)


def test_a_vcpu_that_was_parked_goes_on(cluster: Cluster) -> None:
    """Its next command is answered at once, which must not be taken for parked too."""
    case = Case("composed", workload="grace=each; evict=2; start=load.0 load.0; fsync read | read")
    found = cluster.enforce(*drawn(case, _goes_on))
    assert found.agrees, found.difference or found.reason


def _goes_on(steps: Steps) -> bool:
    return any(
        label == "parked"
        and any(who == actor and what.startswith("essa.") for who, what in steps[i:])
        for i, (actor, label) in enumerate(steps)
    )


def test_a_schedule_that_was_tampered_with_is_another_run(cluster: Cluster) -> None:
    replay = saved("state_change")
    assert replay.schedule, "there is nothing to tamper with"
    found = cluster.enforce(replace(replay, schedule=replay.schedule[1:]), explored(replay))
    assert found.difference.startswith("step ")
    assert not found.agrees


def test_guards_are_off_where_the_file_says_so(cluster: Cluster) -> None:
    replay = saved("slot_generation")  # a guard of the host's
    case = replace(replay.case, without=())
    found = cluster.enforce(replace(replay, case=case), explored(replay))
    assert found.verdict != VIOLATED


@pytest.mark.parametrize("role", ["host", "guest"])
def test_who_stands_still_makes_it_inconclusive_and_is_replaced(role: str) -> None:
    replay = saved("stable_first")
    with Cluster(SOON_SECONDS) as cluster:
        cluster.start()
        stopped = cluster.process_ids
        os.kill(stopped[role], signal.SIGSTOP)
        found = cluster.enforce(replay, explored(replay))
        assert found.verdict == INCONCLUSIVE
        assert "for 1 second" in found.reason
        assert not any(_runs(process) for process in stopped.values())


def test_who_is_killed_makes_it_inconclusive(cluster: Cluster) -> None:
    replay = saved("stable_first")
    cluster.start()
    os.kill(cluster.process_ids["host"], signal.SIGKILL)
    found = cluster.enforce(replay, explored(replay))
    assert found.verdict == INCONCLUSIVE
    assert "the host has gone" in found.reason
    again = cluster.enforce(replay, explored(replay))
    assert again.agrees, again.reason


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
