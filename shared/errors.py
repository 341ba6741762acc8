"""What a peer may have asked wrongly or too late, one class per reason.

Rules:
- A machine exception (addressing, specification, discard fault, ...) is an outcome of a
  command and never one of these.
- `reason` is stable and is what a client branches on; the text is for people and names
  the field and the bound.
"""

from __future__ import annotations

from typing import ClassVar


class EssaError(Exception):
    """The peer's fault. Abstract: raise one of the subclasses.

    `metadata` holds every value that the message mentions.
    """

    reason: ClassVar[str] = ""

    def __init__(self, message: str, **metadata: str | int) -> None:
        if not self.reason:
            raise TypeError("EssaError is abstract")
        super().__init__(message)
        self.metadata = metadata


class InvalidRequestError(EssaError):
    """A field is missing, malformed or out of its bound. Fix the call."""

    reason = "INVALID_REQUEST"


class GuestNotFoundError(EssaError):
    """No open guest has this name or id."""

    reason = "GUEST_NOT_FOUND"


class GuestExistsError(EssaError):
    """A guest of this name is open already."""

    reason = "GUEST_EXISTS"


class InvalidTokenError(EssaError):
    """The session token belongs to no open guest of this incarnation."""

    reason = "INVALID_TOKEN"


class IdentityMismatchError(EssaError):
    """The peer's certificate names somebody else than the guest it speaks for."""

    reason = "IDENTITY_MISMATCH"


class RoleNotAllowedError(EssaError):
    """The peer's certificate is of a role that this service is not for."""

    reason = "ROLE_NOT_ALLOWED"


class TokenRefusedError(EssaError):
    """The enrolment token is none of this authority's, or was spent on something else."""

    reason = "TOKEN_REFUSED"


class NameTakenError(EssaError):
    """The authority gave this name to another key before."""

    reason = "NAME_TAKEN"


class StaleIncarnationError(EssaError):
    """The host was restarted without its state. The guest has to reboot from its disk."""

    reason = "STALE_INCARNATION"


class SequenceError(EssaError):
    """A vCPU's command number is neither the last one nor the next."""

    reason = "OUT_OF_SEQUENCE"


class PagingSpaceError(EssaError):
    """The paging device has too few free slots for the guest."""

    reason = "PAGING_SPACE_FULL"


class FaultNotFoundError(EssaError):
    """No fault was injected under this number."""

    reason = "FAULT_NOT_FOUND"


class TooManyWatchersError(EssaError):
    """As many operators watch the host already as may."""

    reason = "TOO_MANY_WATCHERS"


class DrainingError(EssaError):
    """The host is shutting down; try again when it is back."""

    reason = "DRAINING"
