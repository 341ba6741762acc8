"""The daemon's shell under the gate: it takes messages in as ever, and does nothing by itself.

Rules:
- Stages, paging operations and evictions are steps that somebody releases. There are no timers.
- While commands are held, they wait between their stream and the host's end of the session.
- What is counted here is what the guest has to wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from essa_cli.gate.gated_device import GatedDevice
from host_daemon.core.config import GuestSpec
from host_daemon.core.effects import CHOOSE_VICTIM, PageIn, PageOut, Stage
from host_daemon.core.host import Host
from host_daemon.paging.ports import ReadDone, SlotWrite, WriteDone
from host_daemon.rpc.sessions import GuestSession, OutcomeSink, Sessions
from host_daemon.rpc.shell import HostShell
from host_daemon.rpc.stages import StageRunner
from race_explorer.naming import paging_name, stage_name
from shared.commands import Command, DiscardFault, Outcome
from shared.errors import SequenceError
from shared.essa.v1 import gate_pb2 as pb
from shared.rpc.codec import Answered, Numbered
from shared.session.guards import LinkGuards
from shared.session.host_end import HostEnd, Reception

_RECEPTIONS = {
    Reception.EXECUTE: pb.HOST_RECEPTION_EXECUTED,
    Reception.ATTACHED: pb.HOST_RECEPTION_ATTACHED,
}


class WaitingRunner(StageRunner):
    """Runs nothing by itself."""

    def work(self) -> None:
        """Nothing: every stage is released."""


class Nobody:
    """An OutcomeSink for who has no connection: outcomes stay at the host's end."""

    def push(self, vcpu: int, number: int, outcome: Outcome) -> None:
        """Keep it where it is."""

    def released(self) -> None:
        """Nothing waits."""

    def end(self) -> None:
        """Nothing waits."""


@dataclass(slots=True)
class TellingEnd(HostEnd):
    """A HostEnd that says what it made of the last command. made: that, as the gate spells it."""

    made: pb.HostReception = pb.HOST_RECEPTION_UNSPECIFIED

    def receive(self, vcpu: int, number: int) -> Reception | Outcome:
        """As ever."""
        self.made = pb.HOST_RECEPTION_REFUSED
        found = HostEnd.receive(self, vcpu, number)
        self.made = (
            _RECEPTIONS[found] if isinstance(found, Reception) else pb.HOST_RECEPTION_ANSWERED
        )
        return found


class GatedShell(HostShell):
    """A shell of which every step is released.

    parked: told of every command that has to wait, and what the core says is wrong with itself.
    """

    def __init__(
        self,
        host: Host,
        device: GatedDevice,
        sessions: Sessions,
        link_guards: LinkGuards,
        parked: Callable[[int, int, str], None],
    ) -> None:
        self.traffic = pb.Traffic()
        self.holding = False
        self.violations: list[str] = []
        self._link_guards = link_guards
        self._parked = parked
        self._came: dict[tuple[int, int], Command] = {}
        self._changed = asyncio.Event()
        self._gated_device = device
        super().__init__(host, device, sessions, runner=WaitingRunner)
        for session in sessions:
            self._let_tell(session)

    # What comes in.

    def open_guest(self, spec: GuestSpec) -> GuestSession:
        """As ever, under the guards of the case."""
        session = super().open_guest(spec)
        self._let_tell(session)
        return session

    def _let_tell(self, session: GuestSession) -> None:
        before = session.end
        session.end = TellingEnd(before.issuer_count, self._link_guards)
        session.end.restore(before.snapshot())

    def execute(
        self, session: GuestSession, batch: Sequence[Numbered], sink: OutcomeSink
    ) -> list[Answered]:
        """Take commands in: hold them, or execute them as ever."""
        self.traffic.commands_received += len(batch)
        ready: list[Answered] = []
        try:
            self._came.update(((vcpu, number), command) for vcpu, number, command in batch)
            if not self.holding:
                ready = super().execute(session, batch, sink)
                answered = {vcpu for vcpu, _, _ in ready}
                for vcpu, number, _ in batch:
                    if vcpu not in answered:
                        self._parked(vcpu, number, "")
        except AssertionError as error:
            # In a race one command comes at a time; in the explorer its issuer trips over this.
            vcpu, number, _ = batch[-1]
            self._parked(vcpu, number, str(error))
        finally:
            self._changed.set()
        self.traffic.outcomes_sent += len(ready)
        return ready

    def subscribe(self, session: GuestSession, sink: Any) -> None:
        """As ever."""
        super().subscribe(session, sink)
        self.traffic.subscriptions += 1
        self._changed.set()

    def acknowledge(self, session: GuestSession, numbers: Sequence[int]) -> None:
        """As ever."""
        super().acknowledge(session, numbers)
        self.traffic.acknowledgements_received += len(numbers)
        self._changed.set()

    def writes_done(self, results: Sequence[WriteDone]) -> None:
        """As ever; what the core says is wrong with itself is a violation."""
        self._try(super().writes_done, results)

    def reads_done(self, results: Sequence[ReadDone]) -> None:
        """As ever; what the core says is wrong with itself is a violation."""
        self._try(super().reads_done, results)

    async def come_in(self, least: pb.Traffic) -> None:
        """Return when at least so much has come in."""
        seen = self.traffic
        while (
            seen.commands_received < least.commands_received
            or seen.acknowledgements_received < least.acknowledgements_received
            or seen.subscriptions < least.subscriptions
        ):
            self._changed.clear()
            await self._changed.wait()

    # What goes out.

    def _answer(self, session: GuestSession, issuer: int, outcome: Outcome) -> None:
        if self.holding:  # answers go by the connection that there is
            session.waiting[issuer] = self._sink(session)
        sink = session.waiting.get(issuer)
        self.traffic.outcomes_sent += sink is not None and not isinstance(sink, Nobody)
        super()._answer(session, issuer, outcome)

    def _sink(self, session: GuestSession) -> OutcomeSink:
        return next(reversed(session.streams), None) or Nobody()

    def _deliver(self, session: GuestSession, fault: DiscardFault) -> None:
        if session.subscriber is not None:  # else it is lost with its connection
            self.traffic.faults_sent += 1
            super()._deliver(session, fault)

    # What is released.

    def steps(self) -> list[tuple[str, str]]:
        """What the host could do next: stages, then paging."""
        return [
            *map(stage_name, self.host.enabled_stages()),
            *map(paging_name, self.paging_operations()),
        ]

    def paging_operations(self) -> list[PageOut | PageIn]:
        """What the paging device is about to do, in the order in which it was told."""
        return [
            PageOut(number, found.slot, found.generation, found.data)
            if isinstance(found, SlotWrite)
            else PageIn(number, found.slot, found.generation)
            for number, found in sorted(self._gated_device.waiting.items())
        ]

    async def release(self, name: tuple[str, str], *, fails: bool) -> None:
        """Take a step. Raises LookupError if it is not offered."""
        stage = self._stage(name)
        if stage is not None:
            self._try(self.host.run, stage)
            return
        for operation in self.paging_operations():
            if paging_name(operation) == name:
                await self._gated_device.do(operation.operation, fails=fails)
                return
        raise LookupError(f"the host does not stand before {' '.join(name)}")

    def _stage(self, name: tuple[str, str]) -> Stage | None:
        if name == stage_name(CHOOSE_VICTIM):
            return CHOOSE_VICTIM
        return next((s for s in self.host.enabled_stages() if stage_name(s) == name), None)

    def begin_eviction(self, pfn: int) -> None:
        """Choose a page of the only guest as a victim."""
        for session in self.sessions:
            self._try(self.host.begin_eviction, session.guest_id, pfn)

    def comes_in(self, issuer: int, number: int, *, copy: bool) -> pb.HostReception:
        """A command that came before comes to the host's end; what that makes of it.

        copy: a second one, whose answer gets lost.
        """
        (session,) = self.sessions
        sink = Nobody() if copy else self._sink(session)
        batch = [(issuer, number, self._came[issuer, number])]
        try:
            ready = super().execute(session, batch, sink)
        except SequenceError:
            ready = []
        except AssertionError as error:
            self.violations.append(f"host: {error}")
            ready = []
        if not isinstance(sink, Nobody):
            self.traffic.outcomes_sent += len(ready)
        for answer in ready:
            sink.push(*answer)
        return self.reception()

    def reception(self) -> pb.HostReception:
        """What the host's end has made of the last command."""
        for session in self.sessions:
            if isinstance(session.end, TellingEnd):
                return session.end.made
        return pb.HOST_RECEPTION_UNSPECIFIED

    async def break_connections(self, *, faults: bool) -> None:
        """Break them as a host does that is about to end; it is there again at once."""
        self.draining = True
        for session in self.sessions:
            for stream in list(session.streams):
                stream.end()
            if faults and session.subscriber is not None:
                session.subscriber.end()
            # Their handlers end, and tell nobody.
            while session.streams or (  # noqa: ASYNC110
                faults and session.subscriber is not None
            ):
                await asyncio.sleep(0)
        self.draining = False

    def _try(self, work: Callable[..., Any], *arguments: Any) -> None:
        try:
            work(*arguments)
        except AssertionError as error:
            self.violations.append(f"host: {error}")
        self._settle()
