"""`essa races attend`: a host or a guest of a race that another process replays.

Rules:
- Nobody but `essa races replay --cluster` has a use for it. It comes before or after its gate.
- With --tls both know who the other is. Without, they trust each other, and whoever else comes:
  beyond this machine that must be said aloud.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from essa_cli.gate import guest, host
from essa_cli.security import Insecure, TlsDirectory, client_tls
from shared.identity import Role
from shared.rpc.channel import check_reach, parse_address

ATTEND: Final = """Example: essa races attend guest --gate unix:gate.sock

Exit codes: 0 the gate has closed; 2 bad input, or a gate that gives no seat."""


class Part(StrEnum):
    """What a process is in a race, and the role of its certificate."""

    HOST = Role.HOST
    GUEST = Role.GUEST


def attend(
    role: Annotated[Part, typer.Argument(help="What to be in the race.")],
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
    tls: TlsDirectory = None,
    insecure: Insecure = False,
) -> int:
    """Take part in races that another process replays, until it is done.

    A gate on this machine that does not open within a minute is not waited for any longer.
    """
    where = parse_address(gate, "--gate")
    shown = client_tls(where, "--gate", tls, insecure=insecure, roles=(Role(role),))
    if role is Part.GUEST:
        return guest.attend(where, shown)
    at = parse_address(listen, "--listen") if listen else None
    if at is not None:
        check_reach(at, "--listen", protected=shown is not None or insecure)
    reached = parse_address(reached_at, "--reached-at") if reached_at else None
    return host.attend(where, directory, at, reached, shown)
