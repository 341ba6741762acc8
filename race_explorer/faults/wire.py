"""A network between the two ends of a session: messages on their way, and connections that break.

Rules:
- A call is three steps: it is sent, it is executed on the host, and its outcome is taken. Answers
  go by the connection that there is; without one they are kept at the host's end, as ever.
- Commands and outcomes come in any order, discard faults in theirs. What was on its way when a
  connection broke, and was not lost, still arrives, even after what was sent again.
- Whoever has lost a connection makes a new one: commands are sent again, faults delivered again.
  Acknowledgements are sent until they have arrived.

Models: guest_agent/rpc/link.py, host_daemon/rpc/shell.py and sessions.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count

from guest_agent.kernel.page import ANY, reads, writes
from guest_agent.kernel.ports import Accesses
from host_daemon.core.effects import Stage, StageKind
from race_explorer import touching
from race_explorer.actors import Step, stand
from race_explorer.engine import Option
from race_explorer.naming import command_label
from race_explorer.world import GUEST, SimWorld
from shared.commands import Command, DiscardFault, Outcome
from shared.errors import SequenceError
from shared.session.host_end import Reception

UP = reads("link")
BROKEN = writes("link")
Place = tuple[int, int]
"""Of a command on its way: its issuer, and the lowest number that no other command of it has."""


@dataclass(frozen=True, slots=True)
class Request:
    """A command on its way. who: the actor that issued it. copy: nobody sent it."""

    who: str
    number: int
    command: Command
    copy: bool = False


class SimWire:
    """What is on its way between the ends of one session. A Wire and a Source.

    connected: commands and outcomes have a connection. subscribed: discard faults have one.
    stale: the host knows nothing of the session any more. requests, replies, faults: on their
    way; faults in order. repeated: copies of faults that have arrived once. unacknowledged:
    faults that the guest has settled and the host has not heard of; one that is stale never will.
    executed: how often each command was, by issuer and number.
    """

    def __init__(self, world: SimWorld) -> None:
        self.world = world
        self._without = set(world.guest_end.outstanding())
        self.begin()

    def begin(self) -> None:
        """A session begins; of an earlier one nothing arrives any more."""
        self.connected = self.subscribed = True
        self.stale = False
        self.executed: Counter[Place] = Counter()
        self.unacknowledged: list[int] = []
        self._lose_all()

    def cut(self) -> None:
        """Both connections break, and whatever is on its way is lost, copies included."""
        for lost, what in (
            (self.requests, "a command is lost on its way"),
            (any(self.replies.values()), "an outcome is lost on its way"),
            (self.faults, "a fault is lost on its way"),
        ):
            if lost:
                self.world.mark(what)
        self.connected = self.subscribed = False
        self._lose_all()
        self.world.connections_break(faults=True)

    def disconnect(self) -> None:
        """The connection for commands breaks."""
        self.connected = False
        self.world.connections_break(faults=False)

    def _lose_all(self) -> None:
        self.requests: dict[Place, Request] = {}
        self.replies: dict[int, list[tuple[int, Outcome]]] = {}
        self.faults: list[DiscardFault] = []
        self.repeated: dict[int, DiscardFault] = {}

    # linked_guest.Wire

    def sending(self, issuer: int) -> Accesses:
        """The session's books of the issuer; and whether there is a connection."""
        return (writes("reply", issuer), UP)

    def working(self, stage: Stage, faulting: int) -> Accesses:
        """As ever, but that a fault does not arrive yet; and whether there is a connection."""
        if stage.kind is StageKind.DELIVER_FAULT:
            return (writes("fault", faulting), UP)
        touched = touching.working(stage, faulting)
        return (*touched, UP) if stage.kind is StageKind.RESUME else touched

    async def carry(self, issuer: int, command: Command) -> Outcome:
        """Send a command, and wait until its outcome is here."""
        world = self.world
        world.guest_end.submit(issuer, command)
        if self.connected:
            self._send()
        while True:
            await stand(
                Step(
                    "reply",
                    lambda: world.issuers_part(issuer),
                    lambda: bool(self.replies.get(issuer)),
                )
            )
            number, outcome = self.replies[issuer].pop(0)
            if world.guest_end.receive(issuer, number, outcome):
                return outcome

    def answer(self, issuer: int, number: int, outcome: Outcome) -> None:
        """Send an outcome, if there is a connection."""
        if issuer in self._without:  # was parked before there was a wire
            self._without.remove(issuer)
            if self.world.guest_end.receive(issuer, number, outcome):
                self.world.replies[issuer] = outcome
        elif self.connected:
            self.replies.setdefault(issuer, []).append((number, outcome))

    def deliver(self, fault: DiscardFault) -> None:
        """Send a fault; without a connection it is lost, and delivered again later."""
        if self.subscribed:
            self.faults.append(fault)

    def settled(self) -> None:
        """Take what the guest has to acknowledge."""
        settled = self.world.guest_end.acknowledgements()
        self.unacknowledged += [n for n in settled if n not in self.unacknowledged]

    # What arrives. world.Source

    def due(self) -> list[Option]:
        """Commands, the next fault, copies of faults, acknowledgements, new connections."""
        if self.stale:
            return []
        options = [self._request_option(place) for place in self.requests]
        if self.faults:
            fault = self.faults[0]
            options.append(self._fault_option(f"{fault.number}", "fault", fault, self.arrive))
        for fault in self.repeated.values():
            name = f"{fault.number}.again"
            options.append(self._fault_option(name, "second fault", fault, self._arrive_again))
        options += [self._acknowledgement_option(number) for number in self.unacknowledged]
        if not self.connected:
            touched = (BROKEN, writes("reply", ANY))
            options.append(Option("network.reconnect", "reconnect", touched, self.reconnect))
        if not self.subscribed:
            touched = (BROKEN, writes("fault", ANY))
            options.append(Option("network.subscribe", "subscribe", touched, self.subscribe))
        return options

    def possible(self) -> list[Option]:
        """Nothing: what may fail is no part of this."""
        return []

    def left_over(self) -> list[str]:
        """Commands that were not executed exactly once, and faults that are still open."""
        while options := self.due():
            options[0].run()
        wrong = [
            f"command {number} of issuer {issuer} was executed {times} times"
            for (issuer, number), times in sorted(self.executed.items())
            if times != 1
        ]
        faults = self.world.host.guest_statistics(GUEST).faults_open
        return wrong + ([f"{faults} discard faults are not acknowledged"] if faults else [])

    def _request_option(self, place: Place) -> Option:
        request, issuer = self.requests[place], place[0]
        label = command_label(request.command)
        world = self.world

        def touched() -> Accesses:
            executing = touching.executing(world.host, GUEST, issuer, request.command)
            return (*executing, *world.judged(issuer), UP)

        return Option(
            f"network.request.{self.name(place)}",
            f"second {label}" if request.copy else f"execute {label}",
            touched,
            partial(self._execute, place),
        )

    def name(self, place: Place) -> str:
        """A command on its way, by who issued it."""
        who, ordinal = self.requests[place].who, place[1]
        return who if ordinal == 1 else f"{who}.{ordinal}"

    def _fault_option(
        self, name: str, label: str, fault: DiscardFault, run: Callable[[DiscardFault], None]
    ) -> Option:
        touched = (writes("fault", fault.vcpu), writes("irq", fault.vcpu))
        return Option(f"network.fault.{name}", label, touched, partial(run, fault))

    def _acknowledgement_option(self, number: int) -> Option:
        touched = (writes("fault", self.world.faulting[number]),)
        run = partial(self._acknowledge, number)
        return Option(f"network.acknowledge.{number}", "acknowledge", touched, run)

    def _send(self) -> None:
        world = self.world
        for issuer, number, command in world.outgoing():
            self.send(issuer, Request(world.issuer_name(issuer), number, command))

    def send(self, issuer: int, request: Request) -> None:
        """A command is on its way from now on."""
        ordinal = next(n for n in count(1) if (issuer, n) not in self.requests)
        self.requests[issuer, ordinal] = request

    def _execute(self, place: Place) -> None:
        """What a host does with a command: execute it, attach it, answer it again, refuse it."""
        world, issuer, request = self.world, place[0], self.requests.pop(place)
        try:
            reception = world.comes_in(issuer, request.number, request.command)
        except SequenceError:
            world.mark("an old number is refused")
            return
        if reception is Reception.EXECUTE:
            self.executed[issuer, request.number] += 1
            if self.executed[issuer, request.number] == 1:
                world.executes(issuer)
            world.host_input(world.execute, issuer, request.command)
        elif reception is Reception.ATTACHED:
            world.mark("a command is attached to itself")
        else:
            world.mark("the last number is answered from memory")
            world.answered_again(issuer, request.number, reception)

    def arrive(self, fault: DiscardFault) -> None:
        """The next fault arrives."""
        self.faults.remove(fault)
        self.world.fault_arrives(fault)
        self.settled()  # what was settled before is acknowledged again

    def _arrive_again(self, fault: DiscardFault) -> None:
        del self.repeated[fault.number]
        self.world.mark("second fault")
        self.world.fault_arrives(fault)
        self.settled()

    def _acknowledge(self, number: int) -> None:
        self.unacknowledged.remove(number)
        self.world.host_input(self.world.host.acknowledge_fault, GUEST, number)

    def reconnect(self) -> None:
        """A connection for commands: all that were not answered are sent again."""
        self.connected = True
        self.world.guest_end.connection_lost()
        self._send()

    def subscribe(self) -> None:
        """A connection for faults: all that were not acknowledged are delivered again."""
        self.subscribed = True
        self.faults.clear()
        self.world.host_input(self.world.host.redeliver_faults, GUEST)
