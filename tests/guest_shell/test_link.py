"""RpcLink against a host that answers by hand: gathering, cuts, faults, refusals."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from guest_agent.rpc.link import RpcLink
from shared.arch import Orc
from shared.commands import (
    DONE,
    DiscardFault,
    Essa,
    EssaOutcome,
    FaultPending,
    Load,
    LoadOutcome,
    Outcome,
    Store,
)
from shared.errors import (
    DrainingError,
    EssaError,
    InvalidTokenError,
    SequenceError,
    StaleIncarnationError,
)
from shared.rpc.channel import HostUnreachableError
from tests.guest_shell.fake_host import SESSION, FakeHost, play


@asynccontextmanager
async def running(link: RpcLink) -> AsyncIterator[None]:
    task = asyncio.create_task(link.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


Faults = asyncio.Queue[DiscardFault]


def make_link(stub: Any, issuers: int = 4, **values: Any) -> tuple[RpcLink, Faults]:
    """A link, and the faults that it hands out."""
    faults: Faults = asyncio.Queue()
    values = {"retransmit_seconds": 60.0} | values  # a busy machine is no lost message
    return RpcLink(stub, SESSION, issuers, faults.put_nowait, **values), faults


def start(link: RpcLink, issuer: int, pfn: int) -> asyncio.Task[Outcome]:
    return asyncio.ensure_future(link.call(issuer, Essa(Orc.SET_STABLE, pfn)))


def test_all_calls_of_a_turn_go_in_one_message(tmp_path: Path) -> None:
    async def test(host: FakeHost, stub: Any) -> None:
        link, _ = make_link(stub, 100)
        async with running(link):
            calls = [start(link, issuer, issuer) for issuer in range(100)]
            stream, commands = await host.received.get()
            assert commands == [(n, 1, Essa(Orc.SET_STABLE, n)) for n in range(100)]
            assert host.sessions == [SESSION]
            await host.answer(stream, *((n, 1, EssaOutcome(n % 16)) for n in reversed(range(100))))
            assert await asyncio.gather(*calls) == [EssaOutcome(n % 16) for n in range(100)]
            assert link.in_flight == 0
            assert (link.statistics.messages, link.statistics.commands) == (1, 100)

    play(test, tmp_path)


def test_what_is_asked_while_an_answer_is_awaited_goes_in_the_next_message(tmp_path: Path) -> None:
    async def test(host: FakeHost, stub: Any) -> None:
        link, _ = make_link(stub)
        async with running(link):
            first = start(link, 0, 0)
            stream, _ = await host.received.get()
            others = [start(link, n, n) for n in (1, 2, 3)]
            await asyncio.sleep(0)
            await host.answer(stream, (0, 1, DONE))
            await first
            again = start(link, 0, 9)
            sizes: list[int] = []
            while sum(sizes) < 4:
                stream, commands = await host.received.get()
                sizes.append(len(commands))
                await host.answer(stream, *((vcpu, n, DONE) for vcpu, n, _ in commands))
            await asyncio.gather(again, *others)
            assert len(sizes) <= 2

    play(test, tmp_path)


def test_a_parked_command_holds_back_nobody(tmp_path: Path) -> None:
    """vCPU 0's is never answered; the others go on."""

    async def test(host: FakeHost, stub: Any) -> None:
        link, _ = make_link(stub)
        async with running(link):
            parked = start(link, 0, 0)
            await host.received.get()
            for pfn in range(5):
                other = start(link, 1, pfn)
                stream, commands = await host.received.get()
                assert commands == [(1, pfn + 1, Essa(Orc.SET_STABLE, pfn))]
                await host.answer(stream, (1, pfn + 1, DONE))
                await other
            assert not parked.done()
            assert link.in_flight == 1
            parked.cancel()

    play(test, tmp_path)


def test_after_a_cut_exactly_what_is_outstanding_is_sent_again(tmp_path: Path) -> None:
    async def test(host: FakeHost, stub: Any) -> None:
        link, _ = make_link(stub)
        async with running(link):
            calls = [start(link, n, n) for n in range(3)]
            stream, _ = await host.received.get()
            await host.answer(stream, (1, 1, DONE))
            assert await calls[1] == DONE
            host.hang_up(stream)
            stream, commands = await host.received.get()
            assert commands == [(n, 1, Essa(Orc.SET_STABLE, n)) for n in (0, 2)]
            assert host.sessions == [SESSION, SESSION]
            await host.answer(stream, (0, 1, DONE), (2, 1, DONE))
            await asyncio.gather(calls[0], calls[2])
            assert link.statistics.reconnections >= 1

    play(test, tmp_path)


def test_an_answer_counts_once_and_a_stale_one_never(tmp_path: Path) -> None:
    async def test(host: FakeHost, stub: Any) -> None:
        link, _ = make_link(stub)
        async with running(link):
            first = start(link, 0, 0)
            stream, _ = await host.received.get()
            await host.answer(stream, (0, 1, EssaOutcome(0)), (0, 1, EssaOutcome(4)))
            assert await first == EssaOutcome(0)
            second = start(link, 0, 1)
            await host.received.get()
            await host.answer(stream, (0, 1, EssaOutcome(8)))
            await host.answer(stream, (0, 2, EssaOutcome(12)))
            assert await second == EssaOutcome(12)

    play(test, tmp_path)


def test_payloads_survive_both_ways(tmp_path: Path) -> None:
    async def test(host: FakeHost, stub: Any) -> None:
        link, _ = make_link(stub)
        async with running(link):
            store = asyncio.ensure_future(link.call(0, Store(7, 0, b"x" * 32, 128)))
            load = asyncio.ensure_future(link.call(1, Load(7, 32, 64)))
            stream, commands = await host.received.get()
            assert commands == [(0, 1, Store(7, 0, b"x" * 32, 128)), (1, 1, Load(7, 32, 64))]
            await host.answer(stream, (0, 1, DONE), (1, 1, LoadOutcome(b"x" * 32, 2)))
            assert await load == LoadOutcome(b"x" * 32, 2)
            assert await store == DONE

    play(test, tmp_path)


def test_a_fault_is_handed_out_once_and_acknowledged_when_settled(tmp_path: Path) -> None:
    async def test(host: FakeHost, stub: Any) -> None:
        link, faults = make_link(stub)
        one, two = DiscardFault(1, 0, 0x5000), DiscardFault(2, 3, 0x6000)
        async with running(link):
            subscription = await host.subscriptions.get()
            await host.deliver(subscription, one, two)
            assert [await faults.get(), await faults.get()] == [one, two]
            link.fault_settled(1)
            assert await host.acknowledged.get() == [1]
            # The acknowledgement is lost and the stream breaks: both come again.
            host.hang_up(subscription)
            subscription = await host.subscriptions.get()
            await host.deliver(subscription, one, two, DiscardFault(3, 1, 0x7000))
            assert await host.acknowledged.get() == [1], "settled before: acknowledged again"
            link.fault_settled(2)
            link.fault_settled(3)
            assert sorted(await host.acknowledged.get()) == [2, 3], "gathered"
            assert await faults.get() == DiscardFault(3, 1, 0x7000)
            assert faults.empty()

    play(test, tmp_path)


def test_a_fault_announced_but_not_delivered_is_in_flight(tmp_path: Path) -> None:
    """Either may come first: the outcome that names the fault, or the fault."""

    async def test(host: FakeHost, stub: Any) -> None:
        link, faults = make_link(stub)
        async with running(link):
            subscription = await host.subscriptions.get()
            call = start(link, 0, 0)
            stream, _ = await host.received.get()
            await host.answer(stream, (0, 1, FaultPending(1)))
            assert await call == FaultPending(1)
            assert link.in_flight == 1
            await host.deliver(subscription, DiscardFault(1, 0, 0), DiscardFault(2, 0, 0))
            assert [(await faults.get()).number, (await faults.get()).number] == [1, 2]
            assert link.in_flight == 0
            call = start(link, 0, 0)
            await host.received.get()
            await host.answer(stream, (0, 2, FaultPending(2)))
            await call
            assert link.in_flight == 0

    play(test, tmp_path)


@pytest.mark.parametrize(
    "refusal",
    [
        StaleIncarnationError("another incarnation"),
        InvalidTokenError("no such token"),
        SequenceError("number 7 after 2"),
    ],
)
def test_a_refusal_ends_the_link_with_its_reason(tmp_path: Path, refusal: EssaError) -> None:
    async def test(host: FakeHost, stub: Any) -> None:
        host.refusal = refusal
        link, _ = make_link(stub)
        with pytest.raises(ExceptionGroup) as caught:
            await link.run()
        assert caught.group_contains(type(refusal), match=str(refusal))

    play(test, tmp_path)


def test_a_draining_host_is_waited_for(tmp_path: Path) -> None:
    async def test(host: FakeHost, stub: Any) -> None:
        host.refusal = DrainingError("shutting down")
        link, _ = make_link(stub)
        async with running(link):
            call = start(link, 0, 0)
            await asyncio.sleep(0.1)
            assert host.received.empty()
            host.refusal = None
            stream, _ = await host.received.get()
            await host.answer(stream, (0, 1, DONE))
            assert await call == DONE

    play(test, tmp_path)


def test_a_host_that_stays_away_is_given_up(tmp_path: Path) -> None:
    async def test(host: FakeHost, stub: Any) -> None:
        link, _ = make_link(stub, reconnect_seconds=0.3, host="unix:here")
        host.refusal = DrainingError("shutting down")
        with pytest.raises(ExceptionGroup) as caught:
            await link.run()
        text = "no answer from unix:here for 0.3 seconds: UNAVAILABLE: shutting down"
        assert caught.group_contains(HostUnreachableError, match=text)

    play(test, tmp_path)


def test_what_nobody_answers_is_sent_again_under_its_number(tmp_path: Path) -> None:
    """On the same stream, ever more seldom; an answer to any copy counts, once."""

    async def test(host: FakeHost, stub: Any) -> None:
        link, _ = make_link(stub, retransmit_seconds=0.04)
        async with running(link):
            call = start(link, 0, 7)
            expected = [(0, 1, Essa(Orc.SET_STABLE, 7))]
            loop = asyncio.get_running_loop()
            times = []
            for _ in range(4):
                stream, commands = await host.received.get()
                assert commands == expected
                times.append(loop.time())
            gaps = [b - a for a, b in itertools.pairwise(times)]
            assert gaps[0] >= 0.03
            assert gaps[2] >= 0.12
            await host.answer(stream, (0, 1, EssaOutcome(3)), (0, 1, EssaOutcome(3)))
            assert await call == EssaOutcome(3)
            assert link.statistics.retransmissions == 3
            assert len(host.sessions) == 1  # all on one stream
            following = start(link, 0, 8)
            stream, commands = await host.received.get()
            assert commands == [(0, 2, Essa(Orc.SET_STABLE, 8))]
            await host.answer(stream, (0, 1, EssaOutcome(3)), (0, 2, EssaOutcome(1)))
            assert await following == EssaOutcome(1)

    play(test, tmp_path)
