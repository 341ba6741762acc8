"""A whole host behind real Unix sockets in this process, and a guest's bare hands.

The paging device is the real one, but its reads can be held back, so that a command stays
parked for as long as a test needs it.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from host_daemon.core.config import HostConfig
from host_daemon.core.host import Host
from host_daemon.paging.device import FilePagingDevice, open_paging_device
from host_daemon.paging.ports import PagingCompletions, SlotRead, SlotWrite
from host_daemon.rpc.server import Servers
from host_daemon.rpc.sessions import Sessions
from host_daemon.rpc.shell import HostShell
from shared.commands import Command, DiscardFault, Outcome
from shared.errors import EssaError
from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.rpc import codec
from shared.rpc.channel import Address, call, connect
from shared.rpc.status import error_of
from shared.rpc.tls import Tls

DEADLINE_SECONDS = 20
INCARNATION = 0x1234


class FirstChoice:
    def choose(self, bound: int) -> int:
        return 0


class HeldDevice:
    """The real device; while `hold` is set, reads wait for `let_go`."""

    def __init__(self, device: FilePagingDevice) -> None:
        self.device = device
        self.slot_count = device.slot_count
        self.identity = device.identity
        self.hold = False
        self.held: list[SlotRead] = []
        self.read_count = 0

    def start(self, completions: PagingCompletions) -> None:
        self.device.start(completions)

    def submit_writes(self, writes: Sequence[SlotWrite]) -> None:
        self.device.submit_writes(writes)

    def submit_reads(self, reads: Sequence[SlotRead]) -> None:
        self.read_count += len(reads)
        if self.hold:
            self.held.extend(reads)
        else:
            self.device.submit_reads(reads)

    def let_go(self) -> None:
        self.hold = False
        held, self.held = self.held, []
        self.device.submit_reads(held)

    async def flush(self) -> None:
        await self.device.flush()

    async def close(self) -> None:
        await self.device.close()


class Connection:
    """One Execute stream of a guest."""

    def __init__(self, stub: Any, session: pb.Session) -> None:
        self.session = session
        self.stream = stub.Execute()
        self._first = True
        self._unread: list[codec.Answered] = []

    async def send(self, *commands: tuple[int, int, Command]) -> None:
        for message in codec.messages_from_commands(commands):
            await self.send_message(message)

    async def send_message(self, message: pb.ExecuteRequest) -> None:
        if self._first:
            message.session.CopyFrom(self.session)
            self._first = False
        await self.stream.write(message)

    async def receive(self, count: int = 1) -> list[codec.Answered]:
        while len(self._unread) < count:
            message = await self.stream.read()
            assert message is not grpc.aio.EOF, "the stream has ended"
            self._unread += codec.outcomes_from_message(message)
        taken, self._unread = self._unread[:count], self._unread[count:]
        return taken

    async def ask(self, vcpu: int, number: int, command: Command) -> Outcome:
        await self.send((vcpu, number, command))
        ((answered_vcpu, answered_number, outcome),) = await self.receive()
        assert (answered_vcpu, answered_number) == (vcpu, number)
        return outcome

    async def failure(self) -> EssaError | None:
        """Why the host ended the stream."""
        try:
            while await self.stream.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return error_of(error)
        return None

    def cut(self) -> None:
        self.stream.cancel()


class FaultReader:
    """One SubscribeFaults stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._unread: list[DiscardFault] = []

    async def next(self) -> DiscardFault | None:
        """The next fault; None: the stream has ended."""
        if not self._unread:
            message = await self._stream.read()
            if message is grpc.aio.EOF:
                return None
            self._unread = codec.faults_from_message(message)
        return self._unread.pop(0)

    def cut(self) -> None:
        self._stream.cancel()


class World:
    """The host, and channels to both of its sockets."""

    def __init__(
        self, shell: HostShell, servers: Servers, device: HeldDevice, listen: Address, control: Any
    ) -> None:
        self.shell, self.servers, self.device = shell, servers, device
        self.listen, self.control_address = listen, control
        self.secure: tuple[Address, ...] = ()
        self.channel, self.control_channel = connect(listen), connect(control)
        self.channels = [self.channel, self.control_channel]
        stubs: Any = essa_pb2_grpc
        self.essa = stubs.EssaServiceStub(self.channel)
        self.control = stubs.ControlServiceStub(self.control_channel)

    async def open_guest(self, name: str = "guest", **values: Any) -> pb.Session:
        request = pb.OpenGuestRequest(name=name, page_count=64, vcpu_count=4, mode=pb.MODE_SEED)
        request.MergeFrom(pb.OpenGuestRequest(**values))
        return (await call(self.essa, "OpenGuest", request)).session

    def connect(self, session: pb.Session) -> Connection:
        return Connection(self.essa, session)

    async def subscribe(self, session: pb.Session) -> FaultReader:
        stream = self.essa.SubscribeFaults(pb.SubscribeFaultsRequest(session=session))
        await stream.initial_metadata()
        return FaultReader(stream)

    async def evict(self, first_pfn: int, page_count: int = 1, name: str = "guest") -> Any:
        request = pb.EvictPagesRequest(name=name)
        request.ranges.add(first_pfn=first_pfn, page_count=page_count)
        reply = await call(self.control, "EvictPages", request)
        await self.device.flush()
        return reply

    async def states(self, name: str = "guest") -> bytes:
        reply = await call(self.control, "GetPageMap", pb.GetPageMapRequest(name=name))
        return bytes(reply.states)

    def parked_count(self) -> int:
        return self.shell.host.statistics().parked

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the host's side run until the condition holds; the test's deadline bounds it."""
        while not condition():  # noqa: ASYNC110 (the host's state has no event to wait for)
            await asyncio.sleep(0)


def _for_an_earlier_loop(context: dict[str, Any]) -> bool:
    """Whether the library tried to wake a loop that an earlier test has closed.

    All loops of a process share its poller, and whichever runs hears what comes late for another.
    """
    return "PollerCompletionQueue._handle_events" in context["message"] and (
        str(context.get("exception")) == "Event loop is closed"
    )


def _told(bug: Exception) -> str:
    return "".join(traceback.format_exception(bug))


@asynccontextmanager
async def running_host(
    directory: Path, frames: int = 128, tls: Tls | None = None
) -> AsyncIterator[World]:
    """The host; with `tls` also on two loopback ports, which `secure` of the world names."""
    bugs: list[Exception] = []

    def in_callback(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # As in the daemon: what nobody awaits is a bug as well.
        if not _for_an_earlier_loop(context):
            bugs.append(context.get("exception") or RuntimeError(context["message"]))

    asyncio.get_running_loop().set_exception_handler(in_callback)
    device = HeldDevice(await open_paging_device(directory / "paging", 1024))
    config = HostConfig(frame_count=frames, slot_count=1024)
    shell = HostShell(Host(config, FirstChoice()), device, Sessions(INCARNATION))
    servers = Servers(shell, bugs.append, tls)
    listen, control = Address(path=str(directory / "e")), Address(path=str(directory / "c"))
    servers.bind([listen], control)
    secure: tuple[Address, ...] = ()
    if tls is not None:
        anywhere = Address(host="localhost")
        (guests,), operators = servers.bind([anywhere], anywhere)
        secure = (guests, operators)
    await servers.start()
    world = World(shell, servers, device, listen, control)
    world.secure = secure
    try:
        # A call does not wait for a connection that a busy machine makes at its second attempt.
        for channel in world.channels:
            await channel.channel_ready()
        yield world
        shell.host.check()
        assert bugs == [], "".join(map(_told, bugs))
    finally:
        for channel in world.channels:
            await channel.close(None)
        shell.drain()
        await servers.stop(0)
        device.let_go()
        await device.close()


def play(test: Callable[[World], Coroutine[Any, Any, None]], directory: Path) -> None:
    """Run one test against a host of its own."""

    async def body() -> None:
        async with asyncio.timeout(DEADLINE_SECONDS), running_host(directory) as world:
            await test(world)

    asyncio.run(body())
