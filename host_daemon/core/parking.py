"""Commands that wait: when is it worth looking at one again?

Rules:
- Whether a parked command could go on is read off its page, the free frames and the fault
  queue as they are now; nobody has to remember to wake it.
"""

from __future__ import annotations

from host_daemon.core.faults import FAULTS_MAX
from host_daemon.core.guest import Guest
from host_daemon.core.machine import Machine
from host_daemon.core.tables import DAMAGED, IN_TRANSIT, RESIDENT, UNBACKED
from shared.arch import (
    CONTENT_MASK,
    RAISES_ADDRESSING,
    RAISES_DISCARD_FAULT,
    STATE_MASK,
)
from shared.commands import Command, Essa, EssaArray


def can_resume(machine: Machine, guest: Guest, issuer: int, command: Command) -> bool:
    """Whether executing the command now would end it or get it further."""
    byte, needs_frame = _look(guest, command)
    if needs_frame:
        return not byte & IN_TRANSIT and machine.frames.free_count > 0
    if isinstance(command, Essa) or issuer >= guest.vcpu_count:
        return True
    faulting = guest.access[byte & STATE_MASK] == RAISES_DISCARD_FAULT
    return not faulting or len(guest.faults) < FAULTS_MAX


def waiting_count(machine: Machine) -> int:
    """Parked commands that wait for a frame and nothing else."""
    if not machine.parked or machine.frames.free_count:
        return 0
    waiting = 0
    for (guest_id, _), parked in machine.parked.items():
        byte, needs_frame = _look(machine.guests[guest_id], parked.command)
        waiting += needs_frame and not byte & IN_TRANSIT
    return waiting


def _look(guest: Guest, command: Command) -> tuple[int, bool]:
    """The page's state byte, and whether the command needs it to become resident."""
    assert not isinstance(command, EssaArray)
    byte = guest.states[command.pfn]
    if byte & CONTENT_MASK == RESIDENT or byte & (UNBACKED | DAMAGED):
        return byte, False
    if isinstance(command, Essa):
        return byte, True  # only orc 5 is ever parked, and only in mode `seed`
    refused = (RAISES_ADDRESSING, RAISES_DISCARD_FAULT)
    return byte, guest.access[byte & STATE_MASK] not in refused
