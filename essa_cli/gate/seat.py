"""A process's seat at the gate: the stream over which it is told what to do, and reports.

Rules:
- A gate that is not there is waited for. One that is, and does not let this process in, is not:
  the certificates do not fit, and no waiting mends that.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import grpc

from essa_cli.errors import CliError
from shared.essa.v1 import gate_pb2 as pb
from shared.essa.v1 import gate_pb2_grpc
from shared.rpc.channel import Address, connect

if TYPE_CHECKING:
    from shared.rpc.tls import Tls

ARRIVAL_SECONDS: Final = 60.0
"""For a process that has to import its libraries on a machine that may be busy."""
SHUT_SECONDS: Final = 3.0
"""A gate that opens or closes just now is not taken for one that lets nobody in."""
_KNOCK_SECONDS: Final = 0.2
_REFUSED: Final = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.FAILED_PRECONDITION)


class Seat:
    """One process at the gate. Made inside the loop's thread; sits down at the first `hear`."""

    def __init__(self, gate: Address, role: pb.GateRole, tls: Tls | None = None) -> None:
        self._gate = gate
        self._arrival = pb.AttendRequest(arrival=pb.Arrival(role=role, process_id=os.getpid()))
        self._channel = connect(gate, tls.channel_credentials() if tls else None)
        self._stub: Any = gate_pb2_grpc.GateServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._stream: Any = None
        self._outbox: asyncio.Queue[pb.AttendRequest] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = None

    def say(self, message: pb.AttendRequest) -> None:
        """Send a message, after those before it."""
        self._outbox.put_nowait(message)

    async def hear(self) -> pb.AttendResponse | None:
        """The next message; None when the gate has closed, or a gate nearby has not opened.

        Raises CliError if it gives no seat.
        """
        try:
            if self._stream is None:
                # Whoever was started by the gate that it names must not outlive one that has been
                # killed meanwhile; from elsewhere people may come before their gate, as long
                # before as they like.
                async with asyncio.timeout(ARRIVAL_SECONDS if self._gate.local else None):
                    self._stream = await self._arrive()
                self._writer = asyncio.ensure_future(self._write())
            message = await self._stream.read()
        except grpc.aio.AioRpcError as error:
            if error.code() in _REFUSED:
                raise CliError(f"no seat at the gate {self._gate}: {error.details()}") from None
            return None
        except (asyncio.InvalidStateError, TimeoutError):
            return None
        return message if isinstance(message, pb.AttendResponse) else None

    async def leave(self) -> None:
        """End the stream, once all is sent that was said."""
        if self._writer is not None:
            await self._outbox.join()
            self._writer.cancel()
        await self._channel.close(None)

    async def _arrive(self) -> Any:
        """The stream, over which was said who this is. Raises CliError."""
        loop = asyncio.get_running_loop()
        there_since: float | None = None
        while True:
            stream = self._stub.Attend()
            try:
                await stream.write(self._arrival)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                if not await _is_there(self._gate):
                    there_since = None
                elif there_since is None:
                    there_since = loop.time()
                elif loop.time() - there_since > SHUT_SECONDS:
                    raise _shut(self._gate, error) from None
            else:
                return stream
            await asyncio.sleep(_KNOCK_SECONDS)

    async def _write(self) -> None:
        while True:
            message = await self._outbox.get()
            try:
                await self._stream.write(message)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                pass  # the gate has closed, and whoever hears is told
            finally:
                self._outbox.task_done()


async def _is_there(gate: Address) -> bool:
    """Whether somebody listens there who may want another certificate."""
    if gate.path:
        return False  # there are none on Unix sockets
    with suppress(OSError):
        _, writer = await asyncio.open_connection(gate.host, gate.port)
        writer.close()
        return True
    return False


def _shut(gate: Address, error: grpc.aio.AioRpcError) -> CliError:
    return CliError(
        f"the gate {gate} is there and does not let us in; look at --tls on both sides: "
        f"{error.details()}"
    )
