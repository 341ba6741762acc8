"""What stands beside the sessions: opening, the operators' calls, health and reflection."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from shared.arch import SP, SZ, VZ
from shared.commands import DONE, Essa, Store
from shared.errors import (
    GuestExistsError,
    GuestNotFoundError,
    InvalidRequestError,
    PagingSpaceError,
)
from shared.essa.v1 import essa_pb2 as pb
from shared.rpc.channel import call
from tests.rpc.world import INCARNATION, World, play

REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no name": ({"name": ""}, InvalidRequestError, "name is ''"),
    "a blank name": ({"name": "a b"}, InvalidRequestError, "name is 'a b'"),
    "a long name": ({"name": "x" * 65}, InvalidRequestError, "1 to 64"),
    "the same name": ({}, GuestExistsError, "taken"),
    "no pages": ({"page_count": 0}, InvalidRequestError, "page_count"),
    "no vCPUs": ({"vcpu_count": 0}, InvalidRequestError, "vcpu_count"),
    "no mode": ({"mode": pb.MODE_UNSPECIFIED}, InvalidRequestError, "MODE_SEED"),
    "an unknown mode": ({"mode": 9}, InvalidRequestError, "MODE_SEED"),
    "unbacked pages": (
        {"unbacked_ranges": [pb.PageRange(first_pfn=0, page_count=1)]},
        InvalidRequestError,
        "kvm",
    ),
    "more than the slots": ({"name": "big", "page_count": 1000}, PagingSpaceError, "slots"),
}


@pytest.mark.parametrize(("values", "error", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_opening_refuses(
    tmp_path: Path, values: dict[str, Any], error: type[Exception], text: str
) -> None:
    async def test(world: World) -> None:
        plain = {"name": "taken", "page_count": 64, "vcpu_count": 1, "mode": pb.MODE_SEED}
        await call(world.essa, "OpenGuest", pb.OpenGuestRequest(**plain))
        with pytest.raises(error, match=text):
            await call(world.essa, "OpenGuest", pb.OpenGuestRequest(**{**plain, **values}))
        assert len((await call(world.control, "ListGuests", pb.ListGuestsRequest())).guests) == 1

    play(test, tmp_path)


def test_a_guest_without_the_facility_and_one_of_mode_kvm(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        off = await world.open_guest("off", essa_enabled=False)
        request = pb.ExecuteEssaRequest(session=off, essa=pb.Essa(orc=1))
        assert (await call(world.essa, "ExecuteEssa", request)).program_interruption_code == 1
        unbacked = [pb.PageRange(first_pfn=2, page_count=3)]
        kvm = await world.open_guest("kvm", mode=pb.MODE_KVM, unbacked_ranges=unbacked)
        request = pb.ExecuteEssaRequest(session=kvm, essa=pb.Essa(orc=1, pfn=3))
        assert (await call(world.essa, "ExecuteEssa", request)).essa_state == 0x10
        assert (await world.states("kvm"))[1] == SP

    play(test, tmp_path)


def test_operators_see_guests_counters_and_pages(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        session = await world.open_guest("web", device_count=1)
        connection = world.connect(session)
        await connection.send((0, 1, Store(1, 0, b"x")), (1, 1, Store(2, 0, b"y")))
        await connection.receive(2)
        await connection.ask(0, 2, Essa(3, 2))
        reply = await world.evict(0, 4, name="web")
        assert (reply.discarded_count, reply.page_out_count, reply.skipped_count) == (1, 1, 2)
        again = await world.evict(0, 4, name="web")
        assert (again.discarded_count, again.page_out_count, again.skipped_count) == (0, 0, 4)
        guest = (await call(world.control, "GetGuest", pb.GetGuestRequest(name="web"))).guest
        assert (guest.guest_id, guest.page_count, guest.vcpu_count) == (1, 64, 4)
        assert {item.state: item.page_count for item in guest.state_counts} == {
            SP: 1,
            SZ: 62,
            VZ: 1,
        }
        assert guest.stream_count == 1
        assert not guest.subscribed
        status = await call(world.control, "GetStatus", pb.GetStatusRequest())
        assert status.incarnation == INCARNATION
        assert status.counters == guest.counters
        assert status.counters.page_out_count == 1
        assert status.counters.volatile_discard_count == 1
        assert list(status.counters.essa_counts) == [0, 0, 0, 1, 0, 0, 0]
        assert (status.frame_count, status.free_frame_count) == (128, 128)
        assert (status.slot_count, status.free_slot_count) == (1024, 960)
        await call(world.essa, "CloseGuest", pb.CloseGuestRequest(session=session))
        status = await call(world.control, "GetStatus", pb.GetStatusRequest())
        assert status.guest_count == 0
        assert status.counters.page_out_count == 1
        with pytest.raises(GuestNotFoundError):
            await call(world.control, "GetGuest", pb.GetGuestRequest(name="web"))

    play(test, tmp_path)


def test_page_maps_come_in_parts(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        session = await world.open_guest()
        await world.connect(session).ask(0, 1, Essa(2, 63))

        async def states(**values: int) -> bytes:
            request = pb.GetPageMapRequest(name="guest", **values)
            return bytes((await call(world.control, "GetPageMap", request)).states)

        assert await states() == bytes([SZ]) * 63 + b"\x07"
        assert await states(first_pfn=62, page_count=1) == bytes([SZ])
        assert await states(first_pfn=63, page_count=9) == b"\x07"
        assert await states(first_pfn=64) == b""
        assert await states(page_count=0) == b""
        with pytest.raises(InvalidRequestError, match="first_pfn"):
            await states(first_pfn=65)
        with pytest.raises(InvalidRequestError, match="page_count"):
            await states(page_count=1 << 23)

    play(test, tmp_path)


@pytest.mark.parametrize(("first", "count"), [(0, 0), (64, 1), (63, 2), (0xFFFF_FFFF, 1)])
def test_evicting_what_is_not_there_evicts_nothing(tmp_path: Path, first: int, count: int) -> None:
    async def test(world: World) -> None:
        session = await world.open_guest()
        assert await world.connect(session).ask(0, 1, Store(1, 0, b"x")) == DONE
        request = pb.EvictPagesRequest(name="guest")
        request.ranges.add(first_pfn=1, page_count=1)
        request.ranges.add(first_pfn=first, page_count=count)
        with pytest.raises(InvalidRequestError, match="ranges"):
            await call(world.control, "EvictPages", request)
        assert (await world.states())[1] == 0

    play(test, tmp_path)


def test_the_operators_socket_is_its_owners(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        mode = (tmp_path / "c").stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600

    play(test, tmp_path)


def test_health_and_reflection_stand_on_both_sockets(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        for channel, service in zip(
            world.channels, ("essa.v1.EssaService", "essa.v1.ControlService"), strict=True
        ):
            health: Any = health_pb2_grpc.HealthStub(channel)
            for name in ("", service):
                answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
            requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
            async for reply in reflection.ServerReflectionInfo(iter(requests)):
                names = {item.name for item in reply.list_services_response.service}
                assert service in names
                assert "grpc.health.v1.Health" in names

    play(test, tmp_path)
