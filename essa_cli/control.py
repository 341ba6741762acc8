"""How operators' commands reach the host: one connection, the host's errors as they are.

Rules:
- Every command of a `ControlTyper` that has `--control` has `--tls` and `--insecure` too, and
  need not know of them.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_type_hints

import grpc
import typer

from essa_cli.errors import CliError
from essa_cli.security import Insecure, TlsDirectory, client_tls
from shared.essa.v1 import essa_pb2_grpc
from shared.identity import Role
from shared.rpc.channel import Address, HostUnreachableError, call, connect, parse_address

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

_SECURITY: Final[ContextVar[tuple[Path | None, bool]]] = ContextVar("_SECURITY")
_OPTIONS: Final = {"tls": (TlsDirectory, None), "insecure": (Insecure, False)}


class ControlTyper(typer.Typer):
    """A group of operators' commands."""

    def command(self, *arguments: Any, **keywords: Any) -> Callable[[Any], Any]:
        """As of any group; one with `--control` gets `--tls` and `--insecure` too."""
        register = super().command(*arguments, **keywords)

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            asks = "control" in inspect.signature(function).parameters
            register(_secured(function) if asks else function)
            return function

        return add


def _secured(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def command(*arguments: Any, tls: Path | None, insecure: bool, **keywords: Any) -> Any:
        token = _SECURITY.set((tls, insecure))
        try:
            return function(*arguments, **keywords)
        finally:
            _SECURITY.reset(token)

    hints = get_type_hints(function, include_extras=True)
    parameters = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(function).parameters.items()
    ]
    for name, (annotation, default) in _OPTIONS.items():
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(name, kind, default=default, annotation=annotation))
        hints[name] = annotation
    described: Any = command
    described.__signature__ = inspect.Signature(parameters, return_annotation=hints.get("return"))
    described.__annotations__ = hints
    return command


def operator_channel(address: Address) -> grpc.aio.Channel:
    """A channel as the running command's `--tls` says. The caller closes it.

    Raises InvalidRequestError.
    """
    directory, insecure = _SECURITY.get((None, False))
    roles = (Role.OPERATOR,)
    tls = client_tls(address, "--control", directory, insecure=insecure, roles=roles)
    return connect(address, tls.channel_credentials() if tls else None)


def ask(control: str, work: Callable[[Method], Awaitable[Result]]) -> Result:
    """Do work that calls the host's methods, over one connection."""
    address = parse_address(control, "--control")

    async def session() -> Result:
        channel = operator_channel(address)
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
