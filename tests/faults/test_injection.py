"""Goal: each fault at the wire does what it says to exactly the commands that match, and the
session makes up for it: nothing is executed twice, nothing is lost.

Method: a whole host behind sockets, and a guest's bare hands.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from host_daemon.rpc.injection import ACTIVE_MAX
from shared.commands import DONE, Essa, EssaOutcome, Load, LoadOutcome, Store
from shared.errors import FaultNotFoundError, GuestNotFoundError, InvalidRequestError
from shared.essa.v1 import essa_pb2 as pb
from shared.faults import Kind, parse_fault
from shared.rpc.channel import HostUnreachableError, call
from shared.rpc.fault_codec import message_from_fault
from tests.rpc.world import Connection, World, play


async def inject(world: World, kind: Kind, **values: object) -> int:
    spec = parse_fault(kind, {key.rstrip("_"): value for key, value in values.items()})
    request = pb.InjectFaultRequest(fault=message_from_fault(spec))
    return int((await call(world.control, "InjectFault", request)).fault_id)


async def listed(world: World) -> dict[int, Any]:
    reply = await call(world.control, "ListFaults", pb.ListFaultsRequest())
    return {fault.fault_id: fault for fault in reply.faults}


async def stop(world: World, fault_id: int | None = None) -> list[Any]:
    request = pb.StopFaultRequest(fault_id=fault_id)
    return list((await call(world.control, "StopFault", request)).faults)


async def essa_count(world: World, orc: int) -> int:
    guest = (await call(world.control, "GetGuest", pb.GetGuestRequest(name="guest"))).guest
    return int(guest.counters.essa_counts[orc])


async def nothing_comes(connection: Connection) -> bool:
    """Whether a command that comes later is answered first."""
    await connection.send((3, 1, Load(60, 0, 1)))
    ((vcpu, _, _),) = await connection.receive()
    return vcpu == 3


def test_a_lost_request_is_not_executed_until_it_is_sent_again(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        connection = world.connect(await world.open_guest())
        fault = await inject(world, Kind.REQUEST_LOST, vcpu=0, orc=3)
        await connection.send((0, 1, Essa(3, 5)))
        assert await nothing_comes(connection)
        assert await essa_count(world, 3) == 0
        assert await connection.ask(0, 1, Essa(3, 5)) == EssaOutcome(0x03)
        assert await essa_count(world, 3) == 1
        state = (await listed(world))[fault]
        assert (state.matched_count, state.struck_count, state.active) == (1, 1, False)

    play(body, tmp_path)


def test_a_lost_reply_is_executed_once_and_answered_when_asked_again(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        connection = world.connect(await world.open_guest())
        await inject(world, Kind.REPLY_LOST, pages=5)
        await connection.send((0, 1, Essa(3, 5)))
        assert await nothing_comes(connection)
        assert await essa_count(world, 3) == 1
        assert await connection.ask(0, 1, Essa(3, 5)) == EssaOutcome(0x03)
        assert await essa_count(world, 3) == 1

    play(body, tmp_path)


def test_a_duplicate_is_answered_twice_and_executed_once(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        connection = world.connect(await world.open_guest())
        await inject(world, Kind.DUPLICATE)
        await connection.send((0, 1, Essa(3, 5)))
        assert await connection.receive(2) == [(0, 1, EssaOutcome(0x03))] * 2
        assert await essa_count(world, 3) == 1

    play(body, tmp_path)


@pytest.mark.parametrize("side", ["request", "reply"])
def test_a_delay_holds_back_nobody_else(tmp_path: Path, side: str) -> None:
    async def body(world: World) -> None:
        connection = world.connect(await world.open_guest())
        await inject(world, Kind.DELAY, vcpu=0, delay=0.2, side=side)
        await connection.send((0, 1, Store(5, 0, b"x")), (1, 1, Load(6, 0, 1)))
        (first,) = await connection.receive()
        assert first == (1, 1, LoadOutcome(bytes(1)))
        assert await connection.receive() == [(0, 1, DONE)]

    play(body, tmp_path)


def test_a_delayed_request_that_was_sent_again_meanwhile_is_history(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        connection = world.connect(await world.open_guest())
        await inject(world, Kind.DELAY, delay=0.1)
        await connection.send((0, 1, Essa(3, 5)))
        assert await connection.ask(0, 1, Essa(3, 5)) == EssaOutcome(0x03)
        assert await connection.ask(0, 2, Essa(1, 5)) == EssaOutcome(0x0F)
        await asyncio.sleep(0.15)
        assert await connection.ask(0, 3, Essa(0, 5)) == EssaOutcome(0x03)
        assert await essa_count(world, 3) == 1

    play(body, tmp_path)


def test_a_reset_executes_nothing_and_looks_like_a_broken_connection(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        session = await world.open_guest()
        connection = world.connect(session)
        await inject(world, Kind.RESET, orc=3)
        await connection.send((0, 1, Essa(3, 5)))
        assert await connection.failure() is None  # no reason of ours: the transport's
        connection = world.connect(session)
        assert await connection.ask(0, 1, Essa(3, 5)) == EssaOutcome(0x03)

    play(body, tmp_path)


def test_a_slow_consumer_reads_at_its_pace(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        connection = world.connect(await world.open_guest())
        fault = await inject(world, Kind.SLOW_CONSUMER, guest="guest", rate=50)
        begun = asyncio.get_running_loop().time()
        for number in range(1, 7):
            await connection.ask(0, number, Load(5, 0, 1))
        assert asyncio.get_running_loop().time() - begun > 5 / 50
        assert (await listed(world))[fault].struck_count >= 6

    play(body, tmp_path)


def test_calls_are_lost_reset_and_doubled_too(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        session = await world.open_guest()
        request = pb.ExecuteEssaRequest(session=session, vcpu=0, essa=pb.Essa(orc=3, pfn=5))
        await inject(world, Kind.RESET, method="ExecuteEssa", pages=5)
        with pytest.raises(HostUnreachableError, match="UNAVAILABLE: an injected fault"):
            await call(world.essa, "ExecuteEssa", request)
        assert await essa_count(world, 3) == 0
        for kind, executed in ((Kind.REQUEST_LOST, 0), (Kind.REPLY_LOST, 1)):
            await inject(world, kind, method="ExecuteEssa", orc=3)
            with pytest.raises(Exception, match="Deadline Exceeded"):
                await world.essa.ExecuteEssa(request, timeout=0.1)
            assert await essa_count(world, 3) == executed
        fault = await inject(world, Kind.DUPLICATE, method="AcknowledgeFaults")
        await call(world.essa, "AcknowledgeFaults", pb.AcknowledgeFaultsRequest(session=session))
        assert (await listed(world))[fault].struck_count == 1

    play(body, tmp_path)


async def _discarded(world: World, connection: Connection, *pfns: int) -> None:
    """Touch pages that are discarded, one on each vCPU."""
    for vcpu, pfn in enumerate(pfns):
        await connection.ask(vcpu, 1, Store(pfn, 0, b"x"))
        await connection.ask(vcpu, 2, Essa(3, pfn))
        await world.evict(pfn)
        await connection.ask(vcpu, 3, Load(pfn, 0, 1))


def test_discard_faults_are_held_in_order_and_released(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        session = await world.open_guest()
        reader, connection = await world.subscribe(session), world.connect(session)
        hold = await inject(world, Kind.FAULT_HOLD, pages=5)
        await _discarded(world, connection, 5, 6)
        waiting = asyncio.ensure_future(reader.next())
        assert await nothing_comes(connection)
        assert not waiting.done()
        (state,) = await stop(world, hold)
        assert (state.matched_count, state.struck_count, state.active) == (1, 1, False)
        first, second = await waiting, await reader.next()
        assert [fault and fault.number for fault in (first, second)] == [1, 2]

    play(body, tmp_path)


def test_discard_faults_come_late_and_twice(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        session = await world.open_guest()
        reader, connection = await world.subscribe(session), world.connect(session)
        await inject(world, Kind.FAULT_DELAY, pages=5, delay=0.1)
        await inject(world, Kind.FAULT_DUPLICATE, pages=6)
        await _discarded(world, connection, 5, 6)
        numbers = [fault.number for _ in range(3) if (fault := await reader.next())]
        assert numbers == [1, 2, 2]

    play(body, tmp_path)


def test_a_reset_of_the_subscription_delivers_again(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        session = await world.open_guest()
        reader, connection = await world.subscribe(session), world.connect(session)
        await inject(world, Kind.RESET, method="SubscribeFaults")
        await _discarded(world, connection, 5)
        with pytest.raises(Exception, match="an injected fault has reset"):
            await reader.next()
        again = await (await world.subscribe(session)).next()
        assert again is not None
        assert again.number == 1

    play(body, tmp_path)


def test_the_host_knows_whose_a_transfer_is(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        connections = [world.connect(await world.open_guest(name)) for name in ("one", "two")]
        world.device.hold = True
        for connection, name, pfn in zip(connections, ("one", "two"), (5, 6), strict=True):
            await connection.ask(0, 1, Store(pfn, 0, b"x"))
            await world.evict(pfn, name=name)
            await connection.send((0, 2, Load(pfn, 0, 1)))
        await world.until(lambda: len(world.device.held) == 2)
        owners = [world.shell.book.owner_of(read.operation) for read in world.device.held]
        assert owners == [("one", 5), ("two", 6)]

    play(body, tmp_path)


def test_evictions_take_what_they_name(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        connection = world.connect(await world.open_guest())
        for number, pfn in enumerate(range(0, 20, 2), 1):
            await connection.ask(0, 2 * number - 1, Store(pfn, 0, b"x"))
            await connection.ask(0, 2 * number, Essa(3 if pfn >= 10 else 1, pfn))
        fault = await inject(world, Kind.EVICT, states="V", rate=1000, count=3, seed=4)
        await world.until(lambda: not world.shell.book.by_id(fault).active)
        assert bytes(await world.states()).count(0x0F) == 3
        fault = await inject(world, Kind.EVICT, guest="guest", pages=4, count=1)
        await world.until(lambda: not world.shell.book.by_id(fault).active)
        await world.device.flush()
        assert (await world.states())[:20:2].count(0x02) == 1
        assert (await world.states())[4] == 0x02
        with pytest.raises(GuestNotFoundError, match="absent"):
            await inject(world, Kind.EVICT, guest="absent")
        with pytest.raises(InvalidRequestError, match="pages begins at 64; the last page is 63"):
            await inject(world, Kind.EVICT, guest="guest", pages=64)

    play(body, tmp_path)


def test_memory_is_taken_and_given_back(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        async def taken() -> tuple[int, int]:
            status = await call(world.control, "GetStatus", pb.GetStatusRequest())
            return status.withheld_frame_count, status.withheld_slot_count

        first = await inject(world, Kind.MEMORY_PRESSURE, frames=70)
        await inject(world, Kind.MEMORY_PRESSURE, percent=10)
        await inject(world, Kind.DEVICE_FULL)
        assert await taken() == (70 + 12, 1024)
        with pytest.raises(InvalidRequestError, match="frames withheld would be 146; it must be"):
            await inject(world, Kind.MEMORY_PRESSURE)
        assert (await listed(world))[first].struck_count == 70
        await stop(world, first)
        assert await taken() == (12, 1024)
        assert len(await stop(world)) == 2
        assert await taken() == (0, 0)
        with pytest.raises(FaultNotFoundError):
            await stop(world, 99)

    play(body, tmp_path)


def test_a_fault_ends_with_its_time_and_all_of_them_with_the_host(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        fault = await inject(world, Kind.MEMORY_PRESSURE, frames=10, for_=0.05)
        await world.until(lambda: not world.shell.book.by_id(fault).active)
        assert world.shell.host.statistics().frames_withheld == 0
        await inject(world, Kind.MEMORY_PRESSURE, frames=10)
        world.shell.drain()
        assert world.shell.host.statistics().frames_withheld == 0

    play(body, tmp_path)


def test_only_so_many_faults_are_active_at_once(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        injector = world.servers.injector
        spec = parse_fault(Kind.RESET, {"guest": "nobody"})
        rules = [injector.inject(spec) for _ in range(ACTIVE_MAX)]
        with pytest.raises(InvalidRequestError, match=f"beside {ACTIVE_MAX} others"):
            await inject(world, Kind.RESET)
        injector.stop(rules[0].fault_id)
        await inject(world, Kind.RESET)

    play(body, tmp_path)
