"""The shell around the core: what comes off the wire goes in, what comes out finds its way.

Rules:
- Everything runs on the event loop's thread and nothing here awaits, so one call is one
  input to the core, or one batch of them, and no lock is needed.
- A batch is checked whole before any of it is executed.
- After every input the effects are acted on and the host's own work gets its turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from host_daemon.core.config import Choices, GuestSpec
from host_daemon.core.effects import Completed, DeliverFault, Effect, Noticed, PageIn, PageOut
from host_daemon.core.host import Host
from host_daemon.faults.book import FaultBook
from host_daemon.paging.ports import PagingDevice, ReadDone, SlotRead, SlotWrite, WriteDone
from host_daemon.rpc.sessions import ByHand, FaultSink, GuestSession, OutcomeSink, Sessions
from host_daemon.rpc.sessions import new_session as make_session
from host_daemon.rpc.stages import StageRunner
from host_daemon.rpc.watchers import Watchers
from shared.arch import CONTENT_MASK, Content
from shared.commands import DeviceLoad, DeviceStore, DiscardFault, Essa, Outcome
from shared.errors import DrainingError, InvalidRequestError, SequenceError
from shared.events import EventKind
from shared.rpc.codec import Answered, Numbered
from shared.session.host_end import Reception
from shared.telemetry import bind

_DEVICE_COMMANDS: Final = frozenset((DeviceLoad, DeviceStore))


@dataclass(frozen=True, slots=True)
class Eviction:
    """What became of pages that an operator named, as far as it is known at once."""

    discarded: int
    page_outs: int
    skipped: int


class HostShell:
    """One host on the event loop; the paging device's completions come back to it.

    book: the faults that are injected into it. runner: when the host's own work is done.
    """

    def __init__(
        self,
        host: Host,
        device: PagingDevice,
        sessions: Sessions,
        book: FaultBook | None = None,
        runner: type[StageRunner] = StageRunner,
    ) -> None:
        self.host = host
        self.book = book or FaultBook()
        self.sessions = sessions
        self._device = device
        self.draining = False
        self.watchers = Watchers(host.watch)
        self._runner = runner(host, self._apply_effects, self._takes_faults)
        self.book.owner_of = self._transfer_owner
        device.start(self)

    # Guests

    def open_guest(self, spec: GuestSpec) -> GuestSession:
        """Open a guest and its session. Raises what the core raises, and DrainingError."""
        self.refuse_while_draining()
        session = make_session(self.host.open_guest(spec), spec)
        self.sessions.add(session)
        self.watchers.tell(EventKind.GUEST_OPENED, spec.name)
        return session

    def close_guest(self, session: GuestSession) -> None:
        """Close a guest; its connections end."""
        self.refuse_while_draining()
        self.host.close_guest(session.guest_id)
        self.sessions.remove(session)
        session.end_connections()
        self.watchers.tell(EventKind.GUEST_CLOSED, session.spec.name)
        self._settle()  # its frames may be what others wait for

    def close_abandoned(self, name: str) -> bool:
        """Close the guest of that name if nobody holds it any more; returns whether it did."""
        self.refuse_while_draining()
        session = self.sessions.abandoned(name)
        if session is None:
            return False
        self.close_guest(session)
        return True

    def session(self, token: bytes, incarnation: int) -> GuestSession:
        """The session that a call names. Raises DrainingError and what `by_token` raises."""
        self.refuse_while_draining()
        session = self.sessions.by_token(token, incarnation)
        self.sessions.heard(session)
        return session

    def stream_gone(self, session: GuestSession) -> None:
        """A stream of Execute is about to close."""
        self.sessions.heard(session)

    # Commands

    def execute(
        self, session: GuestSession, batch: Sequence[Numbered], sink: OutcomeSink
    ) -> list[Answered]:
        """Take in numbered commands; returns the outcomes known at once.

        The others are pushed to `sink` as they complete. Raises InvalidRequestError, with
        nothing executed, and SequenceError, with what stood before it executed.
        """
        self.refuse_while_draining()
        _check_issuers(session, batch)
        ready: list[Answered] = []
        end, host, guest_id = session.end, self.host, session.guest_id
        try:
            for vcpu, number, command in batch:
                received = end.receive(vcpu, number)
                if received is Reception.EXECUTE:
                    if vcpu in session.by_hand:
                        session.deferred[vcpu] = command
                        received = Reception.ATTACHED
                    else:
                        outcome = host.execute(guest_id, vcpu, command)
                        if outcome is not None:
                            end.complete(vcpu, outcome)
                            ready.append((vcpu, number, outcome))
                            continue
                elif received is not Reception.ATTACHED:
                    ready.append((vcpu, number, received))
                    continue
                session.wait_for(vcpu, sink)
        except AssertionError:
            bind(vcpu=vcpu, number=number)  # for whoever reports the bug
            raise
        finally:
            self._settle()
        return ready

    def execute_by_hand(
        self, session: GuestSession, vcpu: int, command: Essa, done: ByHand
    ) -> Outcome | None:
        """Execute one ESSA outside the numbering, at most once. None: `done` is called later.

        Raises InvalidRequestError, and SequenceError if the vCPU has a command outstanding.
        """
        self.refuse_while_draining()
        _check_issuers(session, [(vcpu, 0, command)])
        if vcpu in session.by_hand or session.end.is_outstanding(vcpu):
            raise SequenceError(f"vcpu {vcpu} has a command outstanding", vcpu=vcpu)
        outcome = self.host.execute(session.guest_id, vcpu, command)
        if outcome is None:
            session.by_hand[vcpu] = done
        self._settle()
        return outcome

    # Discard faults

    def subscribe(self, session: GuestSession, sink: FaultSink) -> None:
        """Send the guest's faults to `sink` from the lowest unacknowledged on."""
        self.refuse_while_draining()
        if session.subscriber is not None:
            session.subscriber.end()
        session.subscriber = sink
        self.host.redeliver_faults(session.guest_id)
        self._settle()

    def unsubscribe(self, session: GuestSession, sink: FaultSink) -> None:
        """The connection is gone; another one may have taken its place before."""
        if session.subscriber is sink:
            session.subscriber = None
            self.sessions.heard(session)

    def acknowledge(self, session: GuestSession, numbers: Sequence[int]) -> None:
        """Forget faults. Raises InvalidRequestError, with none forgotten."""
        self.refuse_while_draining()
        if numbers:
            # Zero, then the largest: if the core refuses any, it refuses the first.
            for number in sorted(numbers, key=lambda n: (n > 0, -n)):
                self.host.acknowledge_fault(session.guest_id, number)
            self._settle()  # an access may wait for fewer open faults

    # Operators

    def evict(self, session: GuestSession, pfns: Iterable[int]) -> Eviction:
        """Make pages victims and take each as far as it goes without the paging device.

        Raises InvalidRequestError for a pfn outside the guest; those before it are evicted.
        """
        self.refuse_while_draining()
        host, guest_id = self.host, session.guest_id
        page_outs = 0
        dropped: list[int] = []
        count = 0
        try:
            for count, pfn in enumerate(pfns, 1):  # noqa: B007 (how many there were)
                if not host.begin_eviction(guest_id, pfn):
                    continue
                if self._runner.take_out(guest_id, pfn):
                    page_outs += 1
                else:
                    dropped.append(pfn)
            # One whose page-out found no slot is resident still.
            content = host.page_map(guest_id)[dropped] & CONTENT_MASK
            discarded = int((content != Content.RESIDENT).sum())
        finally:
            self._settle()
        return Eviction(discarded, page_outs, count - discarded - page_outs)

    def withhold(self, *, frames: int, slots: int) -> None:
        """Give out so many frames and slots fewer. Raises InvalidRequestError."""
        self.host.withhold(frames=frames, slots=slots)
        self._settle()

    # The paging device

    def writes_done(self, results: Sequence[WriteDone]) -> None:
        """Page-outs have ended."""
        for operation, ok in results:
            self.host.page_out_done(operation, ok)
        self._settle()

    def reads_done(self, results: Sequence[ReadDone]) -> None:
        """Page-ins have ended."""
        for operation, data in results:
            self.host.page_in_done(operation, data)
        self._settle()

    # Beginning and end

    def start(self) -> None:
        """Go on with what a checkpoint left undone."""
        self._settle()

    def drain(self) -> None:
        """Take no more input from peers, end their connections, begin nothing new."""
        self.book.end_all()
        self.draining = True
        self._runner.stop()
        self.watchers.end()
        for session in self.sessions:
            session.end_connections()

    def refuse_while_draining(self) -> None:
        """Raise DrainingError once `drain` was called."""
        if self.draining:
            raise DrainingError("the host is shutting down")

    def snapshot(self) -> dict[str, Any]:
        """Host and sessions as plain data. Drained, and the paging device flushed."""
        assert self.draining
        self._apply_effects()
        return {
            "incarnation": self.sessions.incarnation,
            "host": self.host.snapshot(),
            "sessions": self.sessions.snapshot(),
        }

    # Inside

    def _takes_faults(self, guest_id: int) -> bool:
        return self.sessions.by_id(guest_id).subscriber is not None

    def _transfer_owner(self, operation: int) -> tuple[str, int]:
        guest_id, pfn = self.host.transfer_owner(operation)
        return self.sessions.by_id(guest_id).spec.name, pfn

    def _settle(self) -> None:
        self._apply_effects()
        self._runner.work()

    def _apply_effects(self) -> None:
        # Acting on an outcome may let in a deferred command, which has effects of its own.
        while effects := self.host.take_effects():
            self._apply(effects)
        if self.watchers.active:
            self.watchers.now_stuck(self.host.stuck)

    def _apply(self, effects: Iterable[Effect]) -> None:
        writes: list[SlotWrite] = []
        reads: list[SlotRead] = []
        for effect in effects:
            match effect:
                case Completed(guest_id, issuer, outcome):
                    self._complete(self.sessions.by_id(guest_id), issuer, outcome)
                case PageOut(operation, slot, generation, data):
                    writes.append(SlotWrite(operation, slot, generation, data))
                case PageIn(operation, slot, generation):
                    reads.append(SlotRead(operation, slot, generation))
                case DeliverFault(guest_id, fault):
                    self._deliver(self.sessions.by_id(guest_id), fault)
                case Noticed(guest_id=guest_id):
                    guest = self.sessions.by_id(guest_id).spec.name if guest_id else ""
                    self.watchers.noticed(effect, guest)
        if writes:
            self._device.submit_writes(writes)
        if reads:
            self._device.submit_reads(reads)

    def _deliver(self, session: GuestSession, fault: DiscardFault) -> None:
        assert session.subscriber is not None, "a fault was delivered to nobody"
        session.subscriber.push(fault)

    def _complete(self, session: GuestSession, issuer: int, outcome: Outcome) -> None:
        if issuer not in session.by_hand:
            self._answer(session, issuer, outcome)
            return
        done = session.by_hand.pop(issuer)
        if done is not None:
            done(outcome)
        command = session.deferred.pop(issuer, None)
        if command is not None:
            following = self.host.execute(session.guest_id, issuer, command)
            if following is not None:
                self._answer(session, issuer, following)

    def _answer(self, session: GuestSession, issuer: int, outcome: Outcome) -> None:
        number = session.end.complete(issuer, outcome)
        sink = session.waiting.pop(issuer, None)
        if sink is not None:
            sink.push(issuer, number, outcome)


def _check_issuers(session: GuestSession, batch: Sequence[Numbered]) -> None:
    spec = session.spec
    vcpu_count, issuer_count = spec.vcpu_count, spec.vcpu_count + spec.device_count
    for vcpu, _, command in batch:
        if vcpu >= issuer_count:
            raise InvalidRequestError(
                f"vcpu is {vcpu}; it must be 0 to {issuer_count - 1}",
                field="vcpu",
                value=vcpu,
                high=issuer_count - 1,
            )
        if (vcpu >= vcpu_count) is not (type(command) in _DEVICE_COMMANDS):
            raise InvalidRequestError(
                f"vcpu {vcpu} cannot issue {type(command).__name__}: "
                f"from {vcpu_count} on they are devices",
                field="vcpu",
                value=vcpu,
                command=type(command).__name__,
                vcpu_count=vcpu_count,
            )


def restore_host(data: dict[str, Any], choices: Choices) -> tuple[Host, Sessions]:
    """What `HostShell.snapshot` was taken of; what stands in it is trusted."""
    host = Host.restore(data["host"], choices)
    sessions = Sessions(data["incarnation"])
    sessions.restore(data["sessions"], {n: host.guest_spec(n) for n in host.guest_ids()})
    return host, sessions


def restore_shell(
    data: dict[str, Any], choices: Choices, device: PagingDevice, book: FaultBook | None = None
) -> HostShell:
    """The inverse of `HostShell.snapshot`."""
    host, sessions = restore_host(data, choices)
    return HostShell(host, device, sessions, book)
