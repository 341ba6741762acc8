"""Block release lists: the freeing of paging slots, gathered per vCPU.

Rules:
- In mode `seed` the state changes at once and the entry alone holds the slot from then on;
  in mode `kvm` the page keeps its slot until the entry is processed, and loses it only if
  it is then still non-resident and unused or zero.
- An entry names a slot and its generation; a drain frees that and nothing newer.
- A list with RELEASE_LIST_MAX entries is drained on the spot.

Models: collaborative block release list handling in arch/s390/kvm (CBRL).
"""

from __future__ import annotations

from array import array
from typing import Final

import numpy as np
from numpy.typing import NDArray

from host_daemon.core import transit
from host_daemon.core.compiled import ESSA_PASS
from host_daemon.core.effects import Stage, StageKind
from host_daemon.core.guest import RELEASE_ENTRY_SIZE, Guest
from host_daemon.core.machine import Machine
from host_daemon.core.tables import FLAGS, IN_TRANSIT, PRESERVED, RESIDENT, ZERO
from shared.arch import CONTENT_MASK, RELEASE_LIST_MAX, USAGE_MASK, Usage

_FULL: Final = RELEASE_LIST_MAX * RELEASE_ENTRY_SIZE


def _stage(guest: Guest, vcpu: int) -> Stage:
    return Stage(StageKind.DRAIN_RELEASE_LIST, guest.number, vcpu)


def entry_count(guest: Guest) -> int:
    """Entries on all the guest's lists."""
    return sum(map(len, guest.releases)) // RELEASE_ENTRY_SIZE


def entry_rows(guest: Guest, vcpu: int) -> NDArray[np.uint32]:
    """One list's entries as rows of pfn, slot, generation; a copy."""
    return np.array(guest.releases[vcpu], dtype=np.uint32).reshape(-1, RELEASE_ENTRY_SIZE)


def add(machine: Machine, guest: Guest, vcpu: int, pfn: int) -> None:
    """Put a page's slot, if it holds one, on the list of the vCPU that gave it up."""
    slot = guest.location[pfn]
    if not slot:
        return
    entries = guest.releases[vcpu]
    if not entries:
        machine.pending[_stage(guest, vcpu)] = None
    entries.extend((pfn, slot, machine.slots.generations[slot]))
    if not guest.tables.copy_outlives_state:
        guest.location[pfn] = 0
    if len(entries) == _FULL:
        drain(machine, guest, vcpu)


def replace(machine: Machine, guest: Guest, vcpu: int, entries: bytes, freed: bytes | None) -> None:
    """What the pass has made of a vCPU's list, as `add` would have, page by page.

    entries: the list now. freed: slots of entries that filled it, where they owned them alone.
    """
    listed = guest.releases[vcpu]
    stage = _stage(guest, vcpu)
    if freed:
        machine.slots.pool.give_many(array("I", freed))
        guest.statistics.released += len(freed) // listed.itemsize
        machine.pending.pop(stage, None)
    if entries:
        machine.pending[stage] = None
    listed[:] = array("I", entries)
    if len(listed) == _FULL:
        drain(machine, guest, vcpu)


def owns_alone(machine: Machine, guest: Guest) -> bool:
    """Whether an entry alone holds its slot, and names it."""
    return machine.config.guards.slot_generation and not guest.tables.copy_outlives_state


def drain(machine: Machine, guest: Guest, vcpu: int) -> None:
    """Process one vCPU's list and leave it empty."""
    entries = guest.releases[vcpu]
    del machine.pending[_stage(guest, vcpu)]
    if ESSA_PASS is not None and owns_alone(machine, guest):
        _free_owned(machine, guest, entries)
    else:
        process = _free_named if machine.config.guards.slot_generation else _free_present
        numbers = iter(entries.tolist())
        for pfn, slot, generation in zip(numbers, numbers, numbers, strict=True):
            process(machine, guest, pfn, slot, generation)
    del entries[:]


def drain_all(machine: Machine) -> None:
    """Process every list of every guest: the paging device is full."""
    for guest in machine.guests.values():
        for vcpu, entries in enumerate(guest.releases):
            if entries:
                drain(machine, guest, vcpu)


def _free_owned(machine: Machine, guest: Guest, entries: array[int]) -> None:
    """Slots that only their entries hold, so that they have the generations named."""
    assert ESSA_PASS is not None
    slots = array("I", bytes(len(entries) // RELEASE_ENTRY_SIZE * entries.itemsize))
    ESSA_PASS.free(entries, machine.slots.generations_view, slots)
    machine.slots.pool.give_many(slots)
    guest.statistics.released += len(slots)


def _free_named(machine: Machine, guest: Guest, pfn: int, slot: int, generation: int) -> None:
    # RACE(R42): by now the page may be in use again, and its content in another slot.
    if machine.slots.generations[slot] != generation:
        return  # mode `kvm`: the page was touched, or queued twice
    if guest.tables.copy_outlives_state:
        state = guest.states[pfn]
        content = state & CONTENT_MASK
        assert guest.location[pfn] == slot
        if content == RESIDENT or (content != ZERO and state & USAGE_MASK != Usage.UNUSED):
            return
        guest.location[pfn] = 0
    machine.slots.free(slot)
    guest.statistics.released += 1


def _free_present(machine: Machine, guest: Guest, pfn: int, slot: int, generation: int) -> None:
    """Guard off: free whatever copy the page has now, as if it were the one named."""
    present = guest.location[pfn] if guest.states[pfn] & CONTENT_MASK != RESIDENT else 0
    if present != slot and machine.slots.generations[slot] == generation:
        machine.slots.free(slot)
        guest.statistics.released += 1
    if not present:
        return
    state = guest.states[pfn]
    if state & IN_TRANSIT:
        transit.drop_page_in(machine, guest, pfn)
    machine.slots.free(present)
    guest.statistics.released += 1
    guest.location[pfn] = 0
    guest.states[pfn] &= ~FLAGS
    # Mode `kvm` has states for a preserved page without a copy; it reads as zeroes. Mode
    # `seed` has none: there the page is logically zero.
    if state & CONTENT_MASK == PRESERVED and not guest.tables.copy_outlives_state:
        guest.states[pfn] |= ZERO
