"""`essa soak` as a user runs it, short: clean with all guards, not without one.

Goal: the soak can fail, says how, and leaves nothing behind. The long one is `make soak`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from essa_cli.soak_runs import GuestState, Soak, SoakPlan
from guest_agent.workload.operations import Kind
from shared.arch import Orc
from tests.process.host_process import essa_here

DEADLINE_SECONDS = 110
ESSA = (sys.executable, "-m", "essa_cli")
KEYS = ("operations", "integrity_errors", "invariant_violations", "discard_faults", "seconds")


@pytest.fixture(scope="module")
def clean() -> dict[str, Any]:
    """One short run with everything on, as JSON."""
    done = essa_here("soak", "--seed", "3", "--operations", "6000", "--json")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


@pytest.mark.process
def test_with_all_guards_it_is_clean(clean: dict[str, Any]) -> None:
    assert all(key in clean for key in KEYS)
    assert clean["operations"] == 6_000
    assert (clean["integrity_errors"], clean["invariant_violations"]) == (0, 0)
    assert (clean["damage"], clean["damaged_after"]) == ([], None)


@pytest.mark.process
def test_it_is_about_something(clean: dict[str, Any]) -> None:
    assert {kind.value for kind in Kind} <= set(clean["workload"])
    assert set(clean["essa"]) == {orc.name.lower() for orc in Orc}
    assert clean["essa"]["set_volatile"] > 0
    assert clean["essa"]["set_potential_volatile"] > 0
    assert clean["discard_faults"] > 0
    assert clean["pages_discarded"] > 0
    assert clean["swap_reads"] > 0
    assert clean["evictions"] > 100
    assert {"Sr", "Vr", "Pr", "Ur"} <= set(clean["evicted"])


@pytest.mark.process
def test_without_a_guard_it_is_not() -> None:
    """The damage is told with its history, and how long it took."""
    done = essa_here(
        "soak", "--seed", "3", "--operations", "20000", "--without", "stable-lookup", "--json"
    )
    assert done.returncode == 1, done.stderr[-3000:]
    figures = json.loads(done.stdout)
    assert figures["integrity_errors"] + figures["invariant_violations"] > 0
    assert 0 < figures["damaged_after"] <= figures["operations"]
    assert "essa SET_" in "\n".join(figures["damage"])


@pytest.mark.process
def test_sigterm_leaves_nothing_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*ESSA, "soak", "--operations", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "of 1,000,000 operations" in line
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
    deadline = time.monotonic() + 5
    while _naming(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _naming(tmp_path) == []


def _naming(folder: Path) -> list[str]:
    """Processes whose command line names the folder."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                lines.append((entry / "cmdline").read_bytes().decode(errors="replace"))
            except OSError:
                continue
    return [line for line in lines if str(folder) in line]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--guests", "0"], "--guests is 0; it must be 1 to"),
        (["--vcpus", "9999"], "--vcpus is 9999; it must be 1 to"),
        (["--operations", "1"], "--operations is 1; it must be 2 to"),
        (["--memory", "64"], "--memory is 64; it must be 256 to"),
        (["--preset", "best"], "--preset is best"),
        (["--without", "luck"], "--without luck: no such guard"),
        (["--weights", "read=x"], "--weights has 'read=x'"),
    ],
)
def test_what_the_user_can_mend(options: list[str], text: str) -> None:
    done = essa_here("soak", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_guest_that_its_kernel_has_stopped_is_a_violation() -> None:
    soak = Soak.of(SoakPlan(1, 11, 2, 4, 384))
    assert [guest.operations for guest in soak.guests] == [6, 5]
    assert (soak.plan.memory(0), soak.plan.memory(1), soak.plan.frames) == (384, 128, 256)
    assert soak.is_clean
    state = soak.guests[1]
    assert not state.take("Traceback (most recent call last):")
    assert state.take(_event("guest_progressed", requests=3, discard_faults=2))
    assert state.take(_event("guest_failed", requests=4, reason="BUG: a lock\n  and more"))
    assert (soak.done, soak.invariant_violations, soak.is_clean) == (4, 1, False)
    assert soak.damaged_after == 4
    assert soak.plain()["damage"] == ["soak-1 after 4 operations: BUG: a lock\n  and more"]


def test_violations_are_told_in_order_and_not_without_end() -> None:
    state = GuestState("soak-0", 100)
    for n in range(1, 100):
        state.take(_event("invariant_violated", what=f"number {n}", requests=n))
    assert state.damaged_after == 1
    assert state.damage[0] == "soak-0 after 1 operations: invariant violated: number 1"
    assert len(state.damage) == 20


def _event(name: str, **values: object) -> str:
    return json.dumps({"event": name, **values})
