"""`--tls` and `--insecure` as all commands understand them.

The certificates' own module is imported only where somebody asks for TLS: it costs every
start of a process dearly.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.errors import InvalidRequestError
from shared.identity import Role

if TYPE_CHECKING:
    from shared.rpc.tls import Tls

TLS_OPTION: Final = "--tls"
TLS_VARIABLE: Final = "ESSA_TLS"


def tls_option(directory: Path | None, *, insecure: bool, roles: Collection[Role]) -> Tls | None:
    """What `--tls DIRECTORY` gives; None without it. Raises InvalidRequestError.

    `--insecure` beside it is refused: nobody shall believe in the one and get the other.
    """
    if directory is None:
        return None
    if insecure:
        text = f"--insecure is given and so is {TLS_OPTION} {directory}; it must be one of them"
        raise InvalidRequestError(text, field="--insecure", value=str(directory))
    from shared.rpc.tls import load_tls

    return load_tls(directory, TLS_OPTION, roles)
