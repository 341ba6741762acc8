"""`essa races replay --cluster` as a user runs it: what is printed, exit codes, bad input."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from essa_cli.gate import processes
from tests.process.host_process import essa_here

REPLAYS = Path(__file__).parents[1] / "replays"
FILE = str(REPLAYS / "stable_first.essa-replay")


def altered(folder: Path) -> str:
    """A file in which one deviation less is left."""
    text = (REPLAYS / "state_change.essa-replay").read_text()
    first, second = text.index("[[schedule]]"), text.index("[[schedule]]", text.index("[[") + 1)
    path = folder / "altered.essa-replay"
    path.write_text(text[:first] + text[second:])
    return str(path)


@pytest.mark.process
def test_steps_are_told_and_both_files_are_as_in_the_explorer() -> None:
    done = essa_here("races", "replay", FILE, FILE, "--cluster", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = json.loads(done.stdout)
    assert first == second
    assert (first["verdict"], first["agrees"], first["reason"]) == ("violated", True, None)
    assert ["cpu0", "store"] in first["steps"]


@pytest.mark.process
def test_a_file_that_says_otherwise_is_told_and_1(tmp_path: Path) -> None:
    done = essa_here("races", "replay", altered(tmp_path), "--cluster")
    assert done.returncode == 1, done.stdout
    assert "the file says otherwise: step" in done.stdout


def test_who_does_not_come_makes_it_inconclusive_and_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "ARRIVAL_SECONDS", 0.1)
    done = essa_here("races", "replay", FILE, "--cluster", "--listen", "127.0.0.1:0")
    assert done.returncode == 3
    assert done.stdout.startswith(f"inconclusive: {FILE}: before step 1: no word from a host")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--cluster", "--picture"), "--cluster goes with --timeout"),
        (("--listen", "127.0.0.1:0"), "--listen is for --cluster"),
        (("--cluster", "--listen", "192.0.2.1:7070"), "unless --tls or --insecure is given"),
        (("--cluster", "--listen", "nowhere"), "--listen is 'nowhere'"),
    ],
)
def test_what_does_not_fit_is_one_line_and_2(arguments: tuple[str, ...], told: str) -> None:
    done = essa_here("races", "replay", FILE, *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_one_line_and_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = essa_here("races", "replay", FILE, "--cluster", "--listen", address)
    assert done.returncode == 2
    told = f"essa: --listen {address} cannot be used: it is in use by another process\n"
    assert done.stderr == told


def test_a_token_is_refused() -> None:
    done = essa_here("races", "replay", "ESSA1.AAAA", "--cluster")
    assert done.returncode == 2
    assert "--cluster takes files" in done.stderr


def test_who_attends_says_beyond_this_machine_aloud() -> None:
    done = essa_here("races", "attend", "guest", "--gate", "192.0.2.1:7070")
    assert done.returncode == 2
    assert "unless --tls or --insecure is given" in done.stderr
