"""A run of real processes is made again from its logs, step for step, or it is said where not.

Goal: two guests on a host that is short of memory, one of them perturbed and one without a guard,
come to the same end in the explorer; and every kind of step is really compared.

Method: one run is recorded for all tests. What a test changes in its logs must be found at exactly
the step that was changed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from essa_cli.recorded_runs import read_run
from race_explorer.recorded.log import GuestRun, HostRun, Kind, guest_run, host_run
from race_explorer.recorded.rerun import Rerun
from tests.process.host_process import ESSA, HostProcess, essa_here

pytestmark = pytest.mark.process

SECONDS_MAX = 100
RUNS_MAX = 5
GOOD, BAD, HOST = "guest-good.essa-run", "guest-bad.essa-run", "host.essa-run"


def _guest(host: HostProcess, run: Path, name: str, options: str) -> subprocess.Popen[str]:
    command = [*ESSA, "guest", "--host", host.listen, "--name", name, "--record", str(run)]
    command += ["--workload", "mixed", "--memory", "192", "--json", "--log-level", "error"]
    return subprocess.Popen(
        [*command, *options.split()], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a recorded run in which the host took pages that the guest then missed.

    Which it takes is drawn, and not from a seed: a run without a discard fault, or without the
    damage that a guard is off for, is made anew.
    """
    for _ in range(RUNS_MAX):
        directory = tmp_path_factory.mktemp("recorded")
        if _record(directory) > 0:
            return directory / "run"
    raise AssertionError(f"no discard fault, or no damage, in {RUNS_MAX} runs")


def _record(directory: Path) -> int:
    """Record two guests; the discard faults of the first, or 0 if the second went right."""
    run = directory / "run"
    memory = "--memory", "100", "--paging-size", "600", "--policy", "random"
    with HostProcess(directory, *memory, "--record", str(run)) as host:
        good = _guest(host, run, "good", "--vcpus 4 --operations 400 --perturb 7 --swap 64")
        bad = _guest(
            host, run, "bad", "--vcpus 3 --operations 150 --grace sign-off --without stable_lookup"
        )
        figures = json.loads(good.communicate(timeout=SECONDS_MAX)[0])
        bad.communicate(timeout=SECONDS_MAX)
        assert good.returncode == 0
        assert host.stop()[0] == 0
    return int(figures["discard_faults"]) if bad.returncode == 1 else 0


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


def again(directory: Path) -> Rerun:
    rerun = read_run([directory])
    while rerun.advance(100_000):
        pass
    rerun.finish()
    return rerun


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True)


def guest_log(run: Path, name: str = GOOD) -> GuestRun:
    return guest_run(lines_of(run / name))


def host_log(run: Path) -> HostRun:
    return host_run(lines_of(run / HOST))


# As recorded


@pytest.fixture(scope="module")
def rerun(run: Path) -> Rerun:
    """The run, made again."""
    return again(run)


def test_a_recorded_run_is_made_again_to_its_end(run: Path, rerun: Rerun) -> None:
    steps = guest_log(run).steps
    assert len(steps) >= 20_000
    assert {step.actor for step in steps if step.kind is Kind.STEP} >= {0, 1, 2, 3, 4}
    kinds = {step.kind for step in steps + guest_log(run, BAD).steps}
    # Whether a tick comes while a grace period has a use for it is up to the machine.
    assert kinds | {Kind.TICK} == set(Kind)
    said = Counter(record[0] for record in host_log(run).records)
    for name in ("choose_victim", "commit", "page_in_done", "page_out_done", "deliver_fault"):
        assert said[name] > 0, f"the host was not under pressure: no {name}"
    assert rerun.divergence is None, rerun.divergence.describe()
    assert rerun.complete
    assert rerun.steps == rerun.step_count > len(steps)


def test_a_violation_is_found_again(run: Path, rerun: Rerun) -> None:
    result = guest_log(run, BAD).result
    assert result is not None
    failure = [] if result["ending"] == "done" else [result["ending"]]
    wrong = failure + result["integrity_errors"] + result["violations"]
    assert wrong
    assert rerun.wrong() == [f"bad: {what}" for what in wrong]


def test_the_command_says_so(run: Path) -> None:
    told = essa_here("races", "replay", str(run))
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(f"reproduced: {run}: ")
    assert "bad: " in told.stdout  # whose damage is the run's
    (figures,) = json.loads(essa_here("races", "replay", str(run), "--json").stdout)
    assert figures["reproduced"]
    assert figures["complete"]
    assert figures["guests"]["good"]["ending"] == "done"


def test_a_log_that_is_cut_off_is_followed_as_far_as_it_goes(copy: Path) -> None:
    path = copy / GOOD
    path.write_text(path.read_text()[: path.stat().st_size // 2])
    told = essa_here("races", "replay", str(copy))
    assert (told.returncode, "cut off" in told.stdout) == (0, True), told.stdout


# Changed


def change_guest(copy: Path, kind: Callable[[Any], bool], to: Callable[[Any, int], Any]) -> int:
    """Change the first step of the kind in the second half of a log; the number of the step."""
    lines = lines_of(copy / GOOD)
    for number in range(len(lines) // 2, len(lines)):
        row = json.loads(lines[number])
        if isinstance(row[0], int) and kind(row[-1]):
            spelled = sum(
                isinstance(item, str)
                for line in lines[1 : number + 1]
                for item in json.loads(line)
                if isinstance(json.loads(line)[0], int)
            )
            row[-1] = to(row[-1], spelled)
            lines[number] = json.dumps(row) + "\n"
            (copy / GOOD).write_text("".join(lines))
            return len(guest_run(lines[: number + 1]).steps)
    raise AssertionError("there is no such step")


def is_step(item: Any) -> bool:
    return isinstance(item, int) and item >= 0


def is_command(item: Any) -> bool:
    return isinstance(item, list) and isinstance(item[0], str)


def is_answer(item: Any) -> bool:
    return isinstance(item, list) and isinstance(item[0], int)


@pytest.mark.parametrize(
    ("kind", "to", "recorded"),
    [
        (is_step, lambda item, spelled: (item + 1) % spelled, ""),
        (is_step, lambda item, _: ~item, "an interrupt first"),
        (is_command, lambda _item, _: ["essa set_unused 3"], "essa set_unused 3"),
        (is_answer, lambda item, _: [item[0] - 1], "the outcome of the host's step"),
    ],
    ids=["step", "interrupt", "command", "answer"],
)
def test_a_changed_step_of_a_guest_is_found(
    copy: Path, kind: Callable[[Any], bool], to: Callable[[Any, int], Any], recorded: str
) -> None:
    step = change_guest(copy, kind, to)
    divergence = again(copy).divergence
    assert divergence is not None
    assert f"guest good step {step}, " in divergence.where
    assert recorded in divergence.recorded
    assert divergence.now != divergence.recorded
    assert divergence.place.startswith("guest_agent/")


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("execute", lambda record: [*record[:-1], "was 0xff"]),
        ("execute", lambda record: [*record[:3], record[3] + 1, *record[4:]]),
        ("choose_victim", lambda record: [*record[:-2], "guest 1 page 0", record[-1]]),
        ("commit", lambda record: [*record[:2], record[2] ^ 1, *record[3:]]),
        ("page_in_done", lambda record: [*record[:2], "00000000", *record[3:]]),
        ("page_out_done", lambda record: [record[0], 1_000_000, *record[2:]]),
        ("acknowledge", lambda record: [*record[:2], 1_000_000, *record[3:]]),
        ("close", lambda record: [*record[:2], "00000000"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_changed_step_of_the_host_is_found(
    copy: Path, name: str, to: Callable[[list[Any]], list[Any]]
) -> None:
    lines = lines_of(copy / HOST)
    numbers = [n for n, line in enumerate(lines) if line.startswith(f'["{name}"')]
    number = numbers[len(numbers) // 2]
    lines[number] = json.dumps(to(json.loads(lines[number]))) + "\n"
    (copy / HOST).write_text("".join(lines))
    divergence = again(copy).divergence
    assert divergence is not None
    assert divergence.where == f"host step {number}"
    assert divergence.now != divergence.recorded


def test_another_end_is_found(copy: Path) -> None:
    lines = lines_of(copy / GOOD)
    name, result = json.loads(lines[-1])
    result["statistics"]["cache_hits"] += 1
    lines[-1] = json.dumps([name, result]) + "\n"
    (copy / GOOD).write_text("".join(lines))
    told = essa_here("races", "replay", str(copy))
    assert told.returncode == 1
    assert told.stdout.startswith(f"NOT REPRODUCED: {copy}: ")
    assert "(the end of good, statistics): recorded cache_hits " in told.stdout


# What is no recorded run


@pytest.mark.parametrize(
    ("name", "line", "text", "what"),
    [
        (HOST, 0, "", "line 1: this is no JSON"),
        (HOST, 0, '{"format":"essa-run/9"}', "line 1: format is 'essa-run/9'"),
        (HOST, 0, '{"format":"essa-run/1","role":"host"}', "line 1: incarnation: Field required"),
        (HOST, 5, '["fly",1,2,""]', "line 6: no host's record is called 'fly'"),
        (HOST, 5, '["evict",1,"x",""]', "line 6: this is no record 'evict'"),
        (GOOD, 5, "[0,9999999]", "line 6: a step that is not spelled yet"),
        (GOOD, 5, "[0,{}]", "line 6: {} is no step"),
        (GOOD, 5, "{", "line 6: this is no JSON"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(
    copy: Path, name: str, line: int, text: str, what: str
) -> None:
    lines = lines_of(copy / name)
    lines[line] = text + "\n"
    (copy / name).write_text("".join(lines))
    told = essa_here("races", "replay", str(copy))
    assert told.returncode == 2
    assert told.stderr == f"essa: {copy / name}: {told.stderr.partition(f'{name}: ')[2]}"
    assert what in told.stderr


def test_logs_that_do_not_belong_together_are_refused(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    told = essa_here("races", "replay", str(tmp_path / "empty"))
    assert (told.returncode, told.stderr) == (
        2,
        f"essa: {tmp_path / 'empty'}: no log of a host; a recorded run has one\n",
    )
    told = essa_here("races", "replay", str(copy), str(copy / HOST))
    assert (told.returncode, "go alone" in told.stderr) == (2, True)
    (copy / GOOD).unlink()
    divergence = again(copy).divergence
    assert divergence is not None
    assert "there is no log of good" in divergence.now


# Recording


def test_what_cannot_be_recorded_is_refused(run: Path, tmp_path: Path) -> None:
    here = str(tmp_path / "here")
    told = essa_here("host", "--record", here, "--state-dir", str(tmp_path))
    assert (told.returncode, "--record" in told.stderr) == (2, True)
    told = essa_here(
        "host",
        "--record",
        str(run),
        "--listen",
        f"unix:{tmp_path}/e",
        "--control",
        f"unix:{tmp_path}/c",
    )
    assert (told.returncode, "is never written over" in told.stderr) == (2, True)
    with HostProcess(tmp_path) as host:
        guest = "guest", "--host", host.listen, "--workload", "mixed", "--name", "a"
        told = essa_here(*guest, "--record", here)
        assert told.returncode == 2
        assert "the host does not record its run" in told.stderr
        disk = "--disk", str(tmp_path / "disk")
        assert essa_here(*guest, "--operations", "50", *disk).returncode == 0
        told = essa_here(*guest, "--record", here + "2", *disk)
        assert told.returncode == 2
        assert "holds data" in told.stderr
    assert [path.name for path in Path(here).iterdir()] == ["guest-a.essa-run"]
