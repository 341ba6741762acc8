"""What reclaim would do with each frame, kept up to date with what the guest says.

Rules:
- A candidate's kind follows from its page's state and change bit; whoever gives it a new one of
  either notes that at once. An array of ESSAs does so in its pass.
"""

from __future__ import annotations

from host_daemon.core.guest import Guest
from host_daemon.core.machine import Machine
from host_daemon.core.tables import FLAGS, KIND_SHIFT
from shared.arch import CONTENT_MASK, KEY_CHANGED, STATE_MASK


def kind_of(guest: Guest, pfn: int) -> int:
    """What reclaim would do with this resident page's frame."""
    state = guest.states[pfn] & STATE_MASK
    return guest.tables.kinds[state | (guest.keys[pfn] & KEY_CHANGED) << KIND_SHIFT]


def note(machine: Machine, guest: Guest, pfn: int) -> None:
    """A page's state or change bit is a new one; nothing to do unless it is a candidate."""
    if not guest.states[pfn] & (FLAGS | CONTENT_MASK):
        machine.frames.kinds[guest.location[pfn]] = kind_of(guest, pfn)
