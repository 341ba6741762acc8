"""WatchEvents and `essa ctl watch`: what operators see of a host at work.

Method: the same small story is played before a whole host in this process, before watchers that
want all of it, want some of it, read slowly, or come too many.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from essa_cli import ctl_watch
from essa_cli.errors import CliError
from host_daemon.rpc.watchers import QUEUE_MAX, WATCHERS_MAX, Watcher
from shared.arch import SP, SR, SZ, VR, VZ
from shared.commands import DONE, Essa, FaultPending, Load, Store
from shared.errors import DrainingError, EssaError, InvalidRequestError, TooManyWatchersError
from shared.essa.v1 import essa_pb2 as pb
from shared.events import Event, EventFilter, EventKind
from shared.faults import Kind
from shared.rpc.channel import call
from shared.rpc.event_codec import events_from_message, message_from_events, message_from_filter
from shared.rpc.status import error_of
from tests.rpc.world import World, play

ALL = EventFilter()


class Reader:
    """One WatchEvents stream, and what came of it so far."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.events: list[Event] = []

    async def until(self, kind: EventKind) -> list[Event]:
        """Everything up to the first event of a kind."""
        while not self.events or self.events[-1].kind is not kind:
            message = await self.stream.read()
            assert message is not grpc.aio.EOF
            self.events += events_from_message(message)
        return self.events


async def watch(world: World, wanted: EventFilter = ALL) -> Reader:
    stream = world.control.WatchEvents(message_from_filter(wanted))
    await stream.initial_metadata()
    return Reader(stream)


async def refusal(stream: Any) -> EssaError | None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stream:
            pass
    return error_of(caught.value)


async def story(world: World, name: str) -> None:
    """A page is discarded and touched, another paged out and in."""
    session = await world.open_guest(name)
    connection, faults = world.connect(session), await world.subscribe(session)
    assert await connection.ask(1, 1, Store(1, 0, b"gone")) == DONE
    assert await connection.ask(1, 2, Store(2, 0, b"kept")) == DONE
    await connection.ask(1, 3, Essa(3, 1))
    await world.evict(1, 2, name=name)
    await world.until(lambda: world.shell.host.statistics().paging.page_outs > 0)
    assert await connection.ask(1, 4, Load(1, 0, 4)) == FaultPending(1)
    assert await faults.next() is not None
    acknowledgement = pb.AcknowledgeFaultsRequest(session=session, numbers=[1])
    await call(world.essa, "AcknowledgeFaults", acknowledgement)
    await connection.ask(1, 5, Load(2, 0, 4))
    await call(world.essa, "CloseGuest", pb.CloseGuestRequest(session=session))


STORY = [
    {"kind": EventKind.GUEST_OPENED},
    {"kind": EventKind.PAGE_DISCARDED, "pfn": 1, "before": VR, "after": VZ},
    {"kind": EventKind.PAGE_OUT_DONE, "pfn": 2, "before": SR, "after": SP},
    {"kind": EventKind.DISCARD_FAULT_RAISED, "pfn": 1, "vcpu": 1, "fault": 1},
    {"kind": EventKind.DISCARD_FAULT_DELIVERED, "pfn": 1, "vcpu": 1, "fault": 1},
    {"kind": EventKind.DISCARD_FAULT_ACKNOWLEDGED, "pfn": 1, "vcpu": 1, "fault": 1},
    {"kind": EventKind.PAGE_IN_DONE, "pfn": 2, "before": SP, "after": SR},
    {"kind": EventKind.GUEST_CLOSED},
]


def test_a_watcher_sees_the_story_in_order(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        reader = await watch(world)
        await story(world, "web")
        events = await reader.until(EventKind.GUEST_CLOSED)
        assert events == [
            Event(time_ns=event.time_ns, guest="web", **values)  # type: ignore[arg-type]
            for event, values in zip(events, STORY, strict=True)
        ]
        times = [event.time_ns for event in events]
        assert times == sorted(times)
        assert times[0] > 1_700_000_000 * 10**9

    play(test, tmp_path)


def test_filters_leave_out_what_is_not_wanted(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ends = frozenset((EventKind.GUEST_CLOSED, EventKind.PAGE_DISCARDED))
        of_two = await watch(world, EventFilter(guests=frozenset({"two"})))
        of_ends = await watch(world, EventFilter(kinds=ends))
        for name in ("one", "two"):
            await story(world, name)
        events = await of_two.until(EventKind.GUEST_CLOSED)
        assert [(e.guest, e.kind) for e in events] == [("two", row["kind"]) for row in STORY]
        await of_ends.until(EventKind.GUEST_CLOSED)
        while len(of_ends.events) < 4:
            of_ends.events += events_from_message(await of_ends.stream.read())
        assert [(event.guest, event.kind) for event in of_ends.events] == [
            ("one", EventKind.PAGE_DISCARDED),
            ("one", EventKind.GUEST_CLOSED),
            ("two", EventKind.PAGE_DISCARDED),
            ("two", EventKind.GUEST_CLOSED),
        ]

    play(test, tmp_path)


def test_injected_faults_are_events(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        reader = await watch(world)
        spec = pb.FaultSpec(kind=pb.FAULT_KIND_DEVICE_SLOW)
        await call(world.control, "InjectFault", pb.InjectFaultRequest(fault=spec))
        await call(world.control, "StopFault", pb.StopFaultRequest())
        begun, ended = await reader.until(EventKind.FAULT_ENDED)
        assert begun.kind is EventKind.FAULT_INJECTED
        assert (begun.fault_id, begun.fault_kind) == (1, Kind.DEVICE_SLOW)
        assert ended.fault_id == 1

    play(test, tmp_path)


def test_the_core_notices_only_while_somebody_watches(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        turns: list[bool] = []
        watchers = world.shell.watchers
        watchers._watch = turns.append
        await story(world, "unseen")
        readers = [await watch(world), await watch(world)]
        for reader in readers:
            reader.stream.cancel()
        await world.until(lambda: not watchers.active)
        assert turns == [True, True, True, False]

    play(test, tmp_path)


def test_a_watcher_that_does_not_read_costs_a_bounded_queue_and_is_told(tmp_path: Path) -> None:
    count = 100_000

    async def test(world: World) -> None:
        reader = await watch(world)
        (watcher,) = world.shell.watchers.active
        for number in range(count):
            world.shell.watchers.tell(EventKind.GUEST_OPENED, "noise" * 10, pfn=number)
            if number % 1000 == 0:
                assert len(watcher._events) <= QUEUE_MAX
                await asyncio.sleep(0)
        following, missed = 0, 0
        while following < count:  # every event comes or is counted, in its place
            for event in events_from_message(await reader.stream.read()):
                if event.missed is None:
                    assert event.pfn == following
                following += event.missed or 1
                missed += event.missed or 0
        assert following == count
        assert world.shell.watchers.missed_total == missed
        assert 0 < missed < count
        await story(world, "later")
        assert [event.guest for event in await reader.until(EventKind.GUEST_CLOSED)] == (
            ["later"] * len(STORY)
        )

    play(test, tmp_path)


def test_what_was_missed_is_told_where_it_is_missing() -> None:
    async def body() -> None:
        watcher = Watcher(ALL)
        for number in range(QUEUE_MAX + 3):
            watcher.push(Event(0, EventKind.GUEST_OPENED, pfn=number))
        told: list[Event] = []
        while len(told) <= QUEUE_MAX:
            told += await watcher.take()
        assert told[-1].missed == 3
        watcher.push(Event(0, EventKind.GUEST_CLOSED))
        assert [event.kind for event in await watcher.take()] == [EventKind.GUEST_CLOSED]
        watcher.end()
        assert await watcher.take() == []

    asyncio.run(body())


def test_so_many_watchers_and_no_more(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        readers = [await watch(world) for _ in range(WATCHERS_MAX)]
        stream = world.control.WatchEvents(pb.WatchEventsRequest())
        assert isinstance(await refusal(stream), TooManyWatchersError)
        for reader in readers:
            reader.stream.cancel()

    play(test, tmp_path)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (pb.WatchEventsRequest(kinds=[99]), "kinds holds 99"),  # type: ignore[list-item]
        (pb.WatchEventsRequest(kinds=[0]), "kinds holds 0"),  # type: ignore[list-item]
        (pb.WatchEventsRequest(guests=["x"] * 65), "guests holds 65"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(
    tmp_path: Path, request_: pb.WatchEventsRequest, told: str
) -> None:
    async def test(world: World) -> None:
        refused = await refusal(world.control.WatchEvents(request_))
        assert isinstance(refused, InvalidRequestError)
        assert told in str(refused)

    play(test, tmp_path)


def test_every_event_survives_the_wire() -> None:
    events = [
        Event(n, kind, "web", n, n, n, SZ, VZ, n, n, Kind.EVICT)
        for n, kind in enumerate(EventKind, 1)
    ]
    events.append(Event(5, EventKind.HOST_STUCK))
    assert events_from_message(message_from_events(events)) == events


def test_the_command_prints_a_json_object_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def test(world: World) -> None:
        printing = asyncio.create_task(ctl_watch._print(world.control_address, ALL, len(STORY)))
        await world.until(lambda: bool(world.shell.watchers.active))
        await story(world, "web")
        await printing

    play(test, tmp_path)
    printed = capsys.readouterr()
    assert "essa: watching unix:" in printed.err
    lines = [json.loads(line) for line in printed.out.splitlines() if line.startswith("{")]
    assert [line["kind"] for line in lines] == [row["kind"].value for row in STORY]  # type: ignore[attr-defined]
    assert all(line.pop("time").endswith("+00:00") for line in lines)
    assert lines[1] == {
        "kind": "page_discarded",
        "guest": "web",
        "pfn": 1,
        "before": "Vr",
        "after": "Vz",
    }


def test_a_host_that_ends_ends_the_watch(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        printing = asyncio.create_task(ctl_watch._print(world.control_address, ALL, None))
        await world.until(lambda: bool(world.shell.watchers.active))
        world.shell.drain()
        with pytest.raises(DrainingError):
            await printing

    play(test, tmp_path)


def test_the_command_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="--kind is noise; it must be one of guest_opened"):
        ctl_watch.watch(kind=["noise"])
    with pytest.raises(CliError, match="UNAVAILABLE"):
        ctl_watch.watch(control=f"unix:{tmp_path / 'nobody'}")
    assert ctl_watch._kind("page-discarded") is EventKind.PAGE_DISCARDED
