"""How operators' commands reach the host: one connection, the host's errors as they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer

from essa_cli.errors import CliError
from shared.essa.v1 import essa_pb2_grpc
from shared.rpc.channel import HostUnreachableError, call, connect, parse_address

Control = Annotated[
    str,
    typer.Option(
        "--control",
        help="Where the host listens for operators: unix:PATH or HOST:PORT.",
        metavar="ADDRESS",
        envvar="ESSA_CONTROL",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

Result = TypeVar("Result")
Method = Callable[[str, Any], Awaitable[Any]]
"""Calls a method of ControlService by name."""


def ask(control: str, work: Callable[[Method], Awaitable[Result]]) -> Result:
    """Do work that calls the host's methods, over one connection."""
    address = parse_address(control, "--control")

    async def session() -> Result:
        channel = connect(address)
        try:
            stub: Any = essa_pb2_grpc.ControlServiceStub(channel)  # type: ignore[no-untyped-call]
            return await work(lambda method, request: call(stub, method, request, address))
        finally:
            await channel.close(None)

    try:
        return asyncio.run(session())
    except HostUnreachableError as error:
        raise CliError(f"--control {address}: no host answers there ({error})") from None


def print_json(value: Any) -> None:
    """Print for programs."""
    print(json.dumps(value, indent=2))
