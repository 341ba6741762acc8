"""The one command, `essa`: puts the subcommands together and turns errors into one line."""

from __future__ import annotations

import importlib
import sys

import click
import typer

from shared.errors import EssaError

app = typer.Typer(
    name="essa",
    help="Page host virtual assist (s390 ESSA) over gRPC: host daemon, guest agents, race laboratory.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

_ROOMS = ("host", "guest", "ctl", "trace", "demo")
"""Modules of this package; each has `register(app)`."""

for _room in _ROOMS:
    importlib.import_module(f"essa_cli.{_room}").register(app)


def main() -> None:
    """Run the command line. Bad input ends with one line on standard error and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Abort:
        sys.exit(130)
    except EssaError as error:
        print(f"essa: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)
