"""One guest and its host in one process, and the session between them: what passes, and when.

Rules:
- Session, core and kernel are the shipped ones, unchanged; this module only carries what
  passes between them and says what each command touches.
- Without a wire a call is one step: sent, executed and answered. A wire makes the separate
  steps of it that it is, so that something may happen to a message on its way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from guest_agent.kernel.content import Ledger
from guest_agent.kernel.kernel import Kernel, KernelConfig
from guest_agent.kernel.page import reads, writes
from guest_agent.kernel.ports import Access, Accesses, Check, DiskRequest
from host_daemon.core.config import GuestSpec, HostConfig, HostGuards
from host_daemon.core.effects import Completed, DeliverFault, PageIn, PageOut, Stage
from host_daemon.core.host import Host
from race_explorer import touching
from race_explorer.actors import SimSchedule, Step, always, stand
from race_explorer.naming import command_label
from shared.commands import Command, DiscardFault, FaultPending, MachineCheck, Outcome
from shared.session.guards import LinkGuards
from shared.session.guest_end import GuestEnd
from shared.session.host_end import HostEnd, Reception

DEVICES = 32
"""More than a small guest can have transfers under way; which of them it is makes no difference."""
GUEST = 1


class Wire(Protocol):
    """What carries messages of which something may become."""

    def sending(self, issuer: int) -> Accesses:
        """What sending a command touches."""
        ...

    def working(self, stage: Stage, faulting: int) -> Accesses:
        """What a stage of the host's own work touches; as `touching.working`."""
        ...

    async def carry(self, issuer: int, command: Command) -> Outcome:
        """Send a command, in the step that the caller stands behind, and wait for its outcome."""
        ...

    def answer(self, issuer: int, number: int, outcome: Outcome) -> None:
        """The host knows the outcome of a command."""
        ...

    def deliver(self, fault: DiscardFault) -> None:
        """The host sends a discard fault."""
        ...

    def settled(self) -> None:
        """The guest has acknowledgements to send."""
        ...

    def begin(self) -> None:
        """A session begins; of an earlier one nothing arrives any more."""
        ...


class LinkedGuest(ABC):
    """A host with one guest.

    answered: what the last command was told; for people. faulting: the vCPU of every discard
    fault, by number. replies: outcomes that their issuers have not taken yet. paging: what the
    paging device is about to do. wire: see the module. damaged: the paging device has lost a page;
    a machine check from then on stops the guest, which has `stopped` until it boots again.
    incarnation: of the host, which is another one when it has lost its state.
    """

    def __init__(
        self,
        kernel: KernelConfig,
        host_guards: HostGuards | None,
        link_guards: LinkGuards | None,
        frame_count: int,
    ) -> None:
        self._kernel_config = kernel
        self._host_config = HostConfig(
            frame_count, kernel.page_count, guards=host_guards or HostGuards()
        )
        self._link_guards = link_guards or LinkGuards()
        self._issuers = kernel.vcpu_count + DEVICES
        self.wire: Wire | None = None
        self.answered: Outcome | None = None
        self.damaged = False
        self.incarnation = 0
        self._violations: list[str] = []
        self.new_host()
        self.new_guest(Ledger())

    def new_host(self) -> None:
        """A host that knows nothing of the past, with a guest that was just opened."""
        kernel = self._kernel_config
        self.incarnation += 1
        self.host = Host(self._host_config, choices=NO_CHOICES)
        self.host.open_guest(GuestSpec("guest", kernel.page_count, kernel.vcpu_count, DEVICES))
        self.host_end = HostEnd(self._issuers, self._link_guards)
        self.paging: list[PageOut | PageIn] = []
        self._slots: dict[tuple[int, int], bytes] = {}

    def new_guest(self, ledger: Ledger) -> None:
        """A kernel before its boot. ledger: of what its disk holds."""
        self.guest_end = GuestEnd(self._issuers, self._link_guards)
        self.kernel = Kernel(self._kernel_config, self, SimSchedule(self.passes), self, ledger)
        self.replies: dict[int, Outcome] = {}
        self.faulting: dict[int, int] = {}
        self._devices_free = list(range(self._kernel_config.vcpu_count, self._issuers))
        self._requests: dict[int, DiskRequest] = {}
        self.stopped = False

    # ports.Link

    async def call(self, issuer: int, command: Command) -> Outcome:
        """One step; a second one, once the outcome is there, if the host parks the command.

        With a wire: to send it; the wire says what follows.
        """
        if not self.passes():
            await stand(
                Step(command_label(command), lambda: self._calling(issuer, command), always)
            )
        wire = self.wire
        outcome = await (self._carry if wire is None else wire.carry)(issuer, command)
        self.answered = outcome
        if self.damaged and isinstance(outcome, MachineCheck):
            self.stopped = True
            await stand(Step("machine_check", lambda: (writes("guest"),), lambda: False))
        return outcome

    async def _carry(self, issuer: int, command: Command) -> Outcome:
        self.executes(issuer)
        self.guest_end.submit(issuer, command)
        for vcpu, number, sent in self.guest_end.outgoing():
            if self.host_end.receive(vcpu, number) is Reception.EXECUTE:
                self.execute(vcpu, sent)
        if issuer not in self.replies:
            await stand(
                Step(
                    "parked",
                    lambda: self.issuers_part(issuer),
                    lambda: issuer in self.replies,
                )
            )
        return self.replies.pop(issuer)

    def execute(self, issuer: int, command: Command) -> None:
        """Let the host execute a command, and answer it unless it is parked."""
        outcome = self.host.execute(GUEST, issuer, command)
        if outcome is not None:
            self._answer(issuer, outcome)
        self.pump()

    def executes(self, issuer: int) -> None:
        """The issuer's command is being executed now."""
        check = self._check(issuer)
        if check is not None:
            check.begin()

    def fault_settled(self, number: int) -> None:
        """Acknowledge the fault, at once unless there is a wire."""
        self.guest_end.fault_settled(number)
        self.acknowledge_settled()

    def acknowledge_settled(self) -> None:
        """The same for all that the guest's end has to acknowledge."""
        if self.wire is not None:
            self.wire.settled()
            return
        for settled in self.guest_end.acknowledgements():
            self.host.acknowledge_fault(GUEST, settled)

    def _answer(self, vcpu: int, outcome: Outcome) -> None:
        if isinstance(outcome, FaultPending):
            self.faulting[outcome.fault] = vcpu
        number = self.host_end.complete(vcpu, outcome)
        if self.wire is not None:
            self.wire.answer(vcpu, number, outcome)
        elif self.guest_end.receive(vcpu, number, outcome):
            self.replies[vcpu] = outcome

    # The session, as a wire and a network that repeats itself drive it.

    def outgoing(self) -> list[tuple[int, int, Command]]:
        """What goes on its way to the host now: (issuer, number, command)."""
        return self.guest_end.outgoing()

    def comes_in(self, issuer: int, number: int, command: Command) -> Reception | Outcome:
        """A command comes to the host's end, which says what is to be done with it.

        Raises SequenceError for a number that is neither the last nor the next.
        """
        return self.host_end.receive(issuer, number)

    def copy_comes_in(self, issuer: int, number: int, command: Command) -> Reception | Outcome:
        """The same of a second copy, whose answer gets lost whatever it is."""
        return self.host_end.receive(issuer, number)

    def answered_again(self, issuer: int, number: int, outcome: Outcome) -> None:
        """The host's end knows the outcome of a command that has come before."""
        if self.wire is not None:
            self.wire.answer(issuer, number, outcome)

    def connections_break(self, *, faults: bool) -> None:  # noqa: B027 (no streams in one process)
        """That for commands breaks, and with `faults` that for discard faults."""

    def restart_host(self) -> None:
        """The host ends, and another process goes on from what it has written down."""
        before = self.host_end
        self.host = Host.restore(self.host.snapshot(), NO_CHOICES)
        self.host_end = HostEnd(before.issuer_count, before.guards)
        self.host_end.restore(before.snapshot())

    # What commands touch.

    def _calling(self, issuer: int, command: Command) -> Accesses:
        """The step in which a command is issued."""
        if self.wire is not None:
            return self.wire.sending(issuer)
        return self.touched(issuer, command)

    def touched(self, issuer: int, command: Command) -> Accesses:
        """What executing a command touches, and going on with its outcome."""
        on_host = touching.executing(self.host, GUEST, issuer, command)
        return (*on_host, *self.issuers_part(issuer))

    def _check(self, issuer: int) -> Check | None:
        """What is to be told when the issuer's command is executed."""
        if issuer < len(self.kernel.cpus):
            return self.kernel.cpus[issuer].check
        request = self._requests[issuer]
        # What is read from a disk is read before the command.
        return request.check if request.write or request.content else None

    def judged(self, issuer: int) -> Accesses:
        """The outcome, and what an oracle makes of it."""
        check = self._check(issuer)
        return (writes("reply", issuer), *(check.accesses() if check is not None else ()))

    def issuers_part(self, issuer: int) -> Accesses:
        """The same, and a device's block, or a vCPU's interrupt.

        An interrupt that is pending comes before the next command.
        """
        touched: list[Access] = [*self.judged(issuer)]
        if issuer >= len(self.kernel.cpus):
            request = self._requests[issuer]
            if request.write:
                touched.append(writes("disk", touching.block_of(request)))
        elif not (cpu := self.kernel.cpus[issuer]).irq_off:
            touched.append((writes if cpu.interruptible() else reads)("irq", issuer))
        return tuple(touched)

    # What the host has decided.

    def pump(self) -> None:
        """Carry it out."""
        for effect in self.host.take_effects():
            match effect:
                case Completed():
                    self._answer(effect.issuer, effect.outcome)
                case PageOut() | PageIn():
                    self.paging.append(effect)
                case DeliverFault():
                    self.deliver_fault(effect)

    def host_input(self, apply: Callable[..., Any], *arguments: Any) -> None:
        """Let the host do something; what it says is wrong with itself is a violation."""
        try:
            apply(*arguments)
        except AssertionError as error:
            self._violations.append(f"host: {error}")
        self.pump()

    def deliver_fault(self, effect: DeliverFault) -> None:
        """The host sends a discard fault, which arrives at once unless there is a wire."""
        if self.wire is not None:
            self.wire.deliver(effect.fault)
        else:
            self.fault_arrives(effect.fault)

    def fault_arrives(self, fault: DiscardFault) -> None:
        """A discard fault comes to the guest's end of the link."""
        if self.guest_end.fault_received(fault):
            self.kernel.discard_fault_arrived(fault)

    @abstractmethod
    def passes(self) -> bool:
        """Whether a program that comes to a step that is possible takes it at once."""

    # ports.Disk

    @abstractmethod
    def submit(self, request: DiskRequest) -> None:
        """Start a transfer."""


class _NoChoices:
    def choose(self, bound: int) -> int:
        """Never asked: the explorer names its victims itself."""
        raise AssertionError("the explorer chooses victims by name")


NO_CHOICES = _NoChoices()
