"""Bad input, as every command reports it."""

from __future__ import annotations


class CliError(Exception):
    """What the user can mend: `main` prints its one line and exits with code 2."""
