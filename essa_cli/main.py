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


_ROOMS = ("host", "guest", "ctl", "trace", "demo", "soak", "experiment", "races")
"""Modules of this package; each has `register(app)`."""

for _room in _ROOMS:
    importlib.import_module(f"essa_cli.{_room}").register(app)


def main() -> None:
    """Run the command line. Bad input ends with one line on standard error and exit code 2.

    Exit codes: 0 done, 1 the run found an integrity error or a violation, 2 bad input.
    """
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
