"""Goal: the process that is named, and no other, is paused, ended and started again; guests
survive a host that is paused, restarted and killed.

Method: real processes; a victim of two lines where no daemon is needed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from essa_cli.errors import CliError
from essa_cli.pid_file import read_pid_file, start_time
from essa_cli.processes import LocalProcess, strike
from shared.faults import Kind, parse_fault
from tests.process.host_process import ESSA, essa_here

pytestmark = pytest.mark.process

SECONDS_MAX = 180
"""A busy machine takes many times as long as an idle one."""
OPERATIONS, FEW = 4000, 2500
VICTIM = """
import sys, time
from pathlib import Path
from essa_cli.pid_file import write_pid_file
write_pid_file(Path(sys.argv[1]))
time.sleep(600)
"""


@contextmanager
def ended(*paths: Path) -> Iterator[None]:
    """Ends whatever the pid files name, also what was started again."""
    try:
        yield
    finally:
        for path in paths:
            if path.exists():
                started = read_pid_file(path)
                if start_time(started.pid) == started.start_time:
                    os.kill(started.pid, signal.SIGKILL)


def until(condition: object, what: str) -> None:
    assert callable(condition)
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """The pid file of a process that does nothing."""
    path = tmp_path / "victim.pid"
    child = subprocess.Popen([sys.executable, "-c", VICTIM, str(path)], cwd=Path.cwd())
    try:
        until(path.exists, "no pid file")
        with ended(path):
            yield path
    finally:
        child.kill()
        child.wait()


def test_pause_resume_kill_and_start_again(victim: Path) -> None:
    process, pid = LocalProcess(victim), read_pid_file(victim).pid
    assert process.runs()
    strike(parse_fault(Kind.PAUSE, {"pid-file": str(victim)}))
    until(lambda: state(pid) == "T", "not stopped")
    strike(parse_fault(Kind.RESUME, {"pid-file": str(victim)}))
    until(lambda: state(pid) == "S", "not resumed")
    slept: list[float] = []
    strike(parse_fault(Kind.PAUSE, {"pid-file": str(victim), "for": "3"}), slept.append)
    until(lambda: state(pid) == "S", "not resumed")
    strike(parse_fault(Kind.KILL, {"pid-file": str(victim)}))
    assert not process.runs()
    with pytest.raises(CliError, match="the process does not run"):
        process.pause()
    strike(parse_fault(Kind.RESTART, {"pid-file": str(victim), "delay": "2"}), slept.append)
    assert process.runs()
    assert read_pid_file(victim).pid != pid
    assert slept == [3.0, 2.0]
    strike(parse_fault(Kind.TERMINATE, {"pid-file": str(victim)}))
    assert not process.runs()


def test_one_that_ends_at_once_when_told_to_has_ended(
    victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is resumed after it was told, by when it may be gone."""
    pid = read_pid_file(victim).pid
    kill = os.kill

    def killed(number: int, what: int) -> None:
        kill(number, what)
        if what == signal.SIGTERM:
            until(lambda: start_time(pid) is None, "still there")

    monkeypatch.setattr(os, "kill", killed)
    LocalProcess(victim).terminate()
    assert not LocalProcess(victim).runs()


def test_a_number_that_is_anothers_now_is_refused(victim: Path) -> None:
    data = json.loads(victim.read_text())
    victim.write_text(json.dumps(data | {"start_time": data["start_time"] - 1}))
    for kind in ("pause", "kill", "terminate", "restart"):
        done = essa_here("ctl", "inject", kind, "--pid-file", str(victim))
        assert (done.returncode, done.stdout) == (2, "")
        assert "is another one" in done.stderr
    assert start_time(data["pid"]) == data["start_time"]
    victim.write_text(json.dumps(data))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x"}', "nonsense"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    done = essa_here("ctl", "inject", "kill", "--pid-file", str(path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "nothing that --pid-file has written" in done.stderr


DOCKER = """#!/bin/sh
echo "$@" >> docker.txt
case "$1 $4" in
  "inspect absent"*) echo "no such container" >&2; exit 1;;
  "inspect "*) cat running;;
esac
"""


def test_containers_are_left_to_the_docker_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in that writes down what it is asked for."""
    monkeypatch.chdir(tmp_path)
    done = essa_here("ctl", "inject", "kill", "--container", "web", "--pid-file", "x")
    assert (done.returncode, "only one" in done.stderr) == (2, True)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = essa_here("ctl", "inject", "kill", "--container", "web")
    assert (done.returncode, done.stderr) == (
        2,
        "essa: container web: there is no docker command here\n",
    )
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    Path("running").write_text("true")
    for words in (("pause", "--for", "0.01"), ("kill",), ("terminate",), ("restart",)):
        done = essa_here("ctl", "inject", words[0], "--container", "web", *words[1:], "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["done"].startswith("container web")
    asked = [line.split()[0] for line in Path("docker.txt").read_text().splitlines()]
    assert asked == ["pause", "unpause", "kill", "stop", "inspect", "stop", "start"]
    done = essa_here("ctl", "inject", "restart", "--container", "absent")
    assert (done.returncode, done.stderr) == (
        2,
        "essa: container absent: docker inspect: no such container\n",
    )


class Guests:
    """A host with a state directory, and one guest on its disk, as a user starts them."""

    def __init__(self, directory: Path, operations: int = OPERATIONS) -> None:
        self.directory = directory
        self.host_pid, self.guest_pid = directory / "host.pid", directory / "guest.pid"
        (directory / "state").mkdir()
        self.control = f"unix:{directory / 'c'}"
        self.host = self._start(
            "host", "--listen", f"unix:{directory / 'e'}", "--control", self.control,
            "--memory", "1M", "--state-dir", str(directory / "state"),
            "--pid-file", str(self.host_pid),
        )  # fmt: skip
        self.guest = self._start(
            "guest", "--host", f"unix:{directory / 'e'}", "--name", "web-1", "--memory", "1M",
            "--vcpus", "3", "--workload", "mixed", "--operations", str(operations), "--seed", "5",
            "--disk", str(directory / "disk"), "--pid-file", str(self.guest_pid),
            "--wait", "60", "--stall", "40", "--json",
        )  # fmt: skip

    def _start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*ESSA, *words],
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def reap(self) -> None:
        """End those that this process has started, whatever became of the test."""
        for process in (self.host, self.guest):
            process.kill()
            process.communicate(timeout=SECONDS_MAX)

    def is_open(self) -> bool:
        done = essa_here("ctl", "guests", "web-1", "--control", self.control)
        return done.returncode == 0


@contextmanager
def started(directory: Path, operations: int = OPERATIONS) -> Iterator[Guests]:
    guests = Guests(directory, operations)
    try:
        yield guests
    finally:
        guests.reap()


def test_a_guest_survives_a_host_that_is_paused_restarted_and_killed(tmp_path: Path) -> None:
    """A restart goes on exactly; a kill is a power failure: the guest reboots from its disk, and
    all that was written back reads at that version or newer. The plan that ships does it all."""
    with ended(tmp_path / "host.pid", tmp_path / "guest.pid"), started(tmp_path) as guests:
        until(guests.is_open, "no guest")
        done = essa_here(
            *("ctl", "plan", "host-restarts", "--stretch", "0.3", "--json"),
            *("--control", guests.control, "--process", f"host={guests.host_pid}"),
        )
        assert done.returncode == 0, done.stderr
        struck = {fault["name"]: fault["struck"] for fault in json.loads(done.stdout)["faults"]}
        assert min(struck.values()) > 0, struck
        out, _ = guests.guest.communicate(timeout=SECONDS_MAX)
        report = json.loads(out)
        assert guests.guest.returncode == 0
        assert (report["integrity_errors"], report["invariant_violations"]) == (0, 0)
        assert report["reboots"] == 1
        LocalProcess(guests.host_pid).terminate()
        guests.host.communicate(timeout=SECONDS_MAX)


def test_a_guest_is_paused_terminated_and_started_again_on_its_disk(tmp_path: Path) -> None:
    """Ended in good order it closes its session; started again it checks what its disk holds."""
    with ended(tmp_path / "host.pid", tmp_path / "guest.pid"), started(tmp_path, FEW) as guests:
        until(guests.is_open, "no guest")
        guest = ("--pid-file", str(guests.guest_pid))
        for kind in ("pause", "terminate"):  # paused, it cannot be through before it is ended
            done = essa_here("ctl", "inject", kind, *guest)
            assert done.returncode == 0, done.stderr
        guests.guest.communicate(timeout=SECONDS_MAX)
        assert not guests.is_open()
        assert essa_here("ctl", "inject", "restart", *guest).returncode == 0
        log = tmp_path / "guest.pid.log"
        process = LocalProcess(guests.guest_pid)
        until(lambda: not process.runs(), "the guest does not end")
        report = json.loads(log.read_text().splitlines()[-1])
        assert (report["integrity_errors"], report["invariant_violations"]) == (0, 0)
        assert report["requests"] == FEW
        LocalProcess(guests.host_pid).terminate()
        guests.host.communicate(timeout=SECONDS_MAX)
