"""`essa demo` as a user runs it, small: both runs to their end, figures that mean something.

Goal: the demonstration shows what it claims, and leaves nothing behind. Method: one run of
the command with tiny guests, its JSON taken apart; what it makes of results by hand.
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

from essa_cli import demo_report
from essa_cli.demo import GUESTS, exit_code
from essa_cli.demo_runs import GuestPlan, GuestState, HostFigures, Run
from essa_cli.demo_traces import in_pieces
from guest_agent.kernel.kernel import Hints
from guest_agent.workload import tracefile
from guest_agent.workload.events import EventKind
from guest_agent.workload.plan import PLACE_PAGES
from guest_agent.workload.replay import Access
from shared.arch import Orc
from tests.process.host_process import essa_here

PAGES = 160
ACCESSES = 450
ESSA = (sys.executable, "-m", "essa_cli")


def _children(folder: Path) -> list[str]:
    """Command lines of processes that name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
    return found


def _start(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*ESSA, "demo", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )


@pytest.mark.process
def test_both_runs_do_the_same_and_hints_save_page_outs(tmp_path: Path) -> None:
    process = _start(tmp_path, "--memory", str(PAGES), "--accesses", str(ACCESSES), "--json")
    out, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    without, hinted = json.loads(out)["runs"]
    assert (without["hints"], hinted["hints"]) == ("none", "volatile")
    for run in (without, hinted):
        assert list(run) == ["hints", "guests", "host"]
        assert [guest["name"] for guest in run["guests"]] == list(GUESTS)
        assert all(list(guest) == list(demo_report.GUEST_KEYS) for guest in run["guests"])
        assert all(guest["requests"] > 0 for guest in run["guests"])
        assert all(guest["integrity_errors"] == 0 for guest in run["guests"])
        assert list(run["host"]) == ["page_ins", "page_outs", "discards", "frames"]
        assert list(run["host"]["discards"]) == ["unused", "volatile", "potential_volatile"]
        assert run["host"]["frames"] == len(GUESTS) * PAGES // 2
    for before, after in zip(without["guests"], hinted["guests"], strict=True):
        assert before["requests"] == after["requests"]
        assert not any(before["essa"].values())
        assert after["essa"]["set_volatile"] > 0
    assert without["host"]["page_outs"] > hinted["host"]["page_outs"]
    assert sum(without["host"]["discards"].values()) == 0
    assert hinted["host"]["discards"]["volatile"] > 0
    assert sum(guest["discard_faults"] for guest in without["guests"]) == 0
    assert sum(guest["discard_faults"] for guest in hinted["guests"]) > 0
    assert not list(tmp_path.iterdir())
    assert not _children(tmp_path)


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, number: int) -> None:
    process = _start(tmp_path)
    deadline = time.monotonic() + 60
    while len(_children(tmp_path)) < 1 + len(GUESTS):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert not _children(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.process
def test_a_child_that_dies_is_named_and_ends_the_others(tmp_path: Path) -> None:
    process = _start(tmp_path)
    deadline = time.monotonic() + 60
    victim = None
    while victim is None:
        assert process.poll() is None
        assert time.monotonic() < deadline
        victim = _pid_of(tmp_path, "--name search")
        time.sleep(0.05)
    os.kill(victim, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "guest search ended" in errors
    assert "Traceback" not in errors
    assert not _children(tmp_path)
    assert not list(tmp_path.iterdir())


def _pid_of(folder: Path, words: str) -> int | None:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(folder) in line and words in line:
                return int(entry.name)
    return None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--memory", "64"), "it must be 128 to"),
        (("--memory", "much"), "--memory"),
        (("--accesses", "0"), "--accesses"),
        (("--accesses", "many"), "--accesses"),
    ],
)
def test_bad_values_are_one_line(options: tuple[str, ...], words: str) -> None:
    done = essa_here("demo", *options)
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", list(tracefile.shipped()))
def test_pieces_are_the_traces_accesses_in_order(name: str) -> None:
    whole = tracefile.load(tracefile.resolve(name))
    pieces = in_pieces(whole, 0, 1 << 30)
    assert _accesses(pieces) == _accesses(whole)
    rows = pieces.request_rows()
    first, last = pieces.pages[rows], pieces.pages[rows] + pieces.counts[rows] - 1
    assert (first // PLACE_PAGES == last // PLACE_PAGES).all()


def _accesses(trace: Any) -> list[tuple[int, int, bool]]:
    """(file, page, whether stored to) of every access, and (file, -1, False) for an fsync."""
    found = []
    stores = (EventKind.WRITE, EventKind.MAP_SHARED)
    for kind, file, page, count in zip(
        trace.kinds.tolist(),
        trace.file_column.tolist(),
        trace.pages.tolist(),
        trace.counts.tolist(),
        strict=True,
    ):
        if kind == EventKind.FSYNC:
            found.append((file, -1, False))
        elif kind <= EventKind.MAP_SHARED:
            found += [(file, p, kind in stores) for p in range(page, page + count)]
    return found


def _run(hints: Hints, host: HostFigures, **report: int) -> Run:
    figures: dict[str, Any] = dict.fromkeys(demo_report.GUEST_KEYS, 0)
    figures |= {"name": "g", "essa": {orc.name.lower(): 1 for orc in Orc}, **report}
    state = GuestState(GuestPlan("g", (), Access.MIXED, 128, 1), report=figures)
    return Run(hints, [state], host)


def test_an_integrity_error_is_exit_code_1() -> None:
    good = _run(Hints.NONE, HostFigures())
    assert exit_code([good, _run(Hints.VOLATILE, HostFigures())]) == 0
    assert exit_code([good, _run(Hints.VOLATILE, HostFigures(), integrity_errors=1)]) == 1


def test_the_sentence_says_what_the_figures_say() -> None:
    without = _run(Hints.NONE, HostFigures(page_ins=300, page_outs=700), disk_reads=50)
    hinted = _run(Hints.VOLATILE, HostFigures(page_ins=40, page_outs=60), disk_reads=170)
    text = demo_report.saved(without, hinted)
    assert "saved 900 of 1,000 page transfers" in text
    assert "(90%)" in text
    assert "120 more disk transfers: 780 fewer in all" in text
    text = demo_report.saved(hinted, without)
    assert "saved no paging: 1,000 page transfers instead of 100" in text
    assert "saved the guests 120 disk transfers as well: 780 more in all" in text
