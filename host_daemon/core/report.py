"""What operators and tests see of the machine: counters, and the invariants whole."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from host_daemon.core import kinds, reclaim, release
from host_daemon.core.guest import RELEASE_ENTRY_SIZE, Guest, Reclaim, Statistics, Transfer
from host_daemon.core.machine import Machine
from host_daemon.core.parking import waiting_count
from host_daemon.core.tables import (
    DAMAGED,
    FLAGS,
    IN_RECLAIM,
    IN_TRANSIT,
    ORC_COUNT,
    PRESERVED,
    RESIDENT,
    UNBACKED,
    FrameKind,
)
from shared.arch import CONTENT_MASK, RELEASE_LIST_MAX, STATE_MASK, STATE_NAMES


@dataclass(frozen=True, slots=True)
class PagingStatistics:
    """Counters that guests and the host have in common; `Statistics` says what each means."""

    page_ins: int
    page_outs: int
    discarded_unused: int
    discarded_volatile: int
    discarded_potential_volatile: int
    released: int
    discard_faults: int
    machine_checks: int
    io_errors: int
    essa: tuple[int, ...]
    """By orc, 0 to 6."""


class Move(StrEnum):
    """What is going on with a page."""

    NONE = "none"
    RECLAIM = "reclaim"
    PAGE_OUT = "page-out"
    PAGE_IN = "page-in"


@dataclass(frozen=True, slots=True)
class PageDetails:
    """One page: its state and storage key, what is going on with it, and whether its only
    copy is damaged."""

    state: int
    key: int
    move: Move
    damaged: bool


@dataclass(frozen=True, slots=True)
class GuestStatistics:
    """One guest.

    parked: commands that wait. faults_open: discard faults not acknowledged.
    release_entries: slots on its block release lists. resident: its frames.
    """

    paging: PagingStatistics
    parked: int
    faults_open: int
    release_entries: int
    resident: int


@dataclass(frozen=True, slots=True)
class HostStatistics:
    """The host.

    paging: sums over all guests, closed ones included. slots_retired: lost to failed
    writes. waiting_for_frame: parked commands that need a frame when none is free.
    stuck: and no frame is on its way, nor is there anything that could be evicted.
    frames_withheld, slots_withheld: taken away by an operator. frames_unused, slots_unused:
    in nobody's hands, whether they may be given out or are withheld.
    """

    paging: PagingStatistics
    frames: int
    frames_free: int
    frames_unused: int
    slots: int
    slots_free: int
    slots_unused: int
    slots_reserved: int
    slots_retired: int
    parked: int
    waiting_for_frame: int
    stuck: bool
    frames_withheld: int
    slots_withheld: int


def _paging(statistics: Statistics) -> PagingStatistics:
    counters = {name: getattr(statistics, name) for name in statistics.__slots__}
    counters["essa"] = tuple(statistics.essa[:ORC_COUNT])
    return PagingStatistics(**counters)


def counts(guest: Guest) -> dict[str, int]:
    """Pages by state name; the mode's states only, in the table's order."""
    numbers = np.bincount(guest.states_view & np.uint8(STATE_MASK), minlength=16)
    return {STATE_NAMES[state]: int(numbers[state]) for state in guest.tables.table.states}


def page_details(guest: Guest, pfn: int) -> PageDetails:
    """One page now."""
    byte, move = guest.states[pfn], guest.moves.get(pfn)
    if isinstance(move, Transfer):
        doing = Move.PAGE_IN if move.frame else Move.PAGE_OUT
    else:
        doing = Move.NONE if move is None else Move.RECLAIM
    return PageDetails(byte & STATE_MASK, guest.keys[pfn], doing, bool(byte & DAMAGED))


def guest_statistics(machine: Machine, guest: Guest) -> GuestStatistics:
    """One guest's counters now."""
    frames = machine.frames
    owned = (frames.guest_view == guest.number) & (frames.kinds_view != FrameKind.FREE)
    return GuestStatistics(
        paging=_paging(guest.statistics),
        parked=sum(1 for guest_id, _ in machine.parked if guest_id == guest.number),
        faults_open=len(guest.faults),
        release_entries=release.entry_count(guest),
        resident=int(np.count_nonzero(owned)),
    )


def is_stuck(machine: Machine) -> bool:
    """See HostStatistics."""
    if not waiting_count(machine) or machine.frames.busy_count:
        return False
    leaving = any(not transfer.frame for transfer in machine.operations.values())
    return not leaving and not reclaim.has_victim(machine)


def host_statistics(machine: Machine) -> HostStatistics:
    """The host's counters now."""
    total = Statistics()
    total.add(machine.closed)
    for guest in machine.guests.values():
        total.add(guest.statistics)
    frames = machine.frames
    return HostStatistics(
        paging=_paging(total),
        frames=frames.count,
        frames_free=frames.free_count,
        frames_unused=frames.pool.unused_count,
        slots=machine.slots.pool.count,
        slots_free=machine.slots.free_count,
        slots_unused=machine.slots.pool.unused_count,
        slots_reserved=machine.reserved,
        slots_retired=machine.slots.retired_count,
        parked=len(machine.parked),
        waiting_for_frame=waiting_count(machine),
        stuck=is_stuck(machine),
        frames_withheld=frames.pool.withheld,
        slots_withheld=machine.slots.pool.withheld,
    )


def check(machine: Machine) -> None:
    """Assert what must hold between any two inputs, over everything."""
    slots: list[int] = []
    for guest in machine.guests.values():
        slots += _check_guest(machine, guest)
    slots += [t.slot for t in machine.operations.values() if not t.frame]
    assert len(set(slots)) == len(slots), "a slot is held twice"
    generations = machine.slots.generations_view
    assert all(generations[slot] & 1 for slot in slots), "a slot in use is free"
    assert len(slots) == machine.slots.held_count, "a slot is held by nobody"
    frames = machine.frames
    found = frames.kinds_view[1:]
    assert np.count_nonzero(found == FrameKind.FREE) == frames.pool.unused_count
    assert np.count_nonzero(found == FrameKind.BUSY) == frames.busy_count
    assert machine.reserved == sum(guest.page_count for guest in machine.guests.values())
    for stage in machine.pending:
        assert stage.guest_id in machine.guests


def _check_guest(machine: Machine, guest: Guest) -> list[int]:
    """Check one guest; returns the slots that its pages and lists hold."""
    legal = np.frombuffer(guest.tables.legal, dtype=np.uint8)
    assert legal[guest.states_view].all(), "a page is in a state that its mode forbids"
    frames = machine.frames
    slots: list[int] = []
    frame_count = 0
    touched = np.flatnonzero((guest.location_view != 0) | (guest.states_view & FLAGS != 0))
    content = guest.states_view & CONTENT_MASK
    assert not (guest.location_view[content == RESIDENT] == 0).any(), "resident without frame"
    for pfn in touched.tolist():
        byte, location = guest.states[pfn], guest.location[pfn]
        if byte & CONTENT_MASK == RESIDENT:
            frame_count += 1
            assert (frames.guest[location], frames.pfn[location]) == (guest.number, pfn)
            kind = FrameKind.BUSY if byte & FLAGS else kinds.kind_of(guest, pfn)
            assert frames.kinds[location] == kind, "a frame's kind is out of date"
        elif location:
            slots.append(location)
        frame_count += _check_move(guest, pfn)
    owned = (frames.guest_view == guest.number) & (frames.kinds_view != FrameKind.FREE)
    assert np.count_nonzero(owned) == frame_count, "a frame is owned by no page"
    if not guest.tables.copy_outlives_state:
        holders = (content == PRESERVED) == (guest.location_view != 0)
        assert holders[content != RESIDENT].all(), "a slot without a preserved page"
        for vcpu in range(guest.vcpu_count):
            slots += release.entry_rows(guest, vcpu)[:, 1].tolist()
    full = RELEASE_LIST_MAX * RELEASE_ENTRY_SIZE
    assert all(len(entries) < full for entries in guest.releases)
    return slots


def _check_move(guest: Guest, pfn: int) -> int:
    """Check that flags and moves agree; returns the frames that a page-in holds."""
    byte, move = guest.states[pfn], guest.moves.get(pfn)
    if isinstance(move, Transfer):
        assert byte & FLAGS == IN_TRANSIT
        assert move.live
        assert bool(move.frame) == (byte & CONTENT_MASK == PRESERVED)
        assert not move.frame or move.slot == guest.location[pfn]
        return int(bool(move.frame))
    if isinstance(move, Reclaim):
        assert byte & FLAGS == IN_RECLAIM
    else:
        assert byte & FLAGS in (0, DAMAGED, UNBACKED)
    return 0
