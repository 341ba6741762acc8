"""Discard faults: numbered per guest, delivered in order, kept until acknowledged.

Rules:
- At most one delivery stage per guest is pending: that of the lowest fault not delivered.
- A guest that lets FAULTS_MAX faults go unacknowledged waits before it gets another; the
  access stays parked meanwhile.
"""

from __future__ import annotations

from typing import Final

from host_daemon.core.effects import DeliverFault, Noticed, Stage, StageKind
from host_daemon.core.guest import Guest
from host_daemon.core.machine import Machine
from shared.arch import PAGE_SHIFT
from shared.commands import DiscardFault
from shared.errors import InvalidRequestError
from shared.events import EventKind

FAULTS_MAX: Final = 4096


def _notice(machine: Machine, guest: Guest, kind: EventKind, fault: DiscardFault) -> None:
    if machine.watched:
        pfn = fault.address >> PAGE_SHIFT
        noticed = Noticed(kind, guest.number, pfn, vcpu=fault.vcpu, fault=fault.number)
        machine.effects.append(noticed)


def _next(guest: Guest) -> Stage | None:
    number = next((n for n in guest.faults if n > guest.delivered), None)
    return None if number is None else Stage(StageKind.DELIVER_FAULT, guest.number, number)


def raise_fault(machine: Machine, guest: Guest, vcpu: int, pfn: int) -> int:
    """Queue a discard fault; returns its number, or 0 if the guest has too many open."""
    if len(guest.faults) >= FAULTS_MAX:
        return 0
    pending = _next(guest)
    guest.fault_count += 1
    number = guest.fault_count
    guest.faults[number] = DiscardFault(number, vcpu, pfn << PAGE_SHIFT)
    guest.statistics.discard_faults += 1
    _notice(machine, guest, EventKind.DISCARD_FAULT_RAISED, guest.faults[number])
    if pending is None:
        machine.pending[Stage(StageKind.DELIVER_FAULT, guest.number, number)] = None
    return number


def deliver(machine: Machine, guest: Guest, number: int) -> None:
    """Send the lowest fault that was not delivered."""
    stage = _next(guest)
    assert stage is not None
    assert stage.number == number
    del machine.pending[stage]
    machine.effects.append(DeliverFault(guest.number, guest.faults[number]))
    _notice(machine, guest, EventKind.DISCARD_FAULT_DELIVERED, guest.faults[number])
    guest.delivered = number
    following = _next(guest)
    if following is not None:
        machine.pending[following] = None


def acknowledge(machine: Machine, guest: Guest, number: int) -> None:
    """Forget a fault; one that was acknowledged before is none.

    Raises InvalidRequestError for a number that no fault has had.
    """
    if not 0 < number <= guest.fault_count:
        raise InvalidRequestError(
            f"fault is {number}; the latest is {guest.fault_count}",
            field="fault",
            value=number,
            high=guest.fault_count,
        )
    before = _next(guest)
    fault = guest.faults.pop(number, None)
    if fault is not None:
        _notice(machine, guest, EventKind.DISCARD_FAULT_ACKNOWLEDGED, fault)
    _renew(machine, guest, before)


def redeliver(machine: Machine, guest: Guest) -> None:
    """Deliver everything unacknowledged again: the guest has a new stream."""
    before = _next(guest)
    if machine.config.guards.redeliver_faults:
        guest.delivered = 0
    _renew(machine, guest, before)


def _renew(machine: Machine, guest: Guest, before: Stage | None) -> None:
    after = _next(guest)
    if after == before:
        return
    if before is not None:
        del machine.pending[before]
    if after is not None:
        machine.pending[after] = None
