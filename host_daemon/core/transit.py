"""Pages on their way to or from the paging device.

Rules:
- Page-out: the page stays what it was, readable in its frame, until the write is done. A
  store or an ESSA meanwhile cancels it. The slot is held until the late completion and
  only then freed, so that no other page's write can meet the old one.
- Page-in: the page stays preserved until the read is done. What gives the content up
  drops the page-in; the frame is free at once and the completion is ignored.
- A copy that cannot be read leaves the page preserved and DAMAGED.
"""

from __future__ import annotations

from host_daemon.core.effects import Noticed, PageIn, PageOut, Stage, StageKind
from host_daemon.core.guest import Guest, Transfer
from host_daemon.core.kinds import kind_of
from host_daemon.core.machine import Machine
from host_daemon.core.tables import DAMAGED, FLAGS, IN_TRANSIT, PRESERVED
from shared.arch import STATE_MASK, USAGE_MASK, Event
from shared.events import EventKind


def _begin(machine: Machine, guest: Guest, pfn: int, slot: int, frame: int) -> None:
    kind = StageKind.SUBMIT_PAGE_IN if frame else StageKind.SUBMIT_PAGE_OUT
    transfer = Transfer(
        operation=machine.next_operation(),
        guest_id=guest.number,
        pfn=pfn,
        slot=slot,
        generation=machine.slots.generations[slot],
        frame=frame,
        stage=Stage(kind, guest.number, pfn),
    )
    guest.moves[pfn] = transfer
    machine.operations[transfer.operation] = transfer
    assert transfer.stage is not None
    machine.pending[transfer.stage] = None
    guest.states[pfn] |= IN_TRANSIT


def begin_page_in(machine: Machine, guest: Guest, pfn: int, frame: int) -> None:
    """Start to fetch a preserved page's copy into a BUSY frame of its own."""
    assert guest.states[pfn] & ~USAGE_MASK == PRESERVED
    _begin(machine, guest, pfn, guest.location[pfn], frame)


def begin_page_out(machine: Machine, guest: Guest, pfn: int, slot: int) -> None:
    """Start to write a resident page, whose frame is BUSY, to a slot just taken."""
    assert guest.states[pfn] & ~USAGE_MASK == 0
    _begin(machine, guest, pfn, slot, frame=0)


def submit(machine: Machine, guest: Guest, pfn: int) -> None:
    """Hand the page's transfer to the paging device."""
    transfer = guest.moves[pfn]
    assert isinstance(transfer, Transfer)
    assert transfer.stage is not None
    del machine.pending[transfer.stage]
    transfer.stage = None
    operation, slot, generation = transfer.operation, transfer.slot - 1, transfer.generation
    if transfer.frame:
        machine.effects.append(PageIn(operation, slot, generation))
    else:
        data = machine.frames.content(guest.location[pfn])
        machine.effects.append(PageOut(operation, slot, generation, data))


def _cancel(machine: Machine, guest: Guest, pfn: int) -> Transfer:
    """Detach a transfer from its page; one that was submitted keeps its operation."""
    transfer = guest.moves.pop(pfn)
    assert isinstance(transfer, Transfer)
    guest.states[pfn] &= ~FLAGS
    transfer.live = False
    if transfer.stage is not None:
        del machine.pending[transfer.stage]
        del machine.operations[transfer.operation]
    return transfer


def cancel_page_out(machine: Machine, guest: Guest, pfn: int) -> None:
    """The page was changed, or its attributes were: what was written is worth nothing."""
    transfer = _cancel(machine, guest, pfn)
    if transfer.stage is not None:
        machine.slots.free(transfer.slot)
    machine.frames.settle(guest.location[pfn], kind_of(guest, pfn))


def drop_page_in(machine: Machine, guest: Guest, pfn: int) -> None:
    """The page's content was given up while it was being fetched."""
    machine.frames.free(_cancel(machine, guest, pfn).frame)


def _notice(machine: Machine, guest: Guest, kind: EventKind, pfn: int, before: int) -> None:
    if machine.watched:
        after = guest.states[pfn] & STATE_MASK
        machine.effects.append(Noticed(kind, guest.number, pfn, before=before, after=after))


def finish_page_out(machine: Machine, operation: int, *, ok: bool) -> None:
    """The device has written the page, or could not."""
    transfer = machine.operations.pop(operation)
    assert transfer.live
    assert transfer.stage is None, f"operation {operation} was never submitted"
    guest, pfn = machine.guests[transfer.guest_id], transfer.pfn
    del guest.moves[pfn]
    frame = guest.location[pfn]
    guest.states[pfn] &= STATE_MASK
    # CHOICE: a slot whose write failed is taken out of use until the host is restarted.
    before = guest.states[pfn]
    if not ok:
        machine.slots.retire(transfer.slot)
        machine.frames.settle(frame, kind_of(guest, pfn))
        _notice(machine, guest, EventKind.PAGE_OUT_FAILED, pfn, before)
        return
    assert machine.slots.generations[transfer.slot] == transfer.generation
    guest.states[pfn] |= PRESERVED
    guest.location[pfn] = transfer.slot
    guest.statistics.page_outs += 1
    machine.frames.free(frame)
    _notice(machine, guest, EventKind.PAGE_OUT_DONE, pfn, before)


def finish_page_in(machine: Machine, operation: int, data: bytes | None) -> None:
    """The device has read the page, or found it damaged (None)."""
    transfer = machine.operations.pop(operation)
    assert transfer.live
    assert transfer.stage is None, f"operation {operation} was never submitted"
    guest, pfn, frame = machine.guests[transfer.guest_id], transfer.pfn, transfer.frame
    del guest.moves[pfn]
    state = guest.states[pfn] & STATE_MASK
    if data is None:
        guest.states[pfn] = state | DAMAGED
        machine.frames.free(frame)
        _notice(machine, guest, EventKind.PAGE_IN_FAILED, pfn, state)
        return
    assert guest.location[pfn] == transfer.slot
    machine.frames.fill(frame, data)
    machine.slots.free(transfer.slot)
    guest.location[pfn] = frame
    guest.states[pfn] = guest.tables.table.rows[0][Event.ACCESS][state]
    guest.statistics.page_ins += 1
    machine.frames.settle(frame, kind_of(guest, pfn))
    _notice(machine, guest, EventKind.PAGE_IN_DONE, pfn, state)


def finish_cancelled(machine: Machine, operation: int, *, ok: bool) -> None:
    """The late completion of a transfer that was cancelled or dropped: tidy up only."""
    transfer = machine.operations.pop(operation)
    assert not transfer.live
    if transfer.frame:
        return
    if ok:
        machine.slots.free(transfer.slot)
    else:
        machine.slots.retire(transfer.slot)


def restart(machine: Machine) -> None:
    """The paging device has forgotten what was in flight: submit it anew, or tidy up.

    For a process that resumes from a checkpoint taken with transfers under way.
    """
    for transfer in list(machine.operations.values()):
        if transfer.stage is not None:
            continue
        if transfer.live:
            kind = StageKind.SUBMIT_PAGE_IN if transfer.frame else StageKind.SUBMIT_PAGE_OUT
            transfer.stage = Stage(kind, transfer.guest_id, transfer.pfn)
            machine.pending[transfer.stage] = None
        else:
            finish_cancelled(machine, transfer.operation, ok=True)
