"""What a host is made of, what a guest is given, and which protections are on.

Rules:
- Values only; everything is checked where it comes in, and an impossible size raises
  InvalidRequestError with the field and the bound.
- `HostGuards` has one field per protection of the host's own; all are on by default.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

from shared.arch import Mode
from shared.errors import InvalidRequestError
from shared.protection import protection

PAGE_COUNT_MAX: Final = 1 << 31
"""Pages of one guest; locations are 32 bits wide, and so are page numbers on the wire."""
SLOT_COUNT_MAX: Final = (1 << 32) - 2
FRAME_COUNT_MAX: Final = 1 << 28
ISSUER_COUNT_MAX: Final = 4096


class Choices(Protocol):
    """Where the one decision that is neither input nor state comes from (policy `random`)."""

    def choose(self, bound: int) -> int:
        """A number from 0 to bound - 1."""
        ...


@dataclass(frozen=True, slots=True)
class HostGuards:
    """The host's protections, one switch each."""

    remove_access_before_read: bool = protection(
        "R45",
        "reclaim._next_stage",
        "KVM: invalidate, then read the key",
        "reclaim takes the guest's access away before it reads the change bit",
    )
    slot_generation: bool = protection(
        "R42",
        "release._free_named",
        "KVM: only what is still swapped out and unused",
        "an entry of a release list frees the copy that it names and nothing newer",
    )
    discard_clears_change_bit: bool = protection(
        "R50",
        "reclaim._discard",
        "this project",
        "a discard clears R and C, which the guest would take for data",
    )
    redeliver_faults: bool = protection(
        "",
        "faults.redeliver",
        "this project",
        "a guest with a new connection is sent all faults that it has not acknowledged",
    )


def _bound(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidRequestError(
            f"{name} is {value}; it must be {low} to {high}",
            field=name,
            value=value,
            low=low,
            high=high,
        )


@dataclass(frozen=True, slots=True)
class HostConfig:
    """The host's memory and how it is reclaimed.

    low_watermark, high_watermark: free frames at which reclaim starts and stops.
    policy: name of a module in `policies/`, with dashes.
    overcommit_paging: open guests although the paging device could not hold all their pages.
    """

    frame_count: int
    slot_count: int
    low_watermark: int = 0
    high_watermark: int = 0
    policy: str = "hints-first"
    overcommit_paging: bool = False
    guards: HostGuards = field(default_factory=HostGuards)

    def check(self) -> None:
        """Raise InvalidRequestError for sizes that make no sense."""
        _bound("frame_count", self.frame_count, 1, FRAME_COUNT_MAX)
        _bound("slot_count", self.slot_count, 0, SLOT_COUNT_MAX)
        _bound("high_watermark", self.high_watermark, 0, self.frame_count)
        _bound("low_watermark", self.low_watermark, 0, self.high_watermark)


@dataclass(frozen=True, slots=True)
class GuestSpec:
    """What one guest is given.

    essa_enabled: False answers every ESSA with an operation exception.
    unused_access_resident_ok: an access to Ur succeeds instead of raising addressing (D8).
    unbacked: pfns without host memory, half-open, ascending; mode `kvm` only.
    """

    name: str
    page_count: int
    vcpu_count: int = 1
    device_count: int = 0
    mode: Mode = Mode.SEED
    essa_enabled: bool = True
    unused_access_resident_ok: bool = False
    unbacked: tuple[range, ...] = ()

    def check(self) -> None:
        """Raise InvalidRequestError for an empty name or sizes out of bounds."""
        if not self.name:
            raise InvalidRequestError("name is empty", field="name")
        _bound("page_count", self.page_count, 1, PAGE_COUNT_MAX)
        _bound("vcpu_count", self.vcpu_count, 1, ISSUER_COUNT_MAX)
        _bound("device_count", self.device_count, 0, ISSUER_COUNT_MAX)
        if self.unbacked and self.mode is not Mode.KVM:
            raise InvalidRequestError("unbacked ranges need mode kvm", field="unbacked")
        for pfns in self.unbacked:
            _bound("unbacked", pfns.start, 0, self.page_count - 1)
            _bound("unbacked", pfns.stop, pfns.start + 1, self.page_count)
            _bound("unbacked", pfns.step, 1, 1)
