"""`--tls` and `--insecure` of the commands that connect to somebody."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.identity import Role
from shared.rpc.channel import Address, check_reach
from shared.rpc.tls_option import TLS_VARIABLE, tls_option

if TYPE_CHECKING:
    from shared.rpc.tls import Tls

TlsDirectory = Annotated[
    Path | None,
    typer.Option(
        "--tls",
        help="Directory with cert.pem, key.pem and ca.pem, as essa certs makes them.",
        metavar="DIRECTORY",
        envvar=TLS_VARIABLE,
        show_default=False,
    ),
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure",
        help="Talk to other machines unencrypted, to whoever answers.",
        envvar="ESSA_INSECURE",
    ),
]


def client_tls(
    address: Address,
    option: str,
    directory: Path | None,
    *,
    insecure: bool,
    roles: Collection[Role],
) -> Tls | None:
    """What to show at the address; None for a plain connection. Raises InvalidRequestError.

    option: the one that gave the address.
    """
    tls = tls_option(directory, insecure=insecure, roles=roles)
    check_reach(address, option, protected=tls is not None or insecure)
    return tls
