"""`essa races` as a user runs it: exit codes, one line for bad input, and what is printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ESSA = (sys.executable, "-m", "essa_cli", "races")
REPLAYS = Path(__file__).parents[1] / "replays"


def races(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*ESSA, *words], capture_output=True, text=True, timeout=600, check=False)


def test_the_list_names_every_scenario_with_its_guards() -> None:
    rows = json.loads(races("list", "--json").stdout)
    found = {row["name"]: row["guards"] for row in rows}
    assert "stable_before_clear" in found["dirty-bit-in-transit"]


def test_a_scenario_is_shown_with_what_its_guards_do() -> None:
    done = races("show", "dirty-bit-in-transit")
    assert done.returncode == 0
    assert "stable_before_clear: " in done.stdout


def test_what_is_violated_is_drawn_and_ends_with_1() -> None:
    done = races("run", "dirty-bit-in-transit", "--without", "stable_before_clear")
    assert done.returncode == 1, done.stderr
    assert "conflict: [A]" in done.stdout
    told = [line.partition(" ")[0] for line in done.stdout.splitlines()]
    assert (told.count("replay:"), told.count("token:")) == (1, 1)
    *_, last = done.stdout.splitlines()
    again = races("replay", last.removeprefix("token: "))
    assert again.returncode == 0, again.stderr
    assert again.stdout.endswith(f"\n{last}\n")


def test_what_may_fail_is_said_and_is_in_the_verdict() -> None:
    few = ("--strategy", "random", "--schedules", "100")
    held = races("run", "cut-before-delivery", "--faults", "pause=1", *few, "--json")
    assert held.returncode == 0, held.stdout + held.stderr
    told = json.loads(held.stdout)
    assert told["faults"] == "pause=1"
    assert told["reached"]["pause"] > 0
    words = ("--without", "redeliver_faults", "--faults", "cut=1")
    lost = races("run", "freed-while-fault-pending", *words, *few)
    assert lost.returncode == 1, lost.stdout + lost.stderr
    assert "deadlock: " in lost.stdout


def test_processes_make_no_difference_to_the_verdict() -> None:
    words = ("run", "dirty-bit-in-transit", "--strategy", "random", "--schedules", "400", "--json")
    one, two = (races(*words, "--jobs", jobs) for jobs in ("1", "2"))
    assert one.returncode == 0, one.stderr
    assert json.loads(one.stdout) == json.loads(two.stdout)


def test_committed_replays_end_as_they_did() -> None:
    files = [str(REPLAYS / f"{name}.essa-replay") for name in ("grace_period", "stable_pin")]
    done = races("replay", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("reproduced: ") == 2


def test_bad_input_is_one_line_and_2(tmp_path: Path) -> None:
    broken = tmp_path / "broken.essa-replay"
    broken.write_text("format = ", encoding="utf-8")
    faulty = ("run", "dirty-bit-in-transit", "--faults", "flood=1")
    for words in (("replay", str(broken)), ("run", "no-such"), ("show", "no-such"), faulty):
        done = races(*words)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1


def test_two_guards_are_killed_and_nothing_with_all_on() -> None:
    words = (
        "--guard",
        "stable_before_clear",
        "--guard",
        "grace_period",
        "--fast",
        "--json",
        "--budget",
        "500",
    )
    done = races("kill-matrix", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["false_alarms"] == []
    assert list(told["guards"]) == ["stable_before_clear", "grace_period"]
    assert "dirty-bit-in-transit" in told["guards"]["stable_before_clear"]["killed_by"]
