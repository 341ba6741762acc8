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

import numpy as np
from numpy.typing import NDArray

from host_daemon.core import transit
from host_daemon.core.effects import Stage, StageKind
from host_daemon.core.guest import Guest, ReleaseEntry
from host_daemon.core.machine import Machine
from host_daemon.core.tables import FLAGS, IN_TRANSIT, PRESERVED, RESIDENT, ZERO
from shared.arch import CONTENT_MASK, RELEASE_LIST_MAX, USAGE_MASK, Usage


def _stage(guest: Guest, vcpu: int) -> Stage:
    return Stage(StageKind.DRAIN_RELEASE_LIST, guest.number, vcpu)


def add(machine: Machine, guest: Guest, vcpu: int, pfn: int) -> None:
    """Put a page's slot, if it holds one, on the list of the vCPU that gave it up."""
    slot = guest.location[pfn]
    if not slot:
        return
    entries = guest.releases[vcpu]
    if not entries:
        machine.pending[_stage(guest, vcpu)] = None
    entries.append((pfn, slot, machine.slots.generations[slot]))
    if not guest.tables.copy_outlives_state:
        guest.location[pfn] = 0
    if len(entries) == RELEASE_LIST_MAX:
        drain(machine, guest, vcpu)


def add_many(machine: Machine, guest: Guest, vcpu: int, pfns: NDArray[np.uint32]) -> None:
    """The same as `add` for each page in order; their states are already what comes after.

    Needs guard slot_generation, without which a drain changes pages. In mode `seed` every
    one of the pages holds a slot.
    """
    assert machine.config.guards.slot_generation
    if guest.tables.copy_outlives_state:
        for pfn in pfns.tolist():
            add(machine, guest, vcpu, pfn)
        return
    slots = guest.location_view[pfns]
    guest.location_view[pfns] = 0
    generations = machine.slots.generations_view[slots]
    entries = guest.releases[vcpu]
    stage = _stage(guest, vcpu)
    total = len(entries) + len(pfns)
    kept = total % RELEASE_LIST_MAX
    if total >= RELEASE_LIST_MAX:
        # The oldest go first, as if the list had been drained each time it was full.
        if entries:
            drain(machine, guest, vcpu)
        drained = len(pfns) - kept
        machine.slots.free_many(slots[:drained])
        guest.statistics.released += drained
        pfns, slots, generations = pfns[drained:], slots[drained:], generations[drained:]
    if kept and not entries:
        machine.pending[stage] = None
    entries.extend(zip(pfns.tolist(), slots.tolist(), generations.tolist(), strict=True))


def drain(machine: Machine, guest: Guest, vcpu: int) -> None:
    """Process one vCPU's list and leave it empty."""
    entries = guest.releases[vcpu]
    del machine.pending[_stage(guest, vcpu)]
    named_only = machine.config.guards.slot_generation
    for entry in entries:
        if named_only:
            _free_named(machine, guest, entry)
        else:
            _free_present(machine, guest, entry)
    entries.clear()


def drain_all(machine: Machine) -> None:
    """Process every list of every guest: the paging device is full."""
    for guest in machine.guests.values():
        for vcpu, entries in enumerate(guest.releases):
            if entries:
                drain(machine, guest, vcpu)


def _free_named(machine: Machine, guest: Guest, entry: ReleaseEntry) -> None:
    # RACE(R42): by now the page may be in use again, and its content in another slot.
    pfn, slot, generation = entry
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


def _free_present(machine: Machine, guest: Guest, entry: ReleaseEntry) -> None:
    """Guard off: free whatever copy the page has now, as if it were the one named."""
    pfn, slot, generation = entry
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
