"""`essa certs serve` and `essa certs enrol`: tokens, traded for certificates."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
from pathlib import Path
from typing import Annotated, Final

import typer

from essa_cli.certificates import enrolment
from essa_cli.certificates.authority import Authority
from essa_cli.certificates.enrol import enrol as trade
from essa_cli.certificates.options import check_days, check_name
from essa_cli.errors import CliError
from shared import telemetry
from shared.identity import Role
from shared.rpc.channel import Address, HostUnreachableError, parse_address
from shared.rpc.tls import identity_of

COUNT_MAX: Final = 1000
WAIT_MAX: Final = 86_400.0


def register(certs: typer.Typer) -> None:
    """Add this module's commands to those of `essa certs`."""
    certs.command(
        "serve",
        epilog="Example: essa certs serve authority --listen 0.0.0.0:7010 --guests tokens",
    )(serve)
    certs.command(
        "enrol",
        epilog="Example: essa certs enrol --authority localhost:7010 --token tokens "
        "--name web-1 --out web-1-tls",
    )(enrol)


def serve(
    directory: Annotated[
        Path, typer.Argument(help="The authority's directory.", metavar="DIRECTORY")
    ],
    listen: Annotated[
        str, typer.Option(help="Where it is asked.", metavar="ADDRESS")
    ] = "127.0.0.1:7010",
    guests: Annotated[
        Path | None,
        typer.Option(help="Where tokens for guests lie.", metavar="DIRECTORY", show_default=False),
    ] = None,
    hosts: Annotated[
        Path | None,
        typer.Option(help="Where tokens for hosts lie.", metavar="DIRECTORY", show_default=False),
    ] = None,
    operators: Annotated[
        Path | None,
        typer.Option(
            help="Where tokens for operators lie.", metavar="DIRECTORY", show_default=False
        ),
    ] = None,
    count: Annotated[
        int, typer.Option(help="So many tokens lie in each; what is taken is replaced.")
    ] = 16,
    days: Annotated[int, typer.Option(help="How long certificates are valid.", metavar="N")] = 365,
) -> None:
    """Trade one-time tokens for certificates, until SIGTERM.

    Whoever has one of the tokens that it puts into the directories gets a certificate of the role,
    under any name that it never gave out before; hosts and operators are called by that name, or
    localhost.
    """
    address = parse_address(listen, "--listen")
    places = {
        role: place
        for role, place in (
            (Role.GUEST, guests),
            (Role.HOST, hosts),
            (Role.OPERATOR, operators),
        )
        if place is not None
    }
    if not places:
        raise CliError("--guests, --hosts and --operators are missing; it must be one at least")
    if len(set(map(os.path.realpath, places.values()))) < len(places):
        raise CliError("--guests, --hosts and --operators must be directories of their own")
    if not 1 <= count <= COUNT_MAX:
        raise CliError(f"--count is {count}; it must be 1 to {COUNT_MAX}")
    check_days(days)
    authority = Authority(directory)
    telemetry.configure()

    def serving(bound: Address) -> None:
        telemetry.logger().info("authority_serving", listen=str(bound))

    async def until_stopped() -> None:
        task = asyncio.ensure_future(
            enrolment.serve(authority, address, places, count, days, serving)
        )
        for stop in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(stop, task.cancel)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    asyncio.run(until_stopped())


def enrol(
    authority: Annotated[
        str,
        typer.Option(
            help="Where essa certs serve listens.", metavar="ADDRESS", envvar="ESSA_AUTHORITY"
        ),
    ],
    token: Annotated[
        Path,
        typer.Option(
            help="A token's file, or a directory of which one is taken.", metavar="FILE|DIRECTORY"
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(help="Where cert.pem, key.pem and ca.pem go.", metavar="DIRECTORY"),
    ],
    name: Annotated[
        str, typer.Option(help="Who it is to be. [default: this machine's name]", metavar="NAME")
    ] = "",
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for a token and for the authority.")
    ] = 10.0,
) -> None:
    """Make a key, and trade a one-time token for a certificate for it.

    The key stays where it is made. If that is broken off, the same command goes on with it.
    """
    name = check_name(name or platform.node())
    if not 0 <= wait <= WAIT_MAX:
        raise CliError(f"--wait is {wait:g}; it must be 0 to {WAIT_MAX:g} seconds")
    address = parse_address(authority, "--authority")
    telemetry.configure()
    try:
        certificate = trade(address, token, name, out, wait)
    except HostUnreachableError as error:
        raise CliError(str(error)) from None
    until = certificate.not_valid_after_utc
    print(f"{out}: {identity_of(certificate)}, valid until {until:%F %T} UTC")
