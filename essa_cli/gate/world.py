"""The explorer's world with its host in another process: the same scenarios, over gRPC.

Rules:
- Kernel, programs, disks and what may fail are the explorer's own. What passes between guest and
  host passes over the daemon's link; what the host does by itself, it is told to by the gate.
- A world is quiet whenever its code runs: what the host has sent was received.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, cast

from essa_cli.gate.line import COMMANDS, FAULTS, GatedSession, Line
from guest_agent.kernel.content import Ledger
from guest_agent.kernel.kernel import KernelConfig
from host_daemon.core.config import HostGuards
from host_daemon.core.effects import (
    CHOOSE_VICTIM,
    DeliverFault,
    PageIn,
    PageOut,
    Stage,
    StageKind,
)
from host_daemon.core.host import Host
from race_explorer.actors import Step, stand
from race_explorer.linked_guest import DEVICES, GUEST
from race_explorer.naming import paging_name, stage_name
from race_explorer.network import RepeatingWorld
from race_explorer.scenarios.scenario import Worlds
from race_explorer.world import SimWorld
from shared.commands import DONE, Command, FaultPending, Outcome
from shared.errors import SequenceError
from shared.essa.v1 import essa_pb2
from shared.essa.v1 import gate_pb2 as pb
from shared.session.guards import LinkGuards
from shared.session.host_end import Reception


@dataclass(frozen=True, slots=True)
class _Paging:
    page_ins: int


@dataclass(frozen=True, slots=True)
class _Statistics:
    """What worlds ask of the host's figures, of the whole host and of its guest."""

    waiting_for_frame: int
    faults_open: int
    paging: _Paging


class RemoteHost:
    """What a world does with its host, done with one in another process."""

    def __init__(self, world: ClusterWorld) -> None:
        self._world = world

    def enabled_stages(self) -> list[Stage]:
        """As the core's."""
        return [
            Stage(StageKind(stage.kind), stage.guest_id, stage.number)
            for stage in self._world.host_state().stages
        ]

    def enabled(self) -> list[Stage]:
        """As the core's."""
        victim = [CHOOSE_VICTIM] if self._world.host_state().victim_possible else []
        return [*self.enabled_stages(), *victim]

    def run(self, stage: Stage) -> None:
        """As the core's."""
        actor, label = stage_name(stage)
        self._world.order(pb.HostOrder(step=pb.Step(actor=actor, label=label)))

    def begin_eviction(self, _guest_id: int, pfn: int) -> None:
        """As the core's."""
        self._world.order(pb.HostOrder(evict_pfn=pfn))

    def execute(self, _guest_id: int, _issuer: int, _command: Command) -> None:
        """Nothing: it was executed when it came in, and is answered over the link."""

    def acknowledge_fault(self, _guest_id: int, number: int) -> None:
        """As the core's, over the link."""
        self._world.acknowledge([number])

    def redeliver_faults(self, _guest_id: int) -> None:
        """As the core's, by a subscription over the link."""
        self._world.subscribe()

    def statistics(self) -> _Statistics:
        """As far as worlds ask."""
        state = self._world.host_state()
        return _Statistics(state.waiting_for_frame, state.faults_open, _Paging(state.page_ins))

    def guest_statistics(self, _guest_id: int) -> _Statistics:
        """As far as worlds ask."""
        return self.statistics()


class ClusterWorld(SimWorld):
    """A world whose host is another process. line: to the gate."""

    def __init__(self, *arguments: Any, line: Line, **options: Any) -> None:
        self._line = line
        self._session: GatedSession | None = None
        super().__init__(*arguments, **options)

    # The host, and the session with it.

    def new_host(self) -> None:
        """A host that knows nothing of the past."""
        self.incarnation += 1
        self._holds = False
        self._stale = False
        self._acknowledged = self._subscriptions = 0
        self.host = cast(Host, RemoteHost(self))
        config = self._host_config
        without = [*_off(config.guards), *_off(self._link_guards)]
        wanted = pb.NewHost(
            frame_count=config.frame_count, slot_count=config.slot_count, without=without
        )
        self.leave()
        self.order(pb.HostOrder(new_host=wanted))

    def new_guest(self, ledger: Ledger) -> None:
        """A kernel before its boot, with a session of its own."""
        super().new_guest(ledger)
        self.leave()
        kernel = self._kernel_config
        request = essa_pb2.OpenGuestRequest(
            name=self._line.name,
            page_count=kernel.page_count,
            vcpu_count=kernel.vcpu_count,
            device_count=DEVICES,
            mode=essa_pb2.MODE_SEED,
        )
        self._session = GatedSession(self._line, self._state.address, request, self._link_guards)
        self.guest_end = self._session.link.end
        self._subscriptions = 1
        self._stale = True
        self.host_state()

    def leave(self) -> None:
        """End the session's connections, if there is one."""
        if self._session is not None:
            self._session.close()
            self._session = None

    @property
    def _open_session(self) -> GatedSession:
        assert self._session is not None, "no session is open"
        return self._session

    # What the host reports.

    def order(self, order: pb.HostOrder) -> pb.HostState:
        """Let the host do something."""
        self.told(self._line.order(order))
        return self._state

    def told(self, report: pb.Report) -> None:
        """The host has reported: take in what it has sent."""
        self._violations += report.violations
        self._state = state = report.host
        self._stale = False
        self.paging = [
            PageOut(found.operation, 0, 0, b"") if found.out else PageIn(found.operation, 0, 0)
            for found in state.paging
        ]
        session = self._session
        if session is not None:
            session.turn(lambda: session.has_received(state.traffic), "what the host has sent")
        self.pump()

    def host_state(self) -> pb.HostState:
        """What the host is like now."""
        if self._stale and self._session is not None:
            look = pb.Traffic(
                commands_received=self._session.commands,
                acknowledgements_received=self._acknowledged,
                subscriptions=self._subscriptions,
            )
            self.order(pb.HostOrder(look=look))
        return self._state

    def host_steps(self) -> list[tuple[str, str]]:
        """The steps among the options that are the host's own."""
        return [*map(stage_name, self.stages()), *map(paging_name, self.paging)]

    # linked_guest.LinkedGuest

    async def _carry(self, issuer: int, command: Command) -> Outcome:
        self.executes(issuer)
        self._stale = True
        outcome = self._open_session.call(issuer, command)
        found = outcome()
        if found is None:
            await stand(
                Step(
                    "parked",
                    lambda: self.issuers_part(issuer),
                    lambda: outcome() is not None,
                )
            )
            found = outcome()
        assert found is not None
        self._note_fault(issuer, found)
        return found

    def _note_fault(self, issuer: int, outcome: Outcome) -> None:
        if isinstance(outcome, FaultPending):
            self.faulting[outcome.fault] = issuer

    def acknowledge_settled(self) -> None:
        """Acknowledge over the link, at once unless there is a wire."""
        if self.wire is not None:
            self.wire.settled()
        elif numbers := self.guest_end.acknowledgements():
            self.acknowledge(numbers)

    def acknowledge(self, numbers: list[int]) -> None:
        """The same, of these faults."""
        self._open_session.acknowledge(numbers)
        self._acknowledged += len(numbers)
        self._stale = True

    def pump(self) -> None:
        """Carry out what has come from the host."""
        session = self._session
        if session is None:
            return
        while session.kept_outcomes:
            issuer, number, outcome = session.kept_outcomes.pop(0)
            self._note_fault(issuer, outcome)
            if self.wire is not None:
                self.wire.answer(issuer, number, outcome)
        while session.kept_faults:
            self.deliver_fault(DeliverFault(GUEST, session.kept_faults.pop(0)))

    def finish_paging(self, operation: PageOut | PageIn, *, ok: bool = True) -> None:
        """The paging device does it, or cannot."""
        actor, label = paging_name(operation)
        self.order(pb.HostOrder(step=pb.Step(actor=actor, label=label, fails=not ok)))

    def outgoing(self) -> list[tuple[int, int, Command]]:
        """What goes on its way to the host now; the host holds it."""
        if not self._holds:
            self.order(pb.HostOrder(hold=pb.HoldCommands()))
            self._holds = True
        sent = self._open_session.send_outgoing()
        self._stale = True
        self.host_state()
        return sent

    def comes_in(self, issuer: int, number: int, command: Command) -> Reception | Outcome:
        """A command that the host holds comes to its end."""
        held = pb.HeldCommand(issuer=issuer, number=number)
        state = self.order(pb.HostOrder(comes_in=held))
        return _received(state.reception, issuer, number)

    def copy_comes_in(self, issuer: int, number: int, command: Command) -> Reception | Outcome:
        """A second copy comes, by a stream of its own; while commands are held, of one of them."""
        if self._holds:
            held = pb.HeldCommand(issuer=issuer, number=number, copy=True)
            state = self.order(pb.HostOrder(comes_in=held))
        else:
            self._open_session.second_copy(issuer, number, command)
            self._stale = True
            state = self.host_state()
        return _received(state.reception, issuer, number)

    def answered_again(self, issuer: int, number: int, outcome: Outcome) -> None:
        """Nothing: the answer comes over the link."""

    def connections_break(self, *, faults: bool) -> None:
        """Let the host break them, and the link find that out."""
        streams = [COMMANDS, FAULTS] if faults else [COMMANDS]
        self._open_session.keep_apart(streams)
        broken = pb.BreakConnections(faults=faults)
        self.order(pb.HostOrder(break_connections=broken))
        self._open_session.come_apart(streams)

    def subscribe(self) -> None:
        """Make a connection for discard faults."""
        self._open_session.subscribe()
        self._subscriptions += 1
        self._stale = True
        self.host_state()

    def restart_host(self) -> None:
        """The host's process becomes another one, which goes on from its checkpoint."""
        self.order(pb.HostOrder(restart=pb.Restart()))


class RepeatingClusterWorld(RepeatingWorld, ClusterWorld):
    """The same, with a network that repeats itself."""


def _off(guards: HostGuards | LinkGuards) -> list[str]:
    return [entry.name for entry in fields(guards) if not getattr(guards, entry.name)]


def _received(reception: int, issuer: int, number: int) -> Reception | Outcome:
    match reception:
        case pb.HOST_RECEPTION_EXECUTED:
            return Reception.EXECUTE
        case pb.HOST_RECEPTION_ATTACHED:
            return Reception.ATTACHED
        case pb.HOST_RECEPTION_ANSWERED:
            return DONE  # whatever it was: it comes over the link
    raise SequenceError(f"vcpu {issuer} sent number {number}", vcpu=issuer, number=number)


def worlds(line: Line) -> Worlds:
    """What makes such worlds."""

    def plain(kernel: KernelConfig, **options: Any) -> SimWorld:
        return ClusterWorld(kernel, line=line, **options)

    def repeating(kernel: KernelConfig, **options: Any) -> RepeatingWorld:
        return RepeatingClusterWorld(kernel, line=line, **options)

    makers: tuple[Callable[..., SimWorld], Callable[..., RepeatingWorld]] = (plain, repeating)
    return Worlds(*makers)
