"""One guest as the host sees it: its pages, its faults, its release lists, its counters."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from host_daemon.core.config import GuestSpec
from host_daemon.core.effects import Stage
from host_daemon.core.tables import MODE_TABLES, UNBACKED, ModeTables
from shared.arch import CONTENT_MASK, NOT_DEFINED, ORC_MAX, RAISES_ADDRESSING, Event, Usage
from shared.commands import Command, DiscardFault

RELEASE_ENTRY_SIZE: Final = 3
"""Numbers of one entry of a release list: pfn, slot, and the slot's generation."""


@dataclass(slots=True)
class Statistics:
    """Counters of one guest since it was opened.

    page_ins, page_outs: pages moved. discarded_*: frames dropped by reclaim without a
    write, by usage state. released: paging slots freed by release lists.
    essa: executed ESSAs by orc, exceptions not counted.
    """

    page_ins: int = 0
    page_outs: int = 0
    discarded_unused: int = 0
    discarded_volatile: int = 0
    discarded_potential_volatile: int = 0
    released: int = 0
    discard_faults: int = 0
    machine_checks: int = 0
    io_errors: int = 0
    essa: list[int] = field(default_factory=lambda: [0] * (ORC_MAX + 1))

    def add(self, other: Statistics) -> None:
        """Add another's counters to these."""
        for name in self.__slots__:
            if name != "essa":
                setattr(self, name, getattr(self, name) + getattr(other, name))
        self.essa = [a + b for a, b in zip(self.essa, other.essa, strict=True)]


@dataclass(slots=True)
class Reclaim:
    """A page on its way out, before anything is written.

    changed: the change bit as it was read, or None before that.
    """

    stage: Stage
    access_removed: bool = False
    changed: bool | None = None


@dataclass(slots=True)
class Transfer:
    """One page's move to or from the paging device.

    frame: the page-in's destination, 0 for a page-out. stage: the submission, until it has
    run. live: False once it was cancelled; its completion then only tidies up.
    """

    operation: int
    guest_id: int
    pfn: int
    slot: int
    generation: int
    frame: int
    stage: Stage | None
    live: bool = True


@dataclass(slots=True)
class Parked:
    """A command that waits. seen: the page's state when it was last looked at."""

    command: Command
    seen: int


class Guest:
    """One guest's whole state in the host. Arrays are indexed by pfn.

    states: state and flags (see `tables`); keys: storage keys; location: the frame if the
    page is resident, otherwise the slot that it holds, or 0. `*_view` are the same bytes
    for many pages at a time. moves: the pages in reclaim or in transit. releases: by vCPU,
    RELEASE_ENTRY_SIZE numbers an entry.
    """

    __slots__ = (
        "access",
        "delivered",
        "device_count",
        "fault_count",
        "faults",
        "keys",
        "keys_view",
        "location",
        "location_view",
        "moves",
        "number",
        "open_states",
        "page_count",
        "releases",
        "spec",
        "states",
        "states_view",
        "statistics",
        "tables",
        "vcpu_count",
    )

    def __init__(self, number: int, spec: GuestSpec) -> None:
        self.number = number
        self.spec = spec
        self.page_count = spec.page_count
        self.vcpu_count = spec.vcpu_count
        self.device_count = spec.device_count
        self.tables: ModeTables = MODE_TABLES[spec.mode]
        table = self.tables.table
        self.access = _access_row(table.rows[0][Event.ACCESS], spec)
        self.open_states = bytes(
            state < 16
            and state & CONTENT_MASK == 0
            and self.access[state] not in (NOT_DEFINED, RAISES_ADDRESSING)
            for state in range(256)
        )
        self.states = bytearray([table.untouched]) * spec.page_count
        self.states_view: NDArray[np.uint8] = np.frombuffer(self.states, dtype=np.uint8)
        for pfns in spec.unbacked:
            self.states_view[pfns.start : pfns.stop] |= UNBACKED
        # Zeroes that nobody wrote cost no memory, which bytearray would not give us.
        self.keys_view = np.zeros(spec.page_count, dtype=np.uint8)
        self.keys = self.keys_view.data
        self.location_view = np.zeros(spec.page_count, dtype=np.uint32)
        self.location = self.location_view.data
        self.moves: dict[int, Reclaim | Transfer] = {}
        self.releases = [array("I") for _ in range(spec.vcpu_count)]
        self.faults: dict[int, DiscardFault] = {}
        self.fault_count = 0  # the number of the latest fault
        self.delivered = 0  # the number of the latest fault that was delivered
        self.statistics = Statistics()

    @property
    def issuer_count(self) -> int:
        """vCPUs first, then devices."""
        return self.vcpu_count + self.device_count


def _access_row(row: bytes, spec: GuestSpec) -> bytes:
    """What an access does by state; D8's option opens the resident unused page."""
    if not spec.unused_access_resident_ok:
        return row
    opened = bytearray(row)
    if opened[Usage.UNUSED] == RAISES_ADDRESSING:
        opened[Usage.UNUSED] = Usage.UNUSED
    return bytes(opened)
