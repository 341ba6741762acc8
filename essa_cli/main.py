"""The one command, `essa`: puts the subcommands together and turns errors into one line."""

from __future__ import annotations

import importlib
import sys

import typer
from typer.exceptions import TyperException

from essa_cli.errors import CliError
from shared.errors import EssaError

app = typer.Typer(
    name="essa",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def essa() -> None:
    """Page host virtual assist (s390 ESSA) over gRPC: host, guests, traces, races."""


_ROOMS = ("host", "guest", "ctl", "certs", "health", "trace", "demo", "soak", "experiment", "races")
"""Modules of this package; each has `register(app)`."""


def _register(first: str | None) -> None:
    """Put in the room that the first argument names; all of them if it names none.

    To import a room takes longer than most of what is asked of it.
    """
    for room in (first,) if first in _ROOMS else _ROOMS:
        importlib.import_module(f"essa_cli.{room}").register(app)


def main() -> None:
    """Run the command line. Bad input ends with one line on standard error and exit code 2.

    Exit codes: 0 done, 1 the run found an integrity error or a violation, 2 bad input.
    """
    _register(sys.argv[1] if len(sys.argv) > 1 else None)
    try:
        code = app(standalone_mode=False)
    except (TyperException, EssaError, CliError) as error:
        text = error.format_message() if isinstance(error, TyperException) else str(error)
        if text:  # empty where typer has just printed the help for want of arguments
            print(f"essa: {' '.join(text.split())}", file=sys.stderr)
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)
