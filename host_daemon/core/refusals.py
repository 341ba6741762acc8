"""What the host refuses because whoever asked is wrong about the guest."""

from __future__ import annotations

from host_daemon.core.guest import Guest
from shared.commands import Command
from shared.errors import InvalidRequestError


def check_pfn(guest: Guest, pfn: int) -> None:
    """Raise InvalidRequestError for a pfn outside the guest."""
    if not 0 <= pfn < guest.page_count:
        raise InvalidRequestError(
            f"pfn is {pfn}; it must be 0 to {guest.page_count - 1}",
            field="pfn",
            value=pfn,
            high=guest.page_count - 1,
        )


def wrong_issuer(guest: Guest, issuer: int, command: Command) -> InvalidRequestError:
    """The error for an issuer that has no such commands, or is none."""
    return InvalidRequestError(
        f"issuer {issuer} cannot issue {type(command).__name__}: "
        f"0 to {guest.vcpu_count - 1} are vCPUs, {guest.vcpu_count} to "
        f"{guest.issuer_count - 1} devices",
        issuer=issuer,
        command=type(command).__name__,
        vcpu_count=guest.vcpu_count,
        device_count=guest.device_count,
    )
