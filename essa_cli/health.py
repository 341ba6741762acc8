"""`essa health`: ask a daemon whether it serves, as a container's health check does."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from essa_cli.errors import CliError
from essa_cli.security import Insecure, TlsDirectory, client_tls
from shared.identity import Role
from shared.rpc.channel import connect, parse_address

_ROLES: Final = (Role.HOST, Role.GUEST, Role.OPERATOR)


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("health", epilog="Example: essa health localhost:7000 --tls host-tls")(health)


def health(
    address: Annotated[
        str, typer.Argument(help="unix:PATH or HOST:PORT, of guests or of operators.")
    ],
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 5.0,
    tls: TlsDirectory = None,
    insecure: Insecure = False,
) -> int:
    """Ask the gRPC health service of a daemon. Exit codes: 0 it serves, 1 it does not."""
    if not 0 < timeout <= 3600:
        raise CliError(f"--timeout is {timeout:g}; it must be more than 0, at most 3600 seconds")
    where = parse_address(address, "ADDRESS")
    credentials = client_tls(where, "ADDRESS", tls, insecure=insecure, roles=_ROLES)

    async def check() -> str:
        channel = connect(where, credentials.channel_credentials() if credentials else None)
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest()
            answer = await stub.Check(request, timeout=timeout, wait_for_ready=True)
            return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
        except grpc.aio.AioRpcError as error:
            return f"no answer: {error.code().name}"
        finally:
            await channel.close(None)

    found = asyncio.run(check())
    print(f"{where}: {found}")
    return 0 if found == "SERVING" else 1
