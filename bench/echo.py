"""The baseline: a bare grpc.aio server with the host's messages and options that does nothing.

It takes the host's requests and answers with messages of the same types and sizes, and collects
garbage as seldom as the host does.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any, Final

import grpc
import uvloop

from shared.collection import collect_seldom
from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.rpc.channel import SERVER_OPTIONS, parse_address

_STUBS: Final[Any] = essa_pb2_grpc  # generated without types


class EchoServicer(essa_pb2_grpc.EssaServiceServicer):
    """Answers at once: an ESSA with its orc, an array with its orcs."""

    async def ExecuteEssa(
        self, request: pb.ExecuteEssaRequest, context: Any
    ) -> pb.ExecuteEssaResponse:
        """One message for one."""
        return pb.ExecuteEssaResponse(essa_state=request.essa.orc)

    async def Execute(self, _requests: Any, context: Any) -> None:
        """One message for one, with an outcome for each command."""
        while isinstance(request := await context.read(), pb.ExecuteRequest):
            response = pb.ExecuteResponse()
            for item in request.commands:
                outcome = response.outcomes.add()
                outcome.vcpu = item.vcpu
                outcome.number = item.number
                outcome.essa_array_states = item.essa_array.orcs
            await context.write(response)


async def serve(address: str) -> None:
    """Serve until SIGTERM."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    _STUBS.add_EssaServiceServicer_to_server(EchoServicer(), server)
    server.add_insecure_port(parse_address(address, "address").target)
    await server.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    print("ready", flush=True)
    await stopped.wait()
    await server.stop(None)


if __name__ == "__main__":
    collect_seldom()
    uvloop.run(serve(sys.argv[1]))
