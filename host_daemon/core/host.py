"""The host machine as its shells see it: inputs in, one at a time; effects out.

Rules:
- Every method is atomic and deterministic. Nothing here waits, reads a clock or draws a
  random number.
- A raise leaves everything as it was: foreign input is checked before anything is written.
  An AssertionError is the host's own bug.
- After every input the pages that it touched are in a state that their mode admits.
- A shell drains `take_effects` after every input.

Models: z/VM's and KVM's side of guest page hinting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from host_daemon.core import access, essa, essa_array, faults, reclaim, release, report, transit
from host_daemon.core import snapshot as snapshots
from host_daemon.core.config import Choices, GuestSpec, HostConfig
from host_daemon.core.effects import CHOOSE_VICTIM, Completed, Effect, Stage, StageKind
from host_daemon.core.guest import Guest, Parked
from host_daemon.core.machine import Machine, make_machine
from host_daemon.core.opening import close_guest, open_guest
from host_daemon.core.parking import can_resume, waiting_count
from host_daemon.core.pressure import withhold
from host_daemon.core.refusals import check_pfn, wrong_issuer
from host_daemon.core.tables import FLAGS, RESIDENT
from host_daemon.core.tracing import Tracer
from shared.arch import CONTENT_MASK, STATE_MASK
from shared.commands import (
    Command,
    DeviceLoad,
    DeviceStore,
    Essa,
    EssaArray,
    Iske,
    Load,
    Outcome,
    Rrbe,
    Sske,
    Store,
)
from shared.errors import GuestNotFoundError

Handler = Callable[[Machine, Guest, int, Any], Outcome | None]

_VCPU_HANDLERS: Final[Mapping[type, Handler]] = {
    Essa: essa.execute,
    EssaArray: essa_array.execute,
    Load: access.load,
    Store: access.store,
    Iske: access.insert_key,
    Sske: access.set_key,
    Rrbe: access.reset_reference,
}
_DEVICE_HANDLERS: Final[Mapping[type, Handler]] = {
    DeviceLoad: access.load,
    DeviceStore: access.store,
}
_PAGE_STAGES: Final = {
    StageKind.SUBMIT_PAGE_IN: transit.submit,
    StageKind.SUBMIT_PAGE_OUT: transit.submit,
    StageKind.REMOVE_ACCESS: reclaim.remove_access,
    StageKind.READ_CHANGE_BIT: reclaim.read_change_bit,
    StageKind.COMMIT: reclaim.commit,
    StageKind.DRAIN_RELEASE_LIST: release.drain,
    StageKind.DELIVER_FAULT: faults.deliver,
}


class Host:
    """One host with its guests. Not shared between threads."""

    __slots__ = ("_machine", "_tracer")

    def __init__(self, config: HostConfig, choices: Choices) -> None:
        """Raises InvalidRequestError for sizes that make no sense or an unknown policy."""
        self._machine = make_machine(config, choices)
        self._tracer: Tracer | None = None

    @property
    def config(self) -> HostConfig:
        """What the host was made from."""
        return self._machine.config

    # Guests

    def open_guest(self, spec: GuestSpec) -> int:
        """Take in a guest; returns its id, from 1 and never used again.

        Raises InvalidRequestError, GuestExistsError for a name in use, PagingSpaceError if
        the paging device could not hold all its pages (unless paging is overcommitted).
        """
        return open_guest(self._machine, spec)

    def close_guest(self, guest_id: int) -> None:
        """Forget a guest with all it holds, its parked commands included."""
        close_guest(self._machine, self._guest(guest_id))

    def guest_ids(self) -> list[int]:
        """Open guests, ascending."""
        return list(self._machine.guests)

    def guest_spec(self, guest_id: int) -> GuestSpec:
        """What the guest was given."""
        return self._guest(guest_id).spec

    # Commands

    def execute(self, guest_id: int, issuer: int, command: Command) -> Outcome | None:
        """Execute a command that has passed its `check()`. None: parked; Completed comes later.

        Issuers are vCPUs first, then devices. A new command of an issuer displaces one that
        is still parked. Raises GuestNotFoundError, InvalidRequestError.
        """
        machine = self._machine
        guest = machine.guests.get(guest_id)
        if guest is None:
            guest = self._guest(guest_id)
        handlers = _VCPU_HANDLERS if issuer < guest.vcpu_count else _DEVICE_HANDLERS
        handler = handlers.get(type(command))
        if handler is None or not 0 <= issuer < guest.issuer_count:
            raise wrong_issuer(guest, issuer, command)
        if machine.parked:
            machine.parked.pop((guest_id, issuer), None)
        if self._tracer is not None:
            self._tracer.before(guest, command)
        outcome = handler(machine, guest, issuer, command)
        if outcome is None:
            self._park(guest, issuer, command)
        if type(command) is not EssaArray:
            self._assert_legal(guest, command.pfn)  # type: ignore[union-attr]
        if self._tracer is not None:
            self._tracer.after(machine, guest, type(command).__name__.lower(), issuer)
        return outcome

    def _park(self, guest: Guest, issuer: int, command: Command) -> None:
        assert not isinstance(command, EssaArray)
        seen = guest.states[command.pfn] & STATE_MASK
        self._machine.parked[guest.number, issuer] = Parked(command, seen)

    def _assert_legal(self, guest: Guest, pfn: int) -> None:
        if pfn < guest.page_count:
            byte = guest.states[pfn]
            assert guest.tables.legal[byte], f"guest {guest.number} pfn {pfn} is in {byte:#04x}"

    # Discard faults

    def acknowledge_fault(self, guest_id: int, number: int) -> None:
        """The guest has settled a discard fault. Doing it twice is harmless.

        Raises GuestNotFoundError, InvalidRequestError for a number that no fault has had.
        """
        faults.acknowledge(self._machine, self._guest(guest_id), number)

    def redeliver_faults(self, guest_id: int) -> None:
        """Deliver all unacknowledged faults again. Raises GuestNotFoundError."""
        faults.redeliver(self._machine, self._guest(guest_id))

    # The host's own work

    def begin_eviction(self, guest_id: int, pfn: int) -> bool:
        """Name a victim. False if the page is not resident or is being reclaimed already.

        Raises GuestNotFoundError, InvalidRequestError for a pfn outside the guest.
        """
        guest = self._guest(guest_id)
        check_pfn(guest, pfn)
        if guest.states[pfn] & (FLAGS | CONTENT_MASK) != RESIDENT:
            return False
        self._observed(guest, pfn, "begin_eviction", reclaim.begin)
        return True

    def enabled(self) -> list[Stage]:
        """The stages that could run now, in an order that depends on the past alone."""
        stages = self.enabled_stages()
        if self.has_victim():
            stages.append(CHOOSE_VICTIM)
        return stages

    def enabled_stages(self) -> list[Stage]:
        """The same without CHOOSE_VICTIM, for those who name their victims themselves."""
        machine = self._machine
        stages = list(machine.pending)
        if machine.parked:
            resume = [
                Stage(StageKind.RESUME, guest_id, issuer)
                for (guest_id, issuer), parked in machine.parked.items()
                if can_resume(machine, machine.guests[guest_id], issuer, parked.command)
            ]
            stages = resume + stages
        return stages

    def run(self, stage: Stage) -> None:
        """Do one enabled stage."""
        machine = self._machine
        kind, guest_id, number = stage
        if kind is StageKind.CHOOSE_VICTIM:
            guest, pfn = reclaim.choose_victim(machine)
            self._observed(guest, pfn, "choose_victim", reclaim.begin)
            return
        guest = machine.guests[guest_id]
        if kind is StageKind.RESUME:
            self._resume(guest, number)
            return
        assert stage in machine.pending, f"{stage} is not enabled"
        work = _PAGE_STAGES[kind]
        if kind in (StageKind.DRAIN_RELEASE_LIST, StageKind.DELIVER_FAULT):
            if self._tracer is not None and kind is StageKind.DRAIN_RELEASE_LIST:
                pfns = release.entry_rows(guest, number)[:, 0].tolist()
                self._tracer.before_pages(guest, pfns)
            work(machine, guest, number)
            if self._tracer is not None:
                self._tracer.after(machine, guest, kind.name.lower(), 0)
            return
        self._observed(guest, number, kind.name.lower(), work)

    def _observed(
        self, guest: Guest, pfn: int, cause: str, work: Callable[[Machine, Guest, int], None]
    ) -> None:
        """Do work on one page, trace it, and look at what became of the page."""
        if self._tracer is not None:
            self._tracer.before_pages(guest, [pfn])
        work(self._machine, guest, pfn)
        self._assert_legal(guest, pfn)
        if self._tracer is not None:
            self._tracer.after(self._machine, guest, cause, 0)

    def _resume(self, guest: Guest, issuer: int) -> None:
        """Look at a parked command from scratch."""
        machine = self._machine
        parked = machine.parked[guest.number, issuer]
        command = parked.command
        handlers = _VCPU_HANDLERS if issuer < guest.vcpu_count else _DEVICE_HANDLERS
        if self._tracer is not None:
            self._tracer.before(guest, command)
        outcome = handlers[type(command)](machine, guest, issuer, command)
        if outcome is None:
            self._park(guest, issuer, command)
        else:
            del machine.parked[guest.number, issuer]
            if isinstance(command, Essa):
                outcome = essa.answer_after_page_in(guest, parked.seen, outcome)
            machine.effects.append(Completed(guest.number, issuer, outcome))
        assert not isinstance(command, EssaArray)
        self._assert_legal(guest, command.pfn)
        if self._tracer is not None:
            self._tracer.after(machine, guest, "resume", issuer)

    def page_out_done(self, operation: int, ok: bool) -> None:
        """The paging device has written a page; False: it could not."""
        transfer = self._machine.operations[operation]
        assert not transfer.frame, f"operation {operation} is a page-in"
        if not transfer.live:
            transit.finish_cancelled(self._machine, operation, ok=ok)
            return
        guest = self._machine.guests[transfer.guest_id]
        self._observed(
            guest,
            transfer.pfn,
            "page_out_done",
            lambda machine, _guest, _pfn: transit.finish_page_out(machine, operation, ok=ok),
        )

    def page_in_done(self, operation: int, data: bytes | None) -> None:
        """The paging device has read a page; None: its copy is damaged."""
        transfer = self._machine.operations[operation]
        assert transfer.frame, f"operation {operation} is a page-out"
        if not transfer.live:
            transit.finish_cancelled(self._machine, operation, ok=True)
            return
        guest = self._machine.guests[transfer.guest_id]
        self._observed(
            guest,
            transfer.pfn,
            "page_in_done",
            lambda machine, _guest, _pfn: transit.finish_page_in(machine, operation, data),
        )

    def has_victim(self) -> bool:
        """Whether CHOOSE_VICTIM is enabled."""
        return reclaim.has_victim(self._machine)

    def reclaim_wanted(self) -> bool:
        """Whether the watermarks, or parked commands, ask for one more CHOOSE_VICTIM."""
        return reclaim.wanted(self._machine, waiting_count(self._machine))

    def withhold(self, *, frames: int, slots: int) -> None:
        """Give out so many frames and slots fewer than there are; zero gives all back.

        Raises InvalidRequestError for more than `pressure.limits`.
        """
        withhold(self._machine, frames, slots)

    def restart_transfers(self) -> None:
        """The paging device has forgotten what was in flight (after a restart)."""
        transit.restart(self._machine)

    def take_effects(self) -> list[Effect]:
        """Everything that the last inputs want done, in order; each is returned once."""
        machine = self._machine
        if not machine.effects:
            return []
        effects, machine.effects = machine.effects, []
        return effects

    # Looking at it

    def trace(self, on: bool) -> None:
        """Start or stop Traced effects. Not part of a snapshot."""
        self._tracer = Tracer() if on else None

    def watch(self, on: bool) -> None:
        """Start or stop Noticed effects. Not part of a snapshot."""
        self._machine.watched = on

    def transfer_owner(self, operation: int) -> tuple[int, int]:
        """The guest and the page of a transfer that has not ended."""
        transfer = self._machine.operations[operation]
        return transfer.guest_id, transfer.pfn

    @property
    def stuck(self) -> bool:
        """Whether commands wait for a frame, none is on its way and nothing could be evicted."""
        return report.is_stuck(self._machine)

    def page_map(self, guest_id: int) -> NDArray[np.uint8]:
        """A copy of all state bytes without flags. Raises GuestNotFoundError."""
        return self._guest(guest_id).states_view & np.uint8(STATE_MASK)

    def state_byte(self, guest_id: int, pfn: int) -> int:
        """One page's state, and in the high nibble what is going on with it (`tables`)."""
        return self._guest(guest_id).states[pfn]

    def storage_key(self, guest_id: int, pfn: int) -> int:
        """One page's storage key."""
        return self._guest(guest_id).keys[pfn]

    def content(self, guest_id: int, pfn: int) -> bytes | None:
        """A copy of one page's 4 KiB; None if it is not resident."""
        guest = self._guest(guest_id)
        resident = guest.states[pfn] & CONTENT_MASK == RESIDENT
        return self._machine.frames.content(guest.location[pfn]) if resident else None

    def page_details(self, guest_id: int, pfn: int) -> report.PageDetails:
        """One page. Raises GuestNotFoundError, InvalidRequestError for a pfn outside."""
        guest = self._guest(guest_id)
        check_pfn(guest, pfn)
        return report.page_details(guest, pfn)

    def counts(self, guest_id: int) -> dict[str, int]:
        """Pages by state name, legal states only. Raises GuestNotFoundError."""
        return report.counts(self._guest(guest_id))

    def guest_statistics(self, guest_id: int) -> report.GuestStatistics:
        """One guest's counters. Raises GuestNotFoundError."""
        return report.guest_statistics(self._machine, self._guest(guest_id))

    def statistics(self) -> report.HostStatistics:
        """The host's counters, closed guests included."""
        return report.host_statistics(self._machine)

    def check(self) -> None:
        """Assert every invariant over all pages, frames and slots. Slow; for tests."""
        report.check(self._machine)

    # Checkpoints

    def snapshot(self) -> dict[str, Any]:
        """Everything as plain data and numpy arrays; effects must have been taken."""
        return snapshots.capture(self._machine)

    @classmethod
    def restore(cls, snapshot: Mapping[str, Any], choices: Choices) -> Host:
        """A host that goes on exactly as the one the snapshot was taken of."""
        host = cls.__new__(cls)
        host._machine = snapshots.rebuild(snapshot, choices)
        host._tracer = None
        return host

    def _guest(self, guest_id: int) -> Guest:
        guest = self._machine.guests.get(guest_id)
        if guest is None:
            raise GuestNotFoundError(f"there is no guest {guest_id}", guest_id=guest_id)
        return guest
