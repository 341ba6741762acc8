"""The gate with attendants that are made up: who may attend, and what it makes of their words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from essa_cli.gate import seat
from essa_cli.gate.race import GatedRace
from essa_cli.gate.service import GUEST, HOST, Gate, GateError
from race_explorer.case import Case
from shared.essa.v1 import gate_pb2, gate_pb2_grpc
from shared.essa.v1 import gate_pb2 as pb
from shared.rpc.channel import Address
from tests.hostile.calls import UNBOUNDED
from tests.hostile.wire import MALFORMED, OVERSIZE

TIMEOUT_SECONDS = 0.3
SOON_SECONDS = 10.0


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    found = Gate(Address(path=str(tmp_path / "gate")), TIMEOUT_SECONDS)
    yield found
    found.close()


def attend(gate: Gate, *said: pb.AttendRequest) -> list[pb.AttendResponse]:
    """Say all that at once, and hear what comes until the stream ends."""
    with grpc.insecure_channel(gate.address.target) as channel:
        stub: Any = gate_pb2_grpc.GateServiceStub(channel)  # type: ignore[no-untyped-call]
        return list(stub.Attend(iter(said), timeout=SOON_SECONDS))


def arrival(role: int) -> pb.AttendRequest:
    return pb.AttendRequest(arrival=pb.Arrival(role=role))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "first", [pb.AttendRequest(report=pb.Report()), arrival(pb.GATE_ROLE_UNSPECIFIED)]
)
def test_who_does_not_say_who_it_is_is_sent_away(gate: Gate, first: pb.AttendRequest) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        attend(gate, first)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_second_host_is_sent_away(gate: Gate) -> None:
    assert gate.enter(HOST) is not None
    with pytest.raises(grpc.RpcError) as refused:
        attend(gate, arrival(HOST))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize("arrives", [True, False], ids=["in a seat", "at the door"])
@pytest.mark.parametrize("form", [*MALFORMED, "too long"])
def test_what_is_no_message_ends_the_stream_and_keeps_no_seat(
    gate: Gate, form: str, arrives: bool
) -> None:
    raws = [MALFORMED.get(form, OVERSIZE)]
    if arrives:
        raws.insert(0, arrival(GUEST).SerializeToString())
    (method,) = gate_pb2.DESCRIPTOR.services_by_name["GateService"].methods
    path = f"/{method.containing_service.full_name}/{method.name}"
    with grpc.insecure_channel(gate.address.target, options=UNBOUNDED) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            list(channel.stream_stream(path)(iter(raws), timeout=SOON_SECONDS))
        large = grpc.StatusCode.RESOURCE_EXHAUSTED
        wanted = grpc.StatusCode.INVALID_ARGUMENT if form in MALFORMED else large
        assert refused.value.code() is wanted
        gate.close()  # waits until whoever was there has gone
    assert gate.enter(GUEST) is not None


def test_nobody_comes(gate: Gate) -> None:
    gate.enter(HOST)
    with pytest.raises(GateError, match=r"no word from a host and a guest for 0\.3 seconds"):
        gate.wait_for_both(TIMEOUT_SECONDS)


def test_orders_of_the_guest_are_passed_on_and_so_is_what_is_parked(gate: Gate) -> None:
    host, guest = gate.enter(HOST), gate.enter(GUEST)
    assert host is not None
    assert guest is not None
    order = pb.HostOrder(evict_pfn=7)
    gate.said(GUEST, guest, pb.AttendRequest(order=order))
    gate.said(HOST, host, pb.AttendRequest(parked=pb.Parked(issuer=1, number=2)))
    gate.said(HOST, host, pb.AttendRequest(report=pb.Report(violations=["host: no"])))
    gate.said(GUEST, guest, pb.AttendRequest(report=pb.Report(steps_before_host=3)))
    report, of_host = gate.ask_guest(pb.AttendResponse(finish=pb.Finish()))
    assert report.steps_before_host == 3
    assert of_host is not None
    assert list(of_host.violations) == ["host: no"]
    assert host.outbox.get() == pb.AttendResponse(order=order)
    heard = [guest.outbox.get() for _ in range(3)]
    bodies = [message.WhichOneof("body") for message in heard if message is not None]
    assert bodies == ["finish", "parked", "told"]


def test_the_hosts_steps_stand_where_the_explorer_has_them(gate: Gate) -> None:
    host, guest = gate.enter(HOST), gate.enter(GUEST)
    assert host is not None
    assert guest is not None
    programs, eviction = ("cpu0", "cpu1"), "host.evict.1"
    steps = [pb.Step(actor=actor, label="x", enabled=True) for actor in (*programs, eviction)]
    steps.append(pb.Step(actor="cpu2", label="idle"))
    stage = pb.Step(actor="host.commit.2", label="commit", enabled=True)
    gate.said(GUEST, guest, pb.AttendRequest(order=pb.HostOrder(look=pb.Traffic())))
    gate.said(HOST, host, pb.AttendRequest(report=pb.Report(steps=[stage])))
    report = pb.Report(steps=steps, steps_before_host=len(programs))
    gate.said(GUEST, guest, pb.AttendRequest(report=report))
    race = GatedRace(gate, Case("dirty-bit-in-transit"))
    assert [option.name for option in race.options()] == [*programs, "host.commit.2", eviction]
    assert [option.name for option in race.waiting()] == ["cpu2"]


def test_a_failure_is_told_as_it_is(gate: Gate) -> None:
    guest = gate.enter(GUEST)
    assert guest is not None
    gate.said(GUEST, guest, pb.AttendRequest(report=pb.Report(failure="no memory")))
    with pytest.raises(GateError, match="the guest: no memory"):
        gate.ask_guest(pb.AttendResponse(finish=pb.Finish()))


def test_who_goes_is_missed(gate: Gate) -> None:
    with ThreadPoolExecutor(1) as thread:
        thread.submit(attend, gate, arrival(GUEST)).result(SOON_SECONDS)
    gate.timeout_seconds = SOON_SECONDS
    with pytest.raises(GateError, match="the guest has gone"):
        gate.ask_guest(pb.AttendResponse(finish=pb.Finish()))


def test_a_gate_nearby_that_never_opens_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seat, "ARRIVAL_SECONDS", 0.1)

    async def attend() -> object:
        here = seat.Seat(Address(path=str(tmp_path / "nobody")), GUEST)
        return await asyncio.wait_for(here.hear(), 20)

    assert asyncio.run(attend()) is None
