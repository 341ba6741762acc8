"""Guests come and go.

Rules:
- Opening reserves a slot for every page, unless paging is overcommitted.
- Closing returns everything but the slots of page-outs that the device has not finished:
  those follow when it has.
"""

from __future__ import annotations

import numpy as np

from host_daemon.core import release
from host_daemon.core.config import GuestSpec
from host_daemon.core.guest import Guest, Transfer
from host_daemon.core.machine import Machine
from host_daemon.core.tables import RESIDENT
from shared.arch import CONTENT_MASK
from shared.errors import GuestExistsError, PagingSpaceError


def open_guest(machine: Machine, spec: GuestSpec) -> int:
    """Take in a guest; returns its id."""
    spec.check()
    if any(guest.spec.name == spec.name for guest in machine.guests.values()):
        raise GuestExistsError(f"a guest named {spec.name} is open", name=spec.name)
    config = machine.config
    left = config.slot_count - machine.reserved
    if spec.page_count > left and not config.overcommit_paging:
        raise PagingSpaceError(
            f"the guest's {spec.page_count} pages need as many paging slots; {left} are left",
            page_count=spec.page_count,
            slots_left=left,
        )
    guest = Guest(machine.guest_count + 1, spec)
    machine.guest_count += 1
    machine.reserved += spec.page_count
    machine.guests[guest.number] = guest
    return guest.number


def close_guest(machine: Machine, guest: Guest) -> None:
    """Forget a guest with all it holds."""
    del machine.guests[guest.number]
    machine.reserved -= guest.page_count
    machine.closed.add(guest.statistics)
    for stage in [stage for stage in machine.pending if stage.guest_id == guest.number]:
        del machine.pending[stage]
    for key in [key for key in machine.parked if key[0] == guest.number]:
        del machine.parked[key]
    for move in guest.moves.values():
        if isinstance(move, Transfer):
            _abandon(machine, move)
    # In mode `kvm` a list's slots are its pages' as well, so they are freed once, by page.
    if not guest.tables.copy_outlives_state:
        for vcpu in range(guest.vcpu_count):
            machine.slots.free_many(release.entry_rows(guest, vcpu)[:, 1])
    resident = guest.states_view & CONTENT_MASK == RESIDENT
    held = np.flatnonzero((guest.location_view != 0) & ~resident)
    machine.slots.free_many(guest.location_view[held])
    owned = (machine.frames.guest_view == guest.number) & (machine.frames.kinds_view > 0)
    for frame in np.flatnonzero(owned).tolist():
        machine.frames.free(frame)


def _abandon(machine: Machine, transfer: Transfer) -> None:
    transfer.live = False
    if transfer.stage is None:
        return
    del machine.operations[transfer.operation]
    if not transfer.frame:
        machine.slots.free(transfer.slot)
