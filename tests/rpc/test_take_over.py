"""A live holder keeps its name, whatever happens to its connections; a dead one's is free again.

Method: the host's clock of sessions stands still and is moved by hand, past HELD_SECONDS where a
holder is to be dead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from host_daemon.core.config import GuestSpec
from host_daemon.rpc.sessions import Sessions, new_session
from shared.arch import SR, SZ
from shared.commands import DONE, Essa, EssaOutcome, Store
from shared.errors import (
    DrainingError,
    GuestExistsError,
    InvalidRequestError,
    InvalidTokenError,
    PagingSpaceError,
)
from shared.essa.v1 import essa_pb2 as pb
from shared.events import EventFilter, EventKind
from shared.rpc.channel import HELD_SECONDS, call
from shared.rpc.event_codec import events_from_message
from tests.rpc.test_watch import watch
from tests.rpc.world import INCARNATION, World, play

GET = 0
ENDS = EventFilter(kinds=frozenset((EventKind.GUEST_OPENED, EventKind.GUEST_CLOSED)))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float = HELD_SECONDS) -> None:
        self.now += seconds


def stopped_clock(world: World) -> Clock:
    world.shell.sessions.clock = clock = Clock()
    return clock


async def refused(world: World, **values: Any) -> bool:
    """Whether the name is refused; what was asked for is open otherwise."""
    try:
        await world.open_guest(**values)
    except GuestExistsError:
        return True
    return False


def test_a_dead_holders_guest_is_closed_and_opened_anew(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        clock, watcher = stopped_clock(world), await watch(world, ENDS)
        session = await world.open_guest()
        connection, faults = world.connect(session), await world.subscribe(session)
        assert await connection.ask(0, 1, Store(5, 0, b"data")) == DONE
        held = world.shell.sessions.by_name("guest")
        connection.cut()
        faults.cut()
        await world.until(lambda: not held.streams and held.subscriber is None)
        clock.pass_()
        assert await refused(world)  # nobody asked for it
        again = await world.open_guest(take_over=True, page_count=32)
        assert again.token != session.token
        assert await world.states() == bytes([SZ]) * 32
        assert len(world.shell.sessions) == len(world.shell.host.guest_ids()) == 1
        with pytest.raises(InvalidTokenError):
            await call(world.essa, "CloseGuest", pb.CloseGuestRequest(session=session))
        late = world.connect(session)
        await late.send((0, 2, Essa(GET, 5)))
        assert isinstance(await late.failure(), InvalidTokenError)
        assert await world.connect(again).ask(0, 1, Essa(GET, 5)) == EssaOutcome(SZ)
        await call(world.essa, "CloseGuest", pb.CloseGuestRequest(session=again))
        while len(watcher.events) < 4:
            watcher.events += events_from_message(await watcher.stream.read())
        opened, closed = EventKind.GUEST_OPENED, EventKind.GUEST_CLOSED
        assert [event.kind for event in watcher.events] == [opened, closed] * 2

    play(test, tmp_path)


@pytest.mark.parametrize("stream", ["Execute", "SubscribeFaults"])
def test_a_guest_with_an_open_stream_is_never_robbed(tmp_path: Path, stream: str) -> None:
    async def test(world: World) -> None:
        clock = stopped_clock(world)
        session = await world.open_guest()
        connection = world.connect(session)
        if stream == "SubscribeFaults":
            await world.subscribe(session)
        else:
            assert await connection.ask(0, 1, Store(5, 0, b"data")) == DONE
        clock.pass_(10**6)
        assert await refused(world, take_over=True)
        number = 1 if stream == "SubscribeFaults" else 2
        after = SZ if stream == "SubscribeFaults" else SR
        assert await connection.ask(0, number, Essa(GET, 5)) == EssaOutcome(after)

    play(test, tmp_path)


def test_a_guest_that_was_just_heard_is_not_robbed(tmp_path: Path) -> None:
    """Opened, called by hand, its last stream lost: each of them counts anew."""

    async def test(world: World) -> None:
        clock = stopped_clock(world)
        session = await world.open_guest(take_over=True)
        short = HELD_SECONDS - 0.001
        clock.pass_(short)
        assert await refused(world, take_over=True)
        essa = pb.ExecuteEssaRequest(session=session, essa=pb.Essa(orc=GET))
        await call(world.essa, "ExecuteEssa", essa)
        clock.pass_(short)
        assert await refused(world, take_over=True)
        held = world.shell.sessions.by_name("guest")
        connection = world.connect(session)
        await connection.ask(0, 1, Essa(GET, 0))
        clock.pass_(10 * HELD_SECONDS)
        connection.cut()
        await world.until(lambda: not held.streams)
        clock.pass_(short)
        assert await refused(world, take_over=True)
        faults = await world.subscribe(session)
        clock.pass_(10 * HELD_SECONDS)
        faults.cut()
        await world.until(lambda: held.subscriber is None)
        clock.pass_(short)
        assert await refused(world, take_over=True)
        clock.pass_(0.002)
        assert not await refused(world, take_over=True)

    play(test, tmp_path)


def test_what_is_refused_takes_nothing_over(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        clock = stopped_clock(world)
        await world.open_guest()
        clock.pass_()
        with pytest.raises(InvalidRequestError):
            await world.open_guest(take_over=True, vcpu_count=5000)
        assert await refused(world)
        # The dead guest is closed before the new one is known not to fit.
        with pytest.raises(PagingSpaceError):
            await world.open_guest(take_over=True, page_count=2000)
        assert world.shell.host.guest_ids() == []
        await world.open_guest(take_over=True)  # and nobody need have had the name
        world.shell.drain()
        with pytest.raises(DrainingError):
            await world.open_guest(take_over=True)

    play(test, tmp_path)


def test_a_resumed_guest_has_time_to_come_back() -> None:
    clock, spec = Clock(), GuestSpec("guest", page_count=1)
    before = Sessions(INCARNATION, clock)
    before.add(new_session(1, spec))
    clock.pass_(1000)
    sessions = Sessions(INCARNATION, clock)
    sessions.restore(before.snapshot(), {1: spec})
    assert sessions.abandoned("guest") is None
    clock.pass_()
    assert sessions.abandoned("guest") is sessions.by_name("guest")
    assert sessions.abandoned("another") is None
