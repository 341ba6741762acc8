"""`essa health`: ask a daemon whether it serves, as a container's health check does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from essa_cli.errors import CliError
from essa_cli.security import Insecure, TlsDirectory, client_tls
from shared.errors import InvalidRequestError
from shared.identity import Role
from shared.rpc.channel import Address, connect, parse_address

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
    ca: Annotated[
        Path | None,
        typer.Option(
            help="Show no certificate; believe this authority's, in PEM.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    insecure: Insecure = False,
) -> int:
    """Ask the gRPC health service of a daemon. Exit codes: 0 it serves, 1 it does not."""
    if not 0 < timeout <= 3600:
        raise CliError(f"--timeout is {timeout:g}; it must be more than 0, at most 3600 seconds")
    where = parse_address(address, "ADDRESS")
    credentials = _credentials(where, tls, ca, insecure=insecure)

    async def check() -> str:
        channel = connect(where, credentials)
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


def _credentials(
    where: Address, tls: Path | None, ca: Path | None, *, insecure: bool
) -> grpc.ChannelCredentials | None:
    """What is shown and whom to believe; None for a plain connection. Raises InvalidRequestError.

    With --ca the directory of ESSA_TLS is not looked at: it may not be there yet.
    """
    if ca is not None:
        if insecure:
            text = f"--insecure is given and so is --ca {ca}; it must be one of them"
            raise InvalidRequestError(text, field="--insecure", value=str(ca))
        from cryptography.hazmat.primitives.serialization import Encoding

        from shared.rpc.tls import read_certificate

        return grpc.ssl_channel_credentials(read_certificate(ca, "--ca").public_bytes(Encoding.PEM))
    shown = client_tls(where, "ADDRESS", tls, insecure=insecure, roles=_ROLES)
    return None if shown is None else shown.channel_credentials()
