"""The gate over TLS: who gets a seat, what the others are told, and that the race is the same.

Method: certificates of one authority for a gate in this process. Who is turned away is a seat in
this process or a command; the race's host and guest are processes that come over loopback.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from essa_cli.errors import CliError
from essa_cli.gate import seat
from essa_cli.gate.processes import Cluster
from essa_cli.gate.race import INCONCLUSIVE
from essa_cli.gate.service import GUEST, HOST, Gate
from race_explorer.faults import FaultKind
from shared.errors import RoleNotAllowedError
from shared.essa.v1 import gate_pb2 as pb
from shared.essa.v1 import gate_pb2_grpc
from shared.identity import Role
from shared.rpc.channel import Address
from shared.rpc.status import error_of
from shared.rpc.tls import Tls
from tests.gate.runs import PATIENT_SECONDS, explored, saved, with_fault
from tests.process.host_process import ESSA, essa_here
from tests.security.people import People

SOON_SECONDS = 10.0
IMPATIENT_SECONDS = 2.0
SHUT_SECONDS = 0.2
REPLAY = str(Path(__file__).parents[1] / "replays" / "stable_first.essa-replay")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    return People(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> People:
    return People(tmp_path_factory.mktemp("strangers"))


@pytest.fixture
def gate(people: People) -> Iterator[Gate]:
    found = Gate(local(0), SOON_SECONDS, people.tls(Role.OPERATOR, "control"))
    yield found
    found.close()


def local(port: int) -> Address:
    return Address(host="localhost", port=port)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def sit(gate: Gate, role: pb.GateRole, tls: Tls | None) -> pb.AttendResponse | None:
    """Come to the gate and hear what it says first."""

    async def attend() -> pb.AttendResponse | None:
        here = seat.Seat(gate.address, role, tls)
        try:
            return await asyncio.wait_for(here.hear(), SOON_SECONDS)
        finally:
            await here.leave()

    return asyncio.run(attend())


def is_free(gate: Gate, role: pb.GateRole) -> bool:
    """Whether nobody has the role; nobody has it afterwards either."""
    attendant = gate.enter(role)
    if attendant is not None:
        gate.leave(role, attendant)
    return attendant is not None


@pytest.mark.parametrize(
    ("part", "role"),
    [(HOST, Role.GUEST), (HOST, Role.OPERATOR), (GUEST, Role.HOST), (GUEST, Role.OPERATOR)],
)
def test_another_role_is_refused_and_the_seat_stays_free(
    gate: Gate, people: People, part: pb.GateRole, role: Role
) -> None:
    with pytest.raises(CliError, match=f"no seat .* is of role {role}; this is for role"):
        sit(gate, part, people.tls(role, "other"))
    assert is_free(gate, part)


def test_the_refusal_has_its_status_and_the_right_one_is_seated_then(
    gate: Gate, people: People
) -> None:
    arrival = pb.AttendRequest(arrival=pb.Arrival(role=HOST))
    wrong, right = people.tls(Role.GUEST, "web"), people.tls(Role.HOST, "host")
    with grpc.secure_channel(gate.address.target, wrong.channel_credentials()) as channel:
        stub: Any = gate_pb2_grpc.GateServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError) as refused:
            list(stub.Attend(iter([arrival]), timeout=SOON_SECONDS))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    error: Any = error_of(refused.value)  # type: ignore[arg-type]
    assert isinstance(error, RoleNotAllowedError)
    assert error.metadata == {"role": "guest", "wanted": "host"}
    with grpc.secure_channel(gate.address.target, right.channel_credentials()) as channel:
        stub = gate_pb2_grpc.GateServiceStub(channel)  # type: ignore[no-untyped-call]
        assert list(stub.Attend(iter([arrival]), timeout=SOON_SECONDS)) == []


def test_who_shows_nothing_or_something_of_another_authority_gets_no_seat(
    gate: Gate, people: People, strangers: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seat, "SHUT_SECONDS", SHUT_SECONDS)
    stranger = strangers.tls(Role.HOST, "host")
    forged = Tls(stranger.identity, stranger.certificate, stranger.key, people.authority.pem)
    for tls in (None, stranger, forged):
        with pytest.raises(CliError, match="is there and does not let us in; look at --tls"):
            sit(gate, HOST, tls)
        assert is_free(gate, HOST)


def test_a_gate_without_tls_is_not_for_who_wants_it(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seat, "SHUT_SECONDS", SHUT_SECONDS)
    plain = Gate(local(0), SOON_SECONDS)
    try:
        with pytest.raises(CliError, match="does not let us in"):
            sit(plain, GUEST, people.tls(Role.GUEST, "web"))
        assert is_free(plain, GUEST)
    finally:
        plain.close()


def test_a_gate_that_is_called_by_another_name_is_none(
    gate: Gate, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seat, "SHUT_SECONDS", SHUT_SECONDS)
    gate.address = Address(host="127.0.0.1", port=gate.address.port)
    with pytest.raises(CliError, match="does not let us in"):
        sit(gate, GUEST, people.tls(Role.GUEST, "web"))


@pytest.mark.parametrize("role", [Role.HOST, Role.GUEST])
def test_an_attendee_that_is_not_let_in_says_so_in_one_line(
    gate: Gate, strangers: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: Role
) -> None:
    monkeypatch.setattr(seat, "SHUT_SECONDS", SHUT_SECONDS)
    shown = str(strangers.path(role, "web"))
    where = ("--gate", str(gate.address), "--directory", str(tmp_path))
    done = essa_here("races", "attend", role, *where, "--tls", shown)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"essa: the gate {gate.address} is there and does not let us in")
    assert done.stderr.count("\n") == 1


def test_directories_of_another_role_are_refused_before_anything_is_asked(people: People) -> None:
    operator, guest = people.path(Role.OPERATOR, "control"), people.path(Role.GUEST, "web")
    attend = ("races", "attend", "guest", "--gate", "192.0.2.1:7070")
    replay = ("races", "replay", REPLAY, "--cluster", "--listen", "192.0.2.1:7070")
    for command, tls, told in (
        (attend, operator, "is of role operator; it must be of role guest"),
        (replay, guest, "is of role guest; it must be of role operator"),
        ((*attend, "--insecure"), guest, "--insecure is given and so is --tls"),
        ((*replay, "--insecure"), operator, "--insecure is given and so is --tls"),
    ):
        done = essa_here(*command, "--tls", str(tls))
        assert done.returncode == 2
        assert told in done.stderr
        assert done.stderr.count("\n") == 1


@contextmanager
def attending(commands: Sequence[Sequence[object]]) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes at a gate, which end when it closes."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ESSA_")}
    environment["GRPC_VERBOSITY"] = "NONE"
    children = [
        subprocess.Popen(
            [*ESSA, "races", "attend", *map(str, command)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for command in commands
    ]
    try:
        yield children
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.communicate()


@pytest.mark.process
def test_a_race_over_tls_is_the_race(people: People, tmp_path: Path) -> None:
    """Also of a host that ends and resumes, which is seated again."""
    gate, port = local(free_port()), free_port()
    at = ("--gate", gate, "--directory", tmp_path)
    reached = ("--listen", f"127.0.0.1:{port}", "--reached-at", f"localhost:{port}")
    host = ("host", *at, *reached, "--tls", people.path(Role.HOST, "host"))
    guest = ("guest", *at, "--tls", people.path(Role.GUEST, "web"))
    replay = saved("stable_first")
    with attending([host, guest]) as children:
        operator = people.tls(Role.OPERATOR, "control")
        with Cluster(PATIENT_SECONDS, gate, operator) as cluster:
            for case in ((replay, explored(replay)), with_fault(FaultKind.CHECKPOINT)):
                found = cluster.enforce(*case)
                assert found.agrees, found.difference or found.reason
        errors = [child.communicate(timeout=PATIENT_SECONDS)[1] for child in children]
    assert errors == ["", ""]
    assert [child.returncode for child in children] == [0, 0]


@pytest.mark.process
def test_a_host_that_is_called_by_another_name_makes_it_inconclusive(
    people: People, tmp_path: Path
) -> None:
    gate, port = local(free_port()), free_port()
    at = ("--gate", gate, "--directory", tmp_path)
    listen = ("--listen", f"127.0.0.1:{port}")
    host = ("host", *at, *listen, "--tls", people.path(Role.HOST, "host"))
    guest = ("guest", *at, "--tls", people.path(Role.GUEST, "web"))
    replay = saved("stable_first")
    with (
        attending([host, guest]),
        Cluster(IMPATIENT_SECONDS, gate, people.tls(Role.OPERATOR, "control")) as cluster,
    ):
        found = cluster.enforce(replay, explored(replay))
    assert found.verdict == INCONCLUSIVE
    assert f"the guest: no answer from 127.0.0.1:{port}: UNAVAILABLE" in found.reason
    assert "\n" not in found.reason
