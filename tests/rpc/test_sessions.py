"""Sessions over real sockets: nothing is lost, nothing is done twice, nobody is held back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from shared.arch import SP, SR, SZ, UR, VR, VZ
from shared.commands import (
    DONE,
    DeviceStore,
    DiscardFault,
    Essa,
    EssaOutcome,
    FaultPending,
    KeyOutcome,
    Load,
    LoadOutcome,
    Rrbe,
    Sske,
    Store,
)
from shared.errors import (
    DrainingError,
    InvalidRequestError,
    InvalidTokenError,
    SequenceError,
    StaleIncarnationError,
)
from shared.essa.v1 import essa_pb2 as pb
from shared.rpc.channel import call
from shared.rpc.status import error_of
from tests.rpc.world import INCARNATION, Connection, World, play

GET, STABLE, UNUSED, VOLATILE, MAKE_RESIDENT = 0, 1, 2, 3, 5


async def make_preserved(world: World, connection: Connection, pfn: int, content: bytes) -> None:
    """Store to a page as vCPU 3 and have it paged out."""
    await connection.ask(3, 1, Store(pfn, 0, content))
    reply = await world.evict(pfn)
    assert reply.page_out_count == 1
    assert (await world.states())[pfn] == SP


def test_a_volatile_page_evicted_by_an_operator_faults(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        session = await world.open_guest()
        faults = await world.subscribe(session)
        connection = world.connect(session)
        assert await connection.ask(0, 1, Store(5, 0, b"data")) == DONE
        essa = pb.ExecuteEssaRequest(session=session, vcpu=1, essa=pb.Essa(orc=VOLATILE, pfn=5))
        assert (await call(world.essa, "ExecuteEssa", essa)).essa_state == SR
        reply = await world.evict(5)
        assert (reply.discarded_count, reply.page_out_count, reply.skipped_count) == (1, 0, 0)
        assert (await world.states())[5] == VZ
        assert await connection.ask(0, 2, Load(5, 0, 4)) == FaultPending(1)
        assert await faults.next() == DiscardFault(number=1, vcpu=0, address=5 * 4096)

    play(test, tmp_path)


def test_a_repeated_command_is_answered_and_not_executed(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        session = await world.open_guest()
        first, second = world.connect(session), world.connect(session)
        assert await first.ask(0, 1, Sske(7, 0x06)) == DONE
        assert await first.ask(0, 2, Rrbe(7)) == KeyOutcome(0x06)
        # Executed again it would answer 0x02; the command that comes with it does not count.
        assert await first.ask(0, 2, Rrbe(7)) == KeyOutcome(0x06)
        assert await second.ask(0, 2, Rrbe(7)) == KeyOutcome(0x06)
        assert await second.ask(1, 1, Essa(UNUSED, 7)) == EssaOutcome(SZ)
        assert await second.ask(0, 3, Rrbe(7)) == KeyOutcome(0x02)

    play(test, tmp_path)


def test_a_cut_connection_resumes_with_its_command_still_parked(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        session = await world.open_guest()
        first = world.connect(session)
        await make_preserved(world, first, 9, b"kept")
        world.device.hold = True
        await first.send((0, 1, Load(9, 0, 4)))
        await world.until(lambda: world.parked_count() == 1)
        first.cut()
        second = world.connect(session)
        await second.send((0, 1, Load(9, 0, 4)), (1, 1, Essa(GET, 9)))
        assert await second.receive() == [(1, 1, EssaOutcome(SP))]  # the load is attached by now
        world.device.let_go()
        assert await second.receive() == [(0, 1, LoadOutcome(b"kept"))]
        assert world.device.read_count == 1

    play(test, tmp_path)


def test_what_completed_while_nobody_listened_is_kept(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        session = await world.open_guest()
        first = world.connect(session)
        await make_preserved(world, first, 9, b"kept")
        world.device.hold = True
        await first.send((0, 1, Essa(MAKE_RESIDENT, 9)))
        await world.until(lambda: world.parked_count() == 1)
        first.cut()
        await world.until(lambda: world.shell.sessions.by_name("guest").waiting == {})
        world.device.let_go()
        await world.until(lambda: world.parked_count() == 0)
        # Executed a second time it would report Sr.
        second = world.connect(session)
        assert await second.ask(0, 1, Essa(MAKE_RESIDENT, 9)) == EssaOutcome(SP)
        assert await second.ask(0, 2, Essa(GET, 9)) == EssaOutcome(SR)

    play(test, tmp_path)


def test_an_outcome_goes_where_its_command_came_in_last(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        session = await world.open_guest()
        first, second = world.connect(session), world.connect(session)
        await make_preserved(world, first, 9, b"kept")
        world.device.hold = True
        await first.send((0, 1, Load(9, 0, 4)))
        await world.until(lambda: world.parked_count() == 1)
        await second.send((0, 1, Load(9, 0, 4)), (1, 1, Essa(GET, 1)))
        await second.receive()
        await first.stream.done_writing()
        assert await first.failure() is None  # nothing is waited for there any more
        world.device.let_go()
        assert await second.receive() == [(0, 1, LoadOutcome(b"kept"))]

    play(test, tmp_path)


def test_a_parked_command_holds_back_nobody_and_half_closing_waits_for_it(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        session = await world.open_guest()
        connection = world.connect(session)
        await make_preserved(world, connection, 9, b"kept")
        world.device.hold = True
        await connection.send((0, 1, Load(9, 0, 4)), (1, 1, Essa(STABLE, 2)), (2, 1, Sske(2, 6)))
        assert await connection.receive(2) == [(1, 1, EssaOutcome(SZ)), (2, 1, DONE)]
        assert await connection.ask(1, 2, Essa(UNUSED, 2)) == EssaOutcome(SZ)
        await connection.stream.done_writing()
        world.device.let_go()
        assert await connection.receive() == [(0, 1, LoadOutcome(b"kept"))]
        assert await connection.failure() is None

    play(test, tmp_path)


@pytest.mark.parametrize("number", [0, 2, 7])
def test_a_number_out_of_sequence_executes_nothing(tmp_path: Path, number: int) -> None:
    async def test(world: World) -> None:
        session = await world.open_guest()
        connection = world.connect(session)
        await connection.send((0, number, Essa(UNUSED, 1)))
        error = await connection.failure()
        assert isinstance(error, SequenceError)
        assert error.metadata == {"vcpu": "0", "number": str(number), "last": "0"}
        assert (await world.states())[1] == SZ
        assert await world.connect(session).ask(0, 1, Essa(GET, 1)) == EssaOutcome(SZ)

    play(test, tmp_path)


MALFORMED: dict[str, Any] = {
    "no command": {},
    "orc 16": {"essa": pb.Essa(orc=16)},
    "past the page": {"load": pb.Load(offset=4095, length=2)},
    "no such vcpu": {"vcpu": 5, "essa": pb.Essa(orc=1)},
    "a device's ESSA": {"vcpu": 4, "essa": pb.Essa(orc=1)},
    "a vCPU's device store": {"device_store": pb.Store(data=b"x")},
}


@pytest.mark.parametrize("values", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_message_with_one_malformed_command_executes_nothing(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    async def test(world: World) -> None:
        session = await world.open_guest(device_count=1)
        connection = world.connect(session)
        message = pb.ExecuteRequest()
        message.commands.add(vcpu=1, number=1, essa=pb.Essa(orc=UNUSED, pfn=1))
        message.commands.add(**{"vcpu": 0, "number": 1, **values})
        await connection.send_message(message)
        assert isinstance(await connection.failure(), InvalidRequestError)
        assert (await world.states())[1] == SZ
        other = world.connect(session)
        assert await other.ask(1, 1, Essa(GET, 1)) == EssaOutcome(SZ)
        assert await other.ask(4, 1, DeviceStore(1, 0, b"x")) == DONE

    play(test, tmp_path)


def test_bytes_that_are_no_message_get_a_status(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        unary = world.channel.unary_unary("/essa.v1.EssaService/ExecuteEssa")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unary(b"\xff\xff\xff")
        assert isinstance(error_of(caught.value), InvalidRequestError)
        stream = world.channel.stream_stream("/essa.v1.EssaService/Execute")()
        await stream.write(b"\xff\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert isinstance(error_of(caught.value), InvalidRequestError)

    play(test, tmp_path)


@pytest.mark.parametrize(
    ("token", "incarnation", "error"),
    [
        (b"", 0, InvalidTokenError),
        (b"", INCARNATION, InvalidTokenError),
        (bytes(16), INCARNATION, InvalidTokenError),
        (bytes(15), 99, InvalidTokenError),
        (None, 0, InvalidTokenError),
        (None, 99, StaleIncarnationError),
        (bytes(16), 99, StaleIncarnationError),
    ],
)
def test_every_call_refuses_a_wrong_session(
    tmp_path: Path, token: bytes | None, incarnation: int, error: type[Exception]
) -> None:
    async def test(world: World) -> None:
        good = await world.open_guest()
        session = pb.Session(token=good.token if token is None else token, incarnation=incarnation)
        for method, request in {
            "ExecuteEssa": pb.ExecuteEssaRequest(session=session, essa=pb.Essa(orc=UNUSED)),
            "AcknowledgeFaults": pb.AcknowledgeFaultsRequest(session=session),
            "CloseGuest": pb.CloseGuestRequest(session=session),
        }.items():
            with pytest.raises(error):
                await call(world.essa, method, request)
        connection = world.connect(session)
        await connection.send((0, 1, Essa(UNUSED, 0)))
        assert isinstance(await connection.failure(), error)
        connection.stream = world.essa.SubscribeFaults(pb.SubscribeFaultsRequest(session=session))
        assert isinstance(await connection.failure(), error)
        assert (await world.states())[0] == SZ

    play(test, tmp_path)


def test_faults_come_again_until_they_are_acknowledged(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        session = await world.open_guest()
        connection = world.connect(session)
        for vcpu, pfn in ((0, 10), (1, 11), (2, 12)):
            await connection.ask(vcpu, 1, Essa(VOLATILE, pfn))
            assert await connection.ask(vcpu, 2, Load(pfn, 0, 1)) == FaultPending(vcpu + 1)
        first = await world.subscribe(session)
        assert [(await first.next()).number for _ in range(3)] == [1, 2, 3]  # type: ignore[union-attr]
        second = await world.subscribe(session)
        assert await first.next() is None
        assert [(await second.next()).number for _ in range(3)] == [1, 2, 3]  # type: ignore[union-attr]
        bad = pb.AcknowledgeFaultsRequest(session=session, numbers=[1, 4, 3])
        with pytest.raises(InvalidRequestError):
            await call(world.essa, "AcknowledgeFaults", bad)
        good = pb.AcknowledgeFaultsRequest(session=session, numbers=[3, 1, 3])
        await call(world.essa, "AcknowledgeFaults", good)
        await call(world.essa, "AcknowledgeFaults", good)
        second.cut()
        third = await world.subscribe(session)
        assert await third.next() == DiscardFault(2, 1, 11 * 4096)
        assert await connection.ask(3, 1, Load(12, 0, 1)) == FaultPending(4)
        assert await third.next() == DiscardFault(4, 3, 12 * 4096)

    play(test, tmp_path)


def test_essa_by_hand_waits_for_a_page_in_and_keeps_others_in_order(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        session = await world.open_guest()
        connection = world.connect(session)
        await make_preserved(world, connection, 9, b"kept")
        world.device.hold = True
        request = pb.ExecuteEssaRequest(session=session, essa=pb.Essa(orc=MAKE_RESIDENT, pfn=9))
        by_hand = asyncio.ensure_future(call(world.essa, "ExecuteEssa", request))
        await world.until(lambda: world.parked_count() == 1)
        with pytest.raises(SequenceError):
            await call(world.essa, "ExecuteEssa", request)
        # The same vCPU's numbered command waits its turn; another's does not.
        await connection.send((0, 1, Essa(UNUSED, 2)), (1, 1, Essa(GET, 2)))
        assert await connection.receive() == [(1, 1, EssaOutcome(SZ))]
        world.device.let_go()
        assert (await by_hand).essa_state == SP
        assert await connection.receive() == [(0, 1, EssaOutcome(SZ))]

    play(test, tmp_path)


def test_closing_a_guest_ends_its_connections_and_its_waiting_calls(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        session = await world.open_guest()
        faults, connection = await world.subscribe(session), world.connect(session)
        await make_preserved(world, connection, 9, b"kept")
        world.device.hold = True
        request = pb.ExecuteEssaRequest(session=session, essa=pb.Essa(orc=MAKE_RESIDENT, pfn=9))
        by_hand = asyncio.ensure_future(call(world.essa, "ExecuteEssa", request))
        await world.until(lambda: world.parked_count() == 1)
        await call(world.essa, "CloseGuest", pb.CloseGuestRequest(session=session))
        with pytest.raises(InvalidTokenError):
            await by_hand
        assert isinstance(await connection.failure(), InvalidTokenError)
        assert await faults.next() is None
        again = await world.open_guest()
        assert again.token != session.token
        assert set(await world.states()) == {SZ}

    play(test, tmp_path)


def test_a_draining_host_says_so_everywhere(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        session = await world.open_guest()
        connection = world.connect(session)
        assert await connection.ask(0, 1, Essa(UNUSED, 1)) == EssaOutcome(SZ)
        world.shell.drain()
        assert isinstance(await connection.failure(), DrainingError)
        with pytest.raises(DrainingError):
            await world.open_guest("other")
        essa = pb.ExecuteEssaRequest(session=session, essa=pb.Essa(orc=1))
        with pytest.raises(DrainingError):
            await call(world.essa, "ExecuteEssa", essa)

    play(test, tmp_path)


def test_reclaim_by_watermarks_keeps_more_memory_than_there_are_frames(tmp_path: Path) -> None:
    """192 pages in 128 frames, written and read back twice by four vCPUs at once."""

    async def test(world: World) -> None:
        session = await world.open_guest(page_count=192)
        connection = world.connect(session)
        number = 0
        for _ in range(2):
            for first in range(0, 192, 4):
                number += 1
                stores = [(v, number, Store(first + v, 0, b"%03d" % (first + v))) for v in range(4)]
                await connection.send(*stores)
                assert {outcome for _, _, outcome in await connection.receive(4)} == {DONE}
            for first in range(0, 192, 4):
                number += 1
                await connection.send(*[(v, number, Load(first + v, 0, 3)) for v in range(4)])
                answers = {v: outcome for v, _, outcome in await connection.receive(4)}
                assert answers == {v: LoadOutcome(b"%03d" % (first + v)) for v in range(4)}
        statistics = world.shell.host.statistics()
        assert statistics.paging.page_outs >= 64
        assert statistics.paging.page_ins >= 64

    play(test, tmp_path)


def test_states_move_as_the_table_says_over_the_wire(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        session = await world.open_guest()
        connection = world.connect(session)
        script = [
            (Store(1, 0, b"x"), DONE),
            (Essa(VOLATILE, 1), EssaOutcome(SR)),
            (Essa(GET, 1), EssaOutcome(VR)),
            (Essa(UNUSED, 1), EssaOutcome(VR)),
            (Essa(STABLE, 1), EssaOutcome(UR)),
        ]
        for number, (command, outcome) in enumerate(script, 1):
            assert await connection.ask(0, number, command) == outcome

    play(test, tmp_path)
