"""The other end of a link, by hand: answers what a test wants, when it wants, or hangs up.

The real stubs and the real codec over a Unix socket; no host core behind them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from shared.commands import DiscardFault, Outcome
from shared.errors import EssaError
from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.rpc import codec
from shared.rpc.channel import SERVER_OPTIONS, Address, connect
from shared.rpc.status import status_of

SESSION = pb.Session(token=b"0123456789abcdef", incarnation=5)


class FakeHost(essa_pb2_grpc.EssaServiceServicer):
    """received: every message of every Execute stream: (stream, commands)."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[Any, list[codec.Numbered]]] = asyncio.Queue()
        self.sessions: list[pb.Session] = []
        self.subscriptions: asyncio.Queue[Any] = asyncio.Queue()
        self.acknowledged: asyncio.Queue[list[int]] = asyncio.Queue()
        self.refusal: EssaError | None = None
        self._hang_ups: dict[Any, asyncio.Event] = {}

    async def _refuse(self, context: Any) -> None:
        if self.refusal is not None:
            code, text, metadata = status_of(self.refusal)
            await context.abort(code, text, metadata)

    async def Execute(self, _requests: Any, context: Any) -> None:
        await self._refuse(context)
        self._hang_ups[context] = asyncio.Event()
        reading = asyncio.ensure_future(self._read(context))
        await self._hang_ups[context].wait()
        reading.cancel()
        await self._refuse(context)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "hung up")

    async def _read(self, context: Any) -> None:
        while isinstance(message := await context.read(), pb.ExecuteRequest):
            if message.HasField("session"):
                self.sessions.append(message.session)
            self.received.put_nowait((context, codec.commands_from_message(message)))

    async def SubscribeFaults(self, request: pb.SubscribeFaultsRequest, context: Any) -> None:
        await self._refuse(context)
        await context.send_initial_metadata(())
        self._hang_ups[context] = asyncio.Event()
        self.subscriptions.put_nowait(context)
        await self._hang_ups[context].wait()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "hung up")

    async def AcknowledgeFaults(
        self, request: pb.AcknowledgeFaultsRequest, context: Any
    ) -> pb.AcknowledgeFaultsResponse:
        await self._refuse(context)
        self.acknowledged.put_nowait(list(request.numbers))
        return pb.AcknowledgeFaultsResponse()

    def hang_up(self, context: Any) -> None:
        """End one stream, as a connection that breaks does."""
        self._hang_ups[context].set()

    async def answer(self, context: Any, *answers: tuple[int, int, Outcome]) -> None:
        for message in codec.messages_from_outcomes(answers):
            await context.write(message)

    async def deliver(self, context: Any, *faults: DiscardFault) -> None:
        await context.write(codec.message_from_faults(faults))


@asynccontextmanager
async def fake_host(directory: Path) -> AsyncIterator[tuple[FakeHost, Any]]:
    """The host, and a stub that speaks to it."""
    host, address = FakeHost(), Address(path=str(directory / "s"))
    server = grpc.aio.server(options=SERVER_OPTIONS)
    stubs: Any = essa_pb2_grpc
    stubs.add_EssaServiceServicer_to_server(host, server)
    server.add_insecure_port(address.target)
    await server.start()
    channel = connect(address)
    try:
        yield host, stubs.EssaServiceStub(channel)
    finally:
        await channel.close(None)
        await server.stop(0)


def play(test: Callable[[FakeHost, Any], Coroutine[Any, Any, None]], directory: Path) -> None:
    """Run one test against a fake host of its own."""

    async def body() -> None:
        async with asyncio.timeout(20), fake_host(directory) as (host, stub):
            await test(host, stub)

    asyncio.run(body())
