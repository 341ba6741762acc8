"""A process's seat at the gate: the stream over which it is told what to do, and reports."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final

import grpc

from shared.essa.v1 import gate_pb2 as pb
from shared.essa.v1 import gate_pb2_grpc
from shared.rpc.channel import Address, connect

ARRIVAL_SECONDS: Final = 60.0
"""For a process that has to import its libraries on a machine that may be busy."""


class Seat:
    """One process at the gate. Made inside the loop's thread; `arrive` comes first."""

    def __init__(self, gate: Address) -> None:
        # Whoever was started by the gate that it names must not outlive one that has been killed
        # meanwhile; from elsewhere people may come before their gate, as long before as they like.
        self._patience: float | None = ARRIVAL_SECONDS if gate.local else None
        self._channel = connect(gate)
        stub: Any = gate_pb2_grpc.GateServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._stream = stub.Attend(wait_for_ready=True)
        self._outbox: asyncio.Queue[pb.AttendRequest] = asyncio.Queue()
        self._writer = asyncio.ensure_future(self._write())

    def arrive(self, role: pb.GateRole) -> None:
        """Say who this is."""
        arrival = pb.Arrival(role=role, process_id=os.getpid())
        self.say(pb.AttendRequest(arrival=arrival))

    def say(self, message: pb.AttendRequest) -> None:
        """Send a message, after those before it."""
        self._outbox.put_nowait(message)

    async def hear(self) -> pb.AttendResponse | None:
        """The next message; None when the gate has closed, or a gate nearby has not opened."""
        patience, self._patience = self._patience, None
        try:
            async with asyncio.timeout(patience):
                message = await self._stream.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
            return None
        return message if isinstance(message, pb.AttendResponse) else None

    async def leave(self) -> None:
        """End the stream, once all is sent that was said."""
        await self._outbox.join()
        self._writer.cancel()
        await self._channel.close(None)

    async def _write(self) -> None:
        while True:
            message = await self._outbox.get()
            try:
                await self._stream.write(message)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                pass  # the gate has closed, and whoever hears is told
            finally:
                self._outbox.task_done()
