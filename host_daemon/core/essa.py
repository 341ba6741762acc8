"""One ESSA on one page.

Rules:
- Exceptions come before anything else and in this order: operation, privileged operation,
  specification, addressing. They change nothing.
- The state after comes from the mode's table; this module only moves what hangs on the
  state: the slot given up, the frame's kind, a transfer cancelled.
- Only SET_STABLE_MAKE_RESIDENT can wait.

Models: arch/s390/kvm/priv.c handle_essa and mm/pgtable.c pgste_perform_essa.
"""

from __future__ import annotations

from typing import Final

from host_daemon.core import kinds, reclaim, release, transit
from host_daemon.core.access import bring_in
from host_daemon.core.guest import Guest
from host_daemon.core.machine import Machine
from host_daemon.core.tables import (
    DEPENDS,
    FLAGS,
    IN_TRANSIT,
    MAKE_RESIDENT,
    ORC_COUNT,
    PRESERVED,
    RELEASES,
    RESIDENT,
    UNBACKED,
    ZERO,
)
from shared.arch import (
    CONTENT_MASK,
    KEY_CHANGED,
    RESULT_EXCEPTION,
    STATE_MASK,
    Event,
    InterruptionCode,
    Orc,
)
from shared.commands import Essa, EssaOutcome, MachineCheck, Outcome, ProgramInterruption

OUTCOMES: Final = tuple(EssaOutcome(state) for state in range(32))
INTERRUPTIONS: Final = {code: ProgramInterruption(code) for code in InterruptionCode}


def interruption(guest: Guest, orc: int, pfn: int, *, problem_state: bool) -> int:
    """The exception that this ESSA ends in, or 0."""
    if not guest.spec.essa_enabled:
        return InterruptionCode.OPERATION
    if problem_state:
        return InterruptionCode.PRIVILEGED_OPERATION
    if orc >= ORC_COUNT:
        return InterruptionCode.SPECIFICATION
    if pfn >= guest.page_count:
        return InterruptionCode.ADDRESSING
    return 0


def execute(machine: Machine, guest: Guest, issuer: int, command: Essa) -> Outcome | None:
    """Execute one ESSA; None: parked."""
    orc, pfn = command.orc, command.pfn
    code = interruption(guest, orc, pfn, problem_state=command.problem_state)
    if code:
        return INTERRUPTIONS[InterruptionCode(code)]
    return perform(machine, guest, issuer, orc, pfn)


def perform(machine: Machine, guest: Guest, issuer: int, orc: int, pfn: int) -> Outcome | None:
    """The operation itself, exceptions excluded; None: parked."""
    byte = guest.states[pfn]
    if byte < 16 and orc != MAKE_RESIDENT:
        _transition(machine, guest, issuer, orc, pfn, byte)
        guest.statistics.essa[orc] += 1
        return OUTCOMES[byte]
    outcome = _perform_special(machine, guest, issuer, orc, pfn)
    if isinstance(outcome, EssaOutcome):
        guest.statistics.essa[orc] += 1
    return outcome


def _transition(
    machine: Machine, guest: Guest, issuer: int, orc: int, pfn: int, before: int
) -> None:
    """Apply the table to a page without flags."""
    index = orc << 4 | before
    packed = guest.tables.packed[0][index]
    if packed & DEPENDS and guest.keys[pfn] & KEY_CHANGED:
        packed = guest.tables.packed[1][index]
    if packed == before:
        return
    guest.states[pfn] = packed & STATE_MASK
    if before & CONTENT_MASK == RESIDENT:
        kinds.note(machine, guest, pfn)
    elif packed & RELEASES:
        release.add(machine, guest, issuer, pfn)


def _perform_special(
    machine: Machine, guest: Guest, issuer: int, orc: int, pfn: int
) -> Outcome | None:
    """A page in reclaim, in transit, damaged or without memory; or orc 5 on any page."""
    byte = guest.states[pfn]
    flags, before = byte & FLAGS, byte & STATE_MASK
    if flags & UNBACKED:
        # LINUX: what handle_essa answers for a pfn without a memory slot.
        return OUTCOMES[RESULT_EXCEPTION if orc else 0]
    # CHOICE: GET_STATE has no effect at all: it does not cancel a reclaim or a page-out.
    if orc == Orc.GET_STATE:
        return OUTCOMES[before]
    if before & CONTENT_MASK == RESIDENT:
        if flags:
            reclaim.essa_seen(machine, guest, pfn)
            before = guest.states[pfn]  # what reclaim had made of it already
        _transition(machine, guest, issuer, orc, pfn, before)
        return OUTCOMES[before]
    after = guest.tables.table.rows[bool(guest.keys[pfn] & KEY_CHANGED)][orc][before]
    if after & CONTENT_MASK == RESIDENT:
        frame = bring_in(machine, guest, pfn, after)
        if frame is None or isinstance(frame, MachineCheck):
            return frame
        return OUTCOMES[before]
    if after & CONTENT_MASK != ZERO:
        guest.states[pfn] = flags | after  # the page-in, or the damage, stays
        return OUTCOMES[before]
    if flags & IN_TRANSIT:
        transit.drop_page_in(machine, guest, pfn)
    guest.states[pfn] = before
    _transition(machine, guest, issuer, orc, pfn, before)
    return OUTCOMES[before]


def answer_after_page_in(guest: Guest, seen: int, outcome: Outcome) -> Outcome:
    """What orc 5 reports when it had to wait for its page's copy."""
    # CHOICE: a page that was preserved when orc 5 last waited, and is now what a page-in
    # makes of it, is reported as preserved: that is the state before the operation, of
    # which the page-in is a part. Anything else is reported as it is found.
    arrived = guest.tables.table.rows[0][Event.ACCESS][seen]
    preserved = seen & CONTENT_MASK == PRESERVED
    if preserved and isinstance(outcome, EssaOutcome) and outcome.state == arrived:
        return OUTCOMES[seen]
    return outcome
