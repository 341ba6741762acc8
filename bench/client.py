"""The measuring side of the wire: prepared messages, and streams that keep some in flight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from bench.settings import VCPUS
from shared.commands import Command
from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.rpc import codec
from shared.rpc.channel import connect, parse_address

_STUBS: Final[Any] = essa_pb2_grpc  # generated without types
_EOF: Final[Any] = grpc.aio.EOF  # type: ignore[attr-defined]  # its types forget it
SETTLE_SECONDS: Final = 0.005
SETTLE_TRIES: Final = 6000

Envelope = pb.ExecuteRequest


@asynccontextmanager
async def guest_stub(address: str) -> AsyncIterator[Any]:
    """EssaService behind a connected channel of its own."""
    async with _connected(address) as channel:
        yield _STUBS.EssaServiceStub(channel)


@asynccontextmanager
async def control_stub(address: str) -> AsyncIterator[Any]:
    """ControlService behind a connected channel of its own."""
    async with _connected(address) as channel:
        yield _STUBS.ControlServiceStub(channel)


@asynccontextmanager
async def _connected(address: str) -> AsyncIterator[grpc.aio.Channel]:
    channel = connect(parse_address(address, "address"))
    try:
        await channel.channel_ready()
        yield channel
    finally:
        await channel.close(None)


async def open_guest(stub: Any, name: str, page_count: int) -> pb.Session:
    """A guest with VCPUS vCPUs."""
    request = pb.OpenGuestRequest(
        name=name, page_count=page_count, vcpu_count=VCPUS, mode=pb.MODE_SEED
    )
    response: pb.OpenGuestResponse = await stub.OpenGuest(request)
    return response.session


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again, untimed, until it is so; half a minute is a failure."""
    for _ in range(SETTLE_TRIES):
        if await condition():
            return
        await asyncio.sleep(SETTLE_SECONDS)
    raise TimeoutError("the host did not come to rest")


@dataclass(slots=True)
class Stream:
    """One Execute stream and the numbers of its vCPUs.

    vCPUs are used in groups: with `width` commands a message, the message in slot s carries
    vCPUs s * width to (s + 1) * width - 1, so a slot's next message may go when all outcomes
    of its last are there.
    """

    stub: Any
    session: pb.Session
    _numbers: list[int] = field(default_factory=lambda: [0] * VCPUS)
    _stream: Any = None

    async def __aenter__(self) -> Stream:
        self._stream = self.stub.Execute()
        await self._stream.write(pb.ExecuteRequest(session=self.session))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stream.done_writing()
        while await self._stream.read() is not _EOF:
            pass

    def prepare(self, commands: Iterable[Command], *, width: int, in_flight: int) -> list[Envelope]:
        """Messages of `width` commands (the last may have fewer) for `exchange`."""
        messages: list[Envelope] = []
        for position, command in enumerate(commands):
            place = position % width
            if place == 0:
                messages.append(pb.ExecuteRequest())
            vcpu = (len(messages) - 1) % in_flight * width + place
            self._numbers[vcpu] += 1
            item = messages[-1].commands.add()
            item.vcpu = vcpu
            item.number = self._numbers[vcpu]
            codec.put_command(item, command)
        return messages

    async def exchange(
        self, messages: Sequence[Envelope], *, width: int, in_flight: int
    ) -> tuple[float, list[Any]]:
        """Write all, never more than in_flight unanswered: (seconds, responses)."""
        stream = self._stream
        waiting = [len(message.commands) for message in messages]
        responses: list[Any] = []
        current = list(range(in_flight))  # the message that each slot waits for
        begun = time.perf_counter()
        for message in messages[:in_flight]:
            await stream.write(message)
        unanswered = len(messages)
        while unanswered:
            response = await stream.read()
            if response is _EOF:
                raise grpc.aio.UsageError(f"the stream ended: {await stream.details()}")
            responses.append(response)
            for outcome in response.outcomes:
                slot = outcome.vcpu // width
                index = current[slot]
                waiting[index] -= 1
                if not waiting[index]:
                    unanswered -= 1
                    current[slot] = index + in_flight
                    if index + in_flight < len(messages):
                        await stream.write(messages[index + in_flight])
        return time.perf_counter() - begun, responses

    async def run(self, commands: Iterable[Command], *, width: int, in_flight: int = 1) -> None:
        """Execute commands untimed."""
        messages = self.prepare(commands, width=width, in_flight=in_flight)
        await self.exchange(messages, width=width, in_flight=in_flight)
