"""`essa races attend`: a host or a guest of a race that another process replays.

Rules:
- Nobody but `essa races replay --cluster` has a use for it. It comes before or after its gate.
- The gate trusts who comes, and they trust it: beyond this machine that must be said aloud.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from essa_cli.errors import CliError
from essa_cli.gate import guest, host
from shared.rpc.channel import Address, parse_address

ATTEND: Final = """Example: essa races attend guest --gate unix:gate.sock

Exit codes: 0 the gate has closed; 2 bad input."""


Insecure = Annotated[bool, typer.Option("--insecure", help="Allow addresses beyond this machine.")]


class Role(StrEnum):
    """What a process is in a race."""

    HOST = "host"
    GUEST = "guest"


def attend(
    role: Annotated[Role, typer.Argument(help="What to be in the race.")],
    gate: Annotated[str, typer.Option(help="The process that replays.", metavar="ADDRESS")],
    directory: Annotated[
        Path, typer.Option(help="For the host's sockets, paging file and checkpoint.")
    ] = Path("."),
    listen: Annotated[
        str | None,
        typer.Option(
            help="Where the host's guests connect. [default: a socket in --directory]",
            metavar="ADDRESS",
        ),
    ] = None,
    reached_at: Annotated[
        str | None,
        typer.Option(help="How the guest reaches the host, if not by --listen.", metavar="ADDRESS"),
    ] = None,
    insecure: Insecure = False,
) -> int:
    """Take part in races that another process replays, until it is done.

    A gate on this machine that does not open within a minute is not waited for any longer.
    """
    where = trusted(gate, "--gate", insecure=insecure)
    if role is Role.GUEST:
        return guest.attend(where)
    at = trusted(listen, "--listen", insecure=insecure) if listen else None
    reached = parse_address(reached_at, "--reached-at") if reached_at else None
    return host.attend(where, directory, at, reached)


def trusted(text: str, option: str, *, insecure: bool) -> Address:
    """An address on this machine, or one beyond it that may be used. Raises CliError."""
    address = parse_address(text, option)
    if not address.local and not insecure:
        raise CliError(f"{option} {address} is beyond this machine; the gate needs --insecure then")
    return address
