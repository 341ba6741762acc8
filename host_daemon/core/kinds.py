"""What reclaim would do with each frame, kept up to date with what the guest says.

Rules:
- A frame's kind follows from its page's state and change bit. One page's change is noted at
  once. An array's is not: its pages are put by, and looked at when somebody asks.
- Whoever reads kinds other than FREE and BUSY calls `bring_up_to_date` first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from host_daemon.core.guest import Guest
from host_daemon.core.machine import Machine
from host_daemon.core.tables import FLAGS, KIND_SHIFT, FrameKind
from shared.arch import CONTENT_MASK, KEY_CHANGED, STATE_MASK

_NOT_CANDIDATE = np.uint8(FLAGS | CONTENT_MASK)


def kind_of(guest: Guest, pfn: int) -> int:
    """What reclaim would do with this resident page's frame."""
    state = guest.states[pfn] & STATE_MASK
    return guest.tables.kinds[state | (guest.keys[pfn] & KEY_CHANGED) << KIND_SHIFT]


def note(machine: Machine, guest: Guest, pfn: int) -> None:
    """A page's state or change bit is a new one; nothing to do unless it is a candidate."""
    if not guest.states[pfn] & (FLAGS | CONTENT_MASK):
        machine.frames.kinds[guest.location[pfn]] = kind_of(guest, pfn)


def put_by(machine: Machine, guest: Guest, pfns: NDArray[np.intp]) -> None:
    """Any of these pages may have a new state; `pfns` is kept and must not change."""
    if machine.all_put_by:
        return
    machine.put_by.append((guest, pfns))
    machine.put_by_count += len(pfns)
    if machine.put_by_count > machine.frames.count:
        # To look at every frame costs less, and this bounds what is put by.
        machine.put_by.clear()
        machine.all_put_by = True


def forget(machine: Machine, guest: Guest) -> None:
    """Drop what was put by of a guest that is being closed."""
    machine.put_by = [entry for entry in machine.put_by if entry[0] is not guest]


def bring_up_to_date(machine: Machine) -> None:
    """Look at the pages that were put by, as they are now."""
    if machine.all_put_by:
        frames = machine.frames
        candidates = np.flatnonzero(frames.kinds_view > FrameKind.BUSY)
        owners = frames.guest_view[candidates]
        for guest in machine.guests.values():
            _look_at(machine, guest, frames.pfn_view[candidates[owners == guest.number]])
        machine.all_put_by = False
    for guest, pfns in machine.put_by:
        _look_at(machine, guest, pfns)
    machine.put_by.clear()
    machine.put_by_count = 0


def _look_at(machine: Machine, guest: Guest, pfns: NDArray[np.integer]) -> None:
    states = guest.states_view[pfns]
    candidates = np.flatnonzero(states & _NOT_CANDIDATE == 0)
    pfns, states = pfns[candidates], states[candidates]
    changed = guest.keys_view[pfns] & np.uint8(KEY_CHANGED)
    kinds = guest.tables.kinds_view[states | changed << np.uint8(KIND_SHIFT)]
    machine.frames.kinds_view[guest.location_view[pfns]] = kinds
