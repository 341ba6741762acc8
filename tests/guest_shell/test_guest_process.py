"""`essa guest` as a process of its own, against `essa host`, with everything that can end one.

The host is killed, stopped and started again, the guest is killed, and two guests with eight
vCPUs each fight for a pool of frames far too small for either.
"""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from guest_agent.workload.tracefile import save
from tests.guest_shell.traces import busy_trace
from tests.process.host_process import ESSA, HostProcess, essa_here

pytestmark = pytest.mark.process

DEADLINE_SECONDS = 110
FRAMES = 128


class Guest:
    """One `essa guest`; its log tells how far it is."""

    def __init__(self, host: HostProcess, name: str, trace: Path, *options: str) -> None:
        command = [*ESSA, "guest", "--host", host.listen, "--name", name, "--trace", str(trace)]
        command += ["--memory", "192", "--json", "--log-level", "info", *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_for(self, event: str, **least: int) -> dict[str, Any]:
        """Read the log up to an event whose values are at least these."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found: dict[str, Any] = json.loads(line)
            if found["event"] == event and all(found[k] >= v for k, v in least.items()):
                return found
        raise AssertionError(f"the guest ended before {event}")

    def end(self) -> dict[str, Any]:
        """Wait; the figures of a run that ended well."""
        out, errors = self.process.communicate(timeout=DEADLINE_SECONDS)
        assert self.process.returncode == 0, errors[-2000:]
        figures: dict[str, Any] = json.loads(out)
        assert figures["integrity_errors"] == 0
        return figures

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=DEADLINE_SECONDS)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "busy.essa-trace"
    save(path, busy_trace(1, 2_500))
    return path


def new_host(directory: Path, *options: str) -> HostProcess:
    return HostProcess(directory, "--memory", str(FRAMES), "--paging-size", "4096", *options)


def test_many_requests_under_constant_reclaim(tmp_path: Path) -> None:
    path = tmp_path / "long.essa-trace"
    save(path, busy_trace(2, 10_000))
    options = ["--vcpus", "8", "--spread", "place", "--access", "mixed", "--perturb", "5"]
    with new_host(tmp_path) as host:
        guests = [Guest(host, name, path, *options) for name in ("a", "b")]
        for guest in guests:
            figures = guest.end()
            assert figures["requests"] == 10_000
            assert figures["pages_verified"] > 0
            assert figures["discard_faults"] > 0


def test_the_same_run_with_one_guard_off_fails(tmp_path: Path) -> None:
    path = tmp_path / "long.essa-trace"
    save(path, busy_trace(2, 10_000))
    options = ["--vcpus", "8", "--spread", "place", "--access", "mixed", "--perturb", "5"]
    with new_host(tmp_path) as host:
        guest = Guest(host, "a", path, *options, "--without", "stable-lookup")
        _, errors = guest.process.communicate(timeout=DEADLINE_SECONDS)
        assert guest.process.returncode == 1
        # What is used without being stable is lost in one of several ways.
        assert "PG_discarded" in errors or "discard fault" in errors
        assert "Traceback" not in errors


def test_a_killed_host_is_a_power_failure(tmp_path: Path, trace: Path) -> None:
    """The guest reboots from its disk and does the rest; what was written back is there."""
    host = new_host(tmp_path)
    guest = Guest(host, "a", trace, "--vcpus", "4", "--spread", "place", "--access", "mixed")
    guest.wait_for("guest_progressed", requests=300)
    host.stop(signal.SIGKILL)
    with new_host(tmp_path):
        guest.wait_for("host_lost_its_state")
        figures = guest.end()
    assert (figures["requests"], figures["reboots"]) == (2_500, 1)


def test_a_stopped_host_resumes_and_the_guest_notices_nothing(tmp_path: Path, trace: Path) -> None:
    (tmp_path / "state").mkdir()
    state = ("--state-dir", str(tmp_path / "state"))
    host = new_host(tmp_path, *state)
    guest = Guest(host, "a", trace, "--vcpus", "4", "--spread", "place", "--access", "mixed")
    guest.wait_for("guest_progressed", requests=300)
    assert host.stop(signal.SIGTERM)[0] == 0
    with new_host(tmp_path, *state) as host:
        assert host.values["resumed"] != "no"
        figures = guest.end()
    assert (figures["requests"], figures["reboots"]) == (2_500, 0)


def test_a_killed_guests_name_and_disk_serve_the_next_at_once(tmp_path: Path, trace: Path) -> None:
    disk = ("--disk", str(tmp_path / "disk"))
    with new_host(tmp_path) as host:
        first = Guest(host, "a", trace, *disk)
        first.wait_for("guest_progressed", requests=300)
        first.kill()
        second = Guest(host, "a", trace, *disk, "--requests", "1000")
        assert second.end()["requests"] == 1_000


def test_sigterm_closes_the_guest(tmp_path: Path, trace: Path) -> None:
    with new_host(tmp_path) as host:
        first = Guest(host, "a", trace)
        first.wait_for("guest_progressed", requests=50)
        first.process.terminate()
        _, errors = first.process.communicate(timeout=DEADLINE_SECONDS)
        assert first.process.returncode == 128 + signal.SIGTERM, errors
        assert "Traceback" not in errors
        Guest(host, "a", trace, "--requests", "50").end()  # the name is free again


BAD = [
    ([], "--trace"),
    (["--trace", "no-such"], "no-such: neither a file nor a shipped trace"),
    (["--trace", "{cut}"], "cut off"),
    (["--trace", "{letter}"], "letter"),
    (["--trace", "sqlite", "--memory", "1Q"], "--memory"),
    (["--trace", "sqlite", "--memory", "8"], "--memory is 8; it must be 64 to"),
    (["--trace", "sqlite", "--memory", "1T"], "--memory is 1T"),
    (["--trace", "sqlite", "--vcpus", "0"], "--vcpus is 0"),
    (["--trace", "sqlite", "--requests", "0"], "--requests is 0"),
    (["--trace", "sqlite", "--cache-pages", "99999"], "--cache-pages is 99999"),
    (["--trace", "sqlite", "--preset", "best"], "--preset is best; it must be seed or fixed"),
    (["--trace", "sqlite", "--without", "luck"], "no such guard"),
    (["--trace", "sqlite", "--host", "here"], "--host is 'here'"),
    (["--trace", "sqlite", "--mode", "kvm", "--hints", "volatile"], "--hints unused"),
    (["--trace", "sqlite", "--wait", "-1"], "--wait"),
    (["--trace", "sqlite", "--log-level", "loud"], "--log-level is loud"),
    (["--trace", "sqlite", "--log-format", "xml"], "--log-format is xml"),
    (["--trace", "sqlite", "--metrics", "0.0.0.0:1"], "unless --insecure-metrics is given"),
    (["--trace", "sqlite", "--wait", "0.2", "--host", "unix:{folder}/nobody"], "no answer"),
    (["--trace", "sqlite", "--disk", "{folder}"], "Is a directory"),
    (["--trace", "sqlite", "--disk", "{letter}"], "no disk"),
]


@pytest.mark.parametrize(("arguments", "told"), BAD, ids=lambda value: str(value)[:60])
def test_bad_input_is_one_line_and_code_2(
    tmp_path: Path, trace: Path, arguments: list[str], told: str
) -> None:
    (tmp_path / "letter").write_text("Dear Ada, this is no trace, and no disk either.")
    (tmp_path / "cut").write_bytes(trace.read_bytes()[:200])
    places = {"folder": tmp_path, "letter": tmp_path / "letter", "cut": tmp_path / "cut"}
    result = essa_here("guest", *(argument.format(**places) for argument in arguments))
    assert result.returncode == 2, result.stderr
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_name_in_use_is_one_line_and_code_2(tmp_path: Path, trace: Path) -> None:
    with new_host(tmp_path) as host:
        first = Guest(host, "a", trace)
        first.wait_for("guest_progressed", requests=10)
        result = essa_here(
            "guest", "--host", host.listen, "--name", "a", "--trace", str(trace), "--memory", "192"
        )
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert "a" in result.stderr
        first.kill()


def test_the_hosts_other_socket_is_one_line_and_code_2(tmp_path: Path, trace: Path) -> None:
    guest = ("guest", "--trace", str(trace), "--memory", "192", "--wait", "0.2", "--host")
    with new_host(tmp_path) as host:
        for command in ((*guest, host.control), ("ctl", "status", "--control", host.listen)):
            result = essa_here(*command)
            assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
            assert "the host's other socket" in result.stderr


def test_paging_space_too_small_is_one_line_and_code_2(tmp_path: Path, trace: Path) -> None:
    with new_host(tmp_path) as host:
        result = essa_here("guest", "--host", host.listen, "--trace", str(trace), "--memory", "1G")
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert "slots" in result.stderr
