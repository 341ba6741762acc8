"""What `bench.cluster.instructions` counts: `python instructed.py SIDE COMMANDS`.

Everything is done twice, and `os.getloadavg` is called before and after the second time: a
function of the C library that nobody else calls marks for callgrind what is to be counted.

The host's sides carry commands the whole way but for gRPC: a message's bytes are decoded,
executed by the shell, and the outcomes encoded; each message has the next command of eight
vCPUs. The side `link` is the guest's part of that, with a host that answers at once.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from guest_agent.rpc.link import RpcLink
from guest_agent.rpc.schedule import LoopSchedule
from host_daemon.core.config import GuestSpec, HostConfig
from host_daemon.core.host import Host
from host_daemon.metrics import HostMetrics
from host_daemon.rpc.sessions import GuestSession, Sessions
from host_daemon.rpc.shell import HostShell
from host_daemon.rpc.watchers import Watcher
from shared import telemetry
from shared.arch import Orc
from shared.commands import Command, Essa, EssaOutcome, Load, Store
from shared.essa.v1 import essa_pb2 as pb
from shared.events import EventFilter
from shared.metrics import MetricsServer
from shared.rpc import codec
from shared.rpc.channel import Address

SCRAPE_EVERY: Final = 10_000
"""Commands; a guest does so many in a second or two, and Prometheus asks every fifteen."""
VCPUS: Final = 8
PAGES: Final = 256
_OUTCOME: Final = EssaOutcome(0)
_ORCS: Final = [Orc.SET_STABLE, Orc.SET_VOLATILE, Orc.SET_STABLE_IF_RESIDENT, Orc.GET_STATE]


class _NoDevice:
    """There are frames for all pages, so nothing is paged."""

    def start(self, _shell: object) -> None:
        """Nothing ever completes."""


class _NoChoices:
    """The policy draws nothing."""

    def choose(self, bound: int) -> int:
        """The first."""
        return 0


class _Vcpu:
    """One that is never interrupted."""

    number = 0

    def interruptible(self) -> bool:
        """Nothing is pending."""
        return False


class _Answers:
    """Where an outcome that has to wait would go: there is none."""

    def push(self, *outcome: object) -> None:
        """Never."""
        raise AssertionError(outcome)


def _messages(count: int) -> list[bytes]:
    """Commands as they come off the wire, one of each vCPU in a message."""
    draw = random.Random(2005)
    numbers = [0] * VCPUS
    messages = []
    for _ in range(count // VCPUS):
        batch: list[tuple[int, int, Command]] = []
        for vcpu in range(VCPUS):
            numbers[vcpu] += 1
            batch.append((vcpu, numbers[vcpu], _command(draw)))
        messages += [one.SerializeToString() for one in codec.messages_from_commands(batch)]
    return messages


def _command(draw: random.Random) -> Command:
    pfn = draw.randrange(PAGES)
    kind = draw.randrange(4)
    if kind < 2:
        return Essa(draw.choice(_ORCS), pfn)
    return Load(pfn, 0, 32) if kind == 2 else Store(pfn, 0, bytes(32))


async def _carry(shell: HostShell, session: GuestSession, messages: Sequence[bytes]) -> None:
    """One turn of the loop for each message, as when it came from a socket."""
    answers: Any = _Answers()
    for raw in messages:
        commands = codec.commands_from_message(pb.ExecuteRequest.FromString(raw))
        ready = shell.execute(session, commands, answers)
        for message in codec.messages_from_outcomes(ready):
            message.SerializeToString()
        await asyncio.sleep(0)


def _scrape(address: Address) -> None:
    from urllib.request import urlopen

    with urlopen(f"http://{address}/metrics") as answer:
        assert answer.read()


async def _host_side(side: str, count: int) -> None:
    telemetry.configure(level="warning")
    device: Any = _NoDevice()
    host = Host(HostConfig(frame_count=2 * PAGES, slot_count=4 * PAGES), _NoChoices())
    shell = HostShell(host, device, Sessions(1))
    session = shell.open_guest(GuestSpec("web", page_count=PAGES, vcpu_count=VCPUS))
    messages = _messages(2 * count)
    server = None
    if side in ("metrics", "scraped"):
        server = MetricsServer(Address(host="127.0.0.1"), HostMetrics(shell).collect)
        server.start()
    if side == "watched":
        shell.watchers.add(Watcher(EventFilter()))

    async def once() -> None:
        for _ in range(max(1, count // SCRAPE_EVERY)):
            part = min(len(messages), SCRAPE_EVERY // VCPUS, count // VCPUS)
            await _carry(shell, session, messages[:part])
            del messages[:part]
            if side == "scraped" and server is not None:
                await asyncio.to_thread(_scrape, server.address)

    await _twice(once)
    if server is not None:
        await server.stop()


async def _twice(once: Callable[[], Awaitable[None]]) -> None:
    """The second time counts."""
    gc.collect()
    gc.disable()
    await once()
    os.getloadavg()
    await once()
    os.getloadavg()


class _Stream:
    """A stream of Execute, or of faults, to a host that answers at once."""

    def __init__(self) -> None:
        self._answers: asyncio.Queue[pb.ExecuteResponse] = asyncio.Queue()

    async def write(self, message: pb.ExecuteRequest) -> None:
        """Answer every command."""
        outcomes = [(one.vcpu, one.number, _OUTCOME) for one in message.commands]
        for answer in codec.messages_from_outcomes(outcomes):
            self._answers.put_nowait(answer)

    async def initial_metadata(self) -> None:
        """The stream stands."""

    def done(self) -> bool:
        """Never."""
        return False

    def cancel(self) -> None:
        """It is garbage."""

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> pb.ExecuteResponse:
        return await self._answers.get()


class _Stub:
    """The host's methods."""

    def Execute(self) -> _Stream:
        """Commands."""
        return _Stream()

    def SubscribeFaults(self, _request: pb.SubscribeFaultsRequest) -> _Stream:
        """No fault ever comes."""
        return _Stream()


async def _link_side(count: int) -> None:
    """Eight vCPUs whose commands go through the guest's link."""
    link = RpcLink(_Stub(), pb.Session(), VCPUS, lambda _fault: None)
    running = asyncio.create_task(link.run())

    async def vcpu(number: int) -> None:
        for pfn in range(count // VCPUS):
            await link.call(number, Essa(Orc.GET_STATE, pfn % PAGES))

    async def once() -> None:
        await asyncio.gather(*(vcpu(number) for number in range(VCPUS)))

    await _twice(once)
    running.cancel()
    await asyncio.wait([running])


async def _points(count: int) -> None:
    """Schedule points of a guest that nobody records, perturbs or gates."""
    schedule, vcpu = LoopSchedule(), _Vcpu()

    async def once() -> None:
        for _ in range(count):
            await schedule.point(vcpu, "bench.point", ())

    await _twice(once)


HOST_SIDES: Final = ("plain", "metrics", "scraped", "watched")
SIDES: Final = (*HOST_SIDES, "link", "points")


async def execute(side: str, count: int) -> None:
    """One of SIDES, with so many commands, or points."""
    assert side in SIDES
    if side == "link":
        await _link_side(count)
    elif side == "points":
        await _points(count)
    else:
        await _host_side(side, count)


if __name__ == "__main__":
    asyncio.run(execute(sys.argv[1], int(sys.argv[2])))
