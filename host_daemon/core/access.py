"""Loads, stores and device transfers, and the storage key instructions.

Rules:
- What an access does in a state comes from the ACCESS row of the mode's table.
- An access that has to wait for a frame or for the paging device returns None: it is
  parked, and looked at from scratch later. Nothing of it has happened yet, but for a
  page-in that it may have begun.
- A store sets R and C of the storage key, a load R. A device's transfer does the same, and
  ends in an I/O error where a vCPU would get an exception or a discard fault.
"""

from __future__ import annotations

from typing import Final

from host_daemon.core import faults, kinds, reclaim, transit
from host_daemon.core.effects import Noticed
from host_daemon.core.guest import Guest, Reclaim
from host_daemon.core.machine import Machine
from host_daemon.core.tables import (
    DAMAGED,
    IN_TRANSIT,
    PRESERVED,
    RESIDENT,
    UNBACKED,
)
from shared.arch import (
    CONTENT_MASK,
    KEY_CHANGED,
    KEY_REFERENCED,
    PAGE_SHIFT,
    PAGE_SIZE,
    RAISES_ADDRESSING,
    RAISES_DISCARD_FAULT,
    STATE_MASK,
    InterruptionCode,
)
from shared.commands import (
    DONE,
    DeviceLoad,
    DeviceStore,
    Done,
    FaultPending,
    IoError,
    Iske,
    KeyOutcome,
    Load,
    LoadOutcome,
    MachineCheck,
    Outcome,
    ProgramInterruption,
    Rrbe,
    Sske,
    Store,
)
from shared.events import EventKind

UNIT: Final = 32
"""Loads that repeat their first 32 bytes are answered with those and a count."""

_RC: Final = KEY_REFERENCED | KEY_CHANGED
ADDRESSING: Final = ProgramInterruption(InterruptionCode.ADDRESSING)
MACHINE_CHECK: Final = MachineCheck()
_IO_ERROR: Final = IoError()
_KEY_OUTCOMES: Final = tuple(KeyOutcome(key) for key in range(256))


def load(machine: Machine, guest: Guest, issuer: int, command: Load) -> Outcome | None:
    """Fetch bytes of one page."""
    pfn, offset, length = command.pfn, command.offset, command.length
    assert offset + length <= PAGE_SIZE
    frame = _reach(machine, guest, issuer, pfn, command)
    if not isinstance(frame, int):
        return frame
    guest.keys[pfn] |= KEY_REFERENCED
    machine.frames.touch(frame)
    start = (frame << PAGE_SHIFT) + offset
    data = bytes(machine.frames.memory[start : start + length])
    if length > UNIT and not length % UNIT:
        unit = data[:UNIT]
        repeat = length // UNIT
        if unit * repeat == data:
            return LoadOutcome(unit, repeat)
    return LoadOutcome(data)


def store(machine: Machine, guest: Guest, issuer: int, command: Store) -> Outcome | None:
    """Replace bytes of one page."""
    pfn, offset = command.pfn, command.offset
    data = command.data * command.repeat
    assert offset + len(data) <= PAGE_SIZE
    frame = _reach(machine, guest, issuer, pfn, command)
    if not isinstance(frame, int):
        return frame
    key = guest.keys[pfn]
    if key & _RC != _RC:
        guest.keys[pfn] = key | _RC
        kinds.note(machine, guest, pfn)
    machine.frames.touch(frame)
    start = (frame << PAGE_SHIFT) + offset
    machine.frames.memory[start : start + len(data)] = data
    return DONE


def _reach(
    machine: Machine, guest: Guest, issuer: int, pfn: int, command: Load | Store
) -> int | Outcome | None:
    """The page's frame; or how the access ends; or None: it is parked."""
    if pfn < guest.page_count and guest.open_states[guest.states[pfn]]:
        return guest.location[pfn]
    device = isinstance(command, DeviceLoad | DeviceStore)
    outcome = _refusal(machine, guest, issuer, pfn, device=device)
    if outcome is not None:
        if isinstance(outcome, IoError):
            guest.statistics.io_errors += 1
        return outcome
    byte = guest.states[pfn]
    entry = guest.access[byte & STATE_MASK]
    if entry == RAISES_DISCARD_FAULT:
        return None  # too many faults are open
    if byte & CONTENT_MASK != RESIDENT:
        return bring_in(machine, guest, pfn, entry)
    if isinstance(command, Store):
        reclaim.store_seen(machine, guest, pfn)
    return guest.location[pfn]


def _refusal(
    machine: Machine, guest: Guest, issuer: int, pfn: int, *, device: bool
) -> Outcome | None:
    """The exception, fault or I/O error in which an access to the page ends, if any."""
    if pfn >= guest.page_count or guest.states[pfn] & UNBACKED:
        return _IO_ERROR if device else ADDRESSING
    entry = guest.access[guest.states[pfn] & STATE_MASK]
    if entry == RAISES_ADDRESSING:
        return _IO_ERROR if device else ADDRESSING
    if entry == RAISES_DISCARD_FAULT:
        if device:
            return _IO_ERROR
        fault = faults.raise_fault(machine, guest, issuer, pfn)
        return FaultPending(fault) if fault else None
    return None


def bring_in(machine: Machine, guest: Guest, pfn: int, after: int) -> int | MachineCheck | None:
    """Make a non-resident page resident in state `after`, zeroed; or begin its page-in.

    Returns the frame; MachineCheck if the copy is damaged; None if there is no free frame
    or the page-in is under way.
    """
    byte = guest.states[pfn]
    assert byte & CONTENT_MASK != RESIDENT
    if byte & DAMAGED:
        guest.statistics.machine_checks += 1
        if machine.watched:
            machine.effects.append(Noticed(EventKind.MACHINE_CHECK, guest.number, pfn))
        return MACHINE_CHECK
    if byte & IN_TRANSIT:
        return None
    frame = machine.frames.take(guest.number, pfn)
    if not frame:
        return None
    slot = guest.location[pfn]
    if slot and byte & CONTENT_MASK == PRESERVED:
        transit.begin_page_in(machine, guest, pfn, frame)
        return None
    # CHOICE: a page in state z reads as zeroes even where mode `kvm` has not yet freed its
    # slot; the architecture allows the old bytes too.
    if slot:
        machine.slots.free(slot)
    machine.frames.fill(frame)
    guest.location[pfn] = frame
    guest.states[pfn] = after
    machine.frames.settle(frame, kinds.kind_of(guest, pfn))
    return frame


def _keyless(guest: Guest, pfn: int) -> bool:
    return pfn >= guest.page_count or bool(guest.states[pfn] & UNBACKED)


def insert_key(_machine: Machine, guest: Guest, _issuer: int, command: Iske) -> Outcome:
    """ISKE: legal in every state."""
    if _keyless(guest, command.pfn):
        return ADDRESSING
    return _KEY_OUTCOMES[guest.keys[command.pfn]]


def set_key(machine: Machine, guest: Guest, _issuer: int, command: Sske) -> Done | Outcome:
    """SSKE: replaces the whole key. A clean potential volatile page may go at once."""
    pfn = command.pfn
    if _keyless(guest, pfn):
        return ADDRESSING
    guest.keys[pfn] = command.key
    if isinstance(guest.moves.get(pfn), Reclaim):
        reclaim.store_seen(machine, guest, pfn)  # C may have changed since it was read
    kinds.note(machine, guest, pfn)
    return DONE


def reset_reference(_machine: Machine, guest: Guest, _issuer: int, command: Rrbe) -> Outcome:
    """RRBE: answers the key as it was."""
    pfn = command.pfn
    if _keyless(guest, pfn):
        return ADDRESSING
    key = guest.keys[pfn]
    guest.keys[pfn] = key & ~KEY_REFERENCED
    return _KEY_OUTCOMES[key]
