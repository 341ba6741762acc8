"""Options that several commands of `essa certs` have."""

from __future__ import annotations

from essa_cli.certificates.authority import DAYS_MAX
from essa_cli.errors import CliError
from shared.identity import NAME, NAME_BOUND


def check_days(days: int) -> int:
    """The value of `--days`. Raises CliError."""
    if not 1 <= days <= DAYS_MAX:
        raise CliError(f"--days is {days}; it must be 1 to {DAYS_MAX}")
    return days


def check_name(name: str) -> str:
    """The value of `--name`. Raises CliError."""
    if NAME.fullmatch(name) is None:
        raise CliError(f"--name is {name!r}; it must be {NAME_BOUND}")
    return name
