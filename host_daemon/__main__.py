"""The host daemon's main program; `essa host` and `python -m host_daemon` both end up here."""

from __future__ import annotations

import sys
from typing import Final

import uvloop

from host_daemon import config, daemon
from host_daemon.checkpoint import CheckpointError
from host_daemon.config import DaemonConfig
from host_daemon.paging.ports import PagingFileError
from shared import telemetry
from shared.collection import collect_seldom
from shared.errors import EssaError, InvalidRequestError
from shared.runlog.writer import RunLogError

_OPTIONS: Final[dict[type[Exception], str]] = {
    PagingFileError: "--paging-file",
    CheckpointError: "--state-dir",
    RunLogError: "--record",
}


def run(configuration: DaemonConfig) -> int:
    """Run one daemon to its end; returns the exit code.

    Raises InvalidRequestError, with one line of text, for what the user can mend.
    """
    if not __debug__:
        text = "the host does not run under python -O: its assertions guard the guests' memory"
        raise InvalidRequestError(text, field="-O")
    telemetry.configure(level=configuration.log_level, format=configuration.log_format)
    collect_seldom()
    try:
        return uvloop.run(daemon.run(configuration))
    except (PagingFileError, CheckpointError, RunLogError) as error:
        option = next(name for kind, name in _OPTIONS.items() if isinstance(error, kind))
        raise InvalidRequestError(f"{option}: {error}", field=option) from error


def main() -> int:
    """Run with the configuration that the environment gives."""
    try:
        return run(config.parse({}))
    except EssaError as error:
        print(f"host_daemon: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
