"""A guest that does again what its log says: the shipped kernel, session and workload.

Rules:
- Kernel, workload, disk queue and session are those of a real guest; the doors make every step of
  a vCPU or of a device one that somebody has to take.
- The log decides who goes on; what he does then is his own, and is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from types import coroutine
from typing import Any, Final

from guest_agent.kernel.block import Block, GuestDisk, block_of_bytes, transfer
from guest_agent.kernel.cpu import KernelBug
from guest_agent.kernel.kernel import Kernel, KernelConfig
from guest_agent.kernel.ports import Accesses, DiskRequest, DiskResult, Vcpu
from guest_agent.workload.course import DONE, Course, failure_text
from guest_agent.workload.mixed import Mix
from guest_agent.workload.plan import DISK, Plan
from guest_agent.workload.replay import Access
from race_explorer.actors import always
from race_explorer.recorded.log import GuestRun, GuestStep, Kind
from race_explorer.store import MemoryStore
from shared.commands import Command, DiscardFault, Outcome
from shared.runlog.records import BEGIN, BOOT, command_text, disk_label, fault_text, step_text
from shared.session.guest_end import GuestEnd

INTERRUPTED: Final = ", an interrupt first"


@dataclass(frozen=True, slots=True)
class RecordedGuest:
    """What a guest was made from, and its log. issuer_count: vCPUs, then devices."""

    name: str
    guest_id: int
    kernel: KernelConfig
    issuer_count: int
    plan: Plan | Mix
    access: Access
    run: GuestRun


class Standing:
    """What an actor is about to do. command: that it has handed to the link, or None."""

    __slots__ = ("actor", "command", "label", "number", "ready", "vcpu")

    def __init__(
        self,
        actor: int,
        label: str,
        number: int | None = None,
        *,
        vcpu: Vcpu | None = None,
        ready: Callable[[], bool] = always,
        command: Command | None = None,
    ) -> None:
        self.actor = actor
        self.label = label
        self.number = number
        self.vcpu = vcpu
        self.ready = ready
        self.command = command

    def text(self) -> str:
        """As a log spells it, with what keeps the actor from doing it."""
        if self.command is not None:
            return command_text(self.command)
        text = step_text(self.label, self.number)
        if self.vcpu is not None and self.vcpu.interruptible():
            return text + INTERRUPTED
        return text if self.ready() else f"a wait for {text}"


@coroutine
def _stand(step: Standing) -> Generator[Standing, None, None]:
    yield step


class _Schedule:
    """Every point is a step that somebody has to take."""

    @coroutine
    def point(self, vcpu: Vcpu, label: str, accesses: Accesses) -> Generator[Standing, None, bool]:
        """One step."""
        number = accesses[0].resource[1] if accesses else None
        yield Standing(vcpu.number, label, number, vcpu=vcpu)
        return vcpu.interruptible()

    @coroutine
    def wait_until(
        self, vcpu: Vcpu, condition: Callable[[], bool], label: str, accesses: Accesses
    ) -> Generator[Standing, None, bool]:
        """One step, possible while the condition holds or an interrupt is to be taken."""
        number = accesses[0].resource[1] if accesses else None
        yield Standing(vcpu.number, label, number, vcpu=vcpu, ready=condition)
        return vcpu.interruptible()

    def interrupt_raised(self, vcpu: Vcpu) -> None:
        """Nothing: the log says who goes on."""


@dataclass(slots=True)
class _Actor:
    program: Coroutine[Any, Any, None]
    step: Standing | None = None


class GuestAgain:
    """One guest, from its boot on. position: steps taken. failure: why its kernel has stopped.

    sent: the last command of each issuer. faults: what the host has delivered. settled: faults
    that may be acknowledged. It is the kernel's link.
    """

    def __init__(self, recorded: RecordedGuest) -> None:
        self.recorded = recorded
        self.steps = recorded.run.steps
        self.position = 0
        self.failure: str | None = None
        self.sent: dict[int, tuple[int, Command]] = {}
        self.faults: dict[int, DiscardFault] = {}
        self.settled: set[int] = set()
        self._end = GuestEnd(recorded.issuer_count)
        self._replies: dict[int, tuple[Outcome, int]] = {}
        self._actors: dict[int, _Actor] = {}
        self.course = Course(recorded.plan, recorded.access, _nobody_waits)
        issuers = range(recorded.kernel.vcpu_count, recorded.issuer_count)
        disk = _Disk(self, _Store(), issuers, self._begin_transfer)
        self.kernel = Kernel(recorded.kernel, self, _Schedule(), disk)
        disk.attach(self.kernel)

    # ports.Link

    async def call(self, issuer: int, command: Command) -> Outcome:
        """Send it; the outcome is taken when the log says so."""
        self._end.submit(issuer, command)
        for sender, number, sent in self._end.outgoing():
            self.sent[sender] = number, sent
        await _stand(Standing(issuer, "", command=command))
        outcome, _ = self._replies.pop(issuer)
        return outcome

    def fault_settled(self, number: int) -> None:
        """The fault may be acknowledged."""
        self._end.fault_settled(number)
        self.settled.update(self._end.acknowledgements())

    def answered(self, issuer: int, number: int, outcome: Outcome, host_step: int) -> None:
        """The host knows the outcome of a command."""
        if self._end.receive(issuer, number, outcome):
            self._replies[issuer] = outcome, host_step

    # Actors

    def _begin_transfer(self, program: Coroutine[Any, Any, None]) -> None:
        step: Standing = program.send(None)
        self._actors[step.actor] = _Actor(program, step)

    def _begin(self, vcpu: int, text: str) -> None:
        cpu = self.kernel.cpus[vcpu]
        if text == BEGIN and self.course.kernel is not self.kernel:
            self.course.begin(self.kernel)
        program = self.kernel.boot(cpu) if text == BOOT else self.course.vcpu(cpu)
        self._resume(vcpu, _Actor(program))

    def _resume(self, number: int, actor: _Actor) -> None:
        self._actors[number] = actor
        try:
            actor.step = actor.program.send(None)
        except StopIteration:
            del self._actors[number]
        except (KernelBug, AssertionError) as error:
            del self._actors[number]
            self.failure = self.failure or failure_text(error)

    def program(self, actor: int) -> Coroutine[Any, Any, None] | None:
        """What an actor runs, if it runs anything."""
        found = self._actors.get(actor)
        return None if found is None else found.program

    # The log

    def next_step(self) -> GuestStep | None:
        """The step that the log has next."""
        return self.steps[self.position] if self.position < len(self.steps) else None

    def waits(self, step: GuestStep, host_steps: int) -> bool:
        """Whether the host, which has done so many steps, must do more before this one."""
        if step.kind is Kind.ANSWER:
            return step.value > host_steps
        return step.kind is Kind.FAULT and step.value not in self.faults

    def take(self, step: GuestStep) -> tuple[str, str] | None:
        """Do the next step. If it is another than the log's: (recorded, now)."""
        self.position += 1
        return _TAKE[step.kind](self, step)

    def _take_step(self, step: GuestStep) -> tuple[str, str] | None:
        actor = self._actors.get(step.actor)
        if step.text in (BOOT, BEGIN):
            if actor is not None or step.actor >= len(self.kernel.cpus):
                return step.text, self._stands(step.actor)
            self._begin(step.actor, step.text)
            return None
        recorded = step.text + INTERRUPTED if step.value else step.text
        if actor is None or actor.step is None or actor.step.command is not None:
            return recorded, self._stands(step.actor)
        now = actor.step.text()
        if now != recorded:
            return recorded, now
        self._resume(step.actor, actor)
        return None

    def _take_command(self, step: GuestStep) -> tuple[str, str] | None:
        now = self._stands(step.actor)
        return None if now == step.text else (step.text, now)

    def _take_answer(self, step: GuestStep) -> tuple[str, str] | None:
        actor = self._actors.get(step.actor)
        outcome, host_step = self._replies.get(step.actor, (None, 0))
        if actor is None or outcome is None or host_step != step.value:
            now = "no outcome" if outcome is None else f"the outcome of the host's step {host_step}"
            return f"the outcome of the host's step {step.value}", now
        self._resume(step.actor, actor)
        return None

    def _take_tick(self, step: GuestStep) -> tuple[str, str] | None:
        if not 0 <= step.actor < len(self.kernel.cpus) or not self.kernel.tick_wanted(step.actor):
            return f"a tick of vcpu {step.actor}", "none is wanted"
        self.kernel.tick(step.actor)
        return None

    def _take_fault(self, step: GuestStep) -> tuple[str, str] | None:
        fault = self.faults[step.value]
        if (now := fault_text(fault)) != step.text:
            return step.text, now
        if not self._end.fault_received(fault):
            return step.text, "it has come before"
        self.kernel.discard_fault_arrived(fault)
        return None

    def _stands(self, actor: int) -> str:
        found = self._actors.get(actor)
        return "nothing" if found is None or found.step is None else found.step.text()

    def result(self) -> dict[str, Any]:
        """How the run has ended, in the words of a log's last record."""
        unfinished = any(actor < len(self.kernel.cpus) for actor in self._actors)
        ending = self.failure or ("unfinished" if unfinished else DONE)
        return {"ending": ending, **self.course.result(self.kernel)}


_TAKE: Final[dict[Kind, Callable[[GuestAgain, GuestStep], tuple[str, str] | None]]] = {
    Kind.STEP: GuestAgain._take_step,
    Kind.COMMAND: GuestAgain._take_command,
    Kind.ANSWER: GuestAgain._take_answer,
    Kind.TICK: GuestAgain._take_tick,
    Kind.FAULT: GuestAgain._take_fault,
}


class _Store(MemoryStore):
    """A disk in memory that gives back what a file would."""

    async def write(self, disk: int, block: int, content: Block) -> None:
        """Replace the block."""
        if disk == DISK:
            content = block_of_bytes(content[0] * content[1], disk, block)
        await super().write(disk, block, content)


class _Disk(GuestDisk):
    """The guest's disk, whose devices stand before each part of a transfer."""

    async def move(self, issuer: int, request: DiskRequest) -> DiskResult:
        """As the other disk."""
        await _stand(Standing(issuer, disk_label("begin", request.disk), request.block))
        return await transfer(self._link, _Seen(self._store, issuer), issuer, request)


@dataclass(slots=True)
class _Seen:
    """The blocks as one device reaches them."""

    store: Any
    issuer: int

    async def read(self, disk: int, block: int) -> Block:
        """One step."""
        await _stand(Standing(self.issuer, disk_label("read", disk), block))
        content: Block = await self.store.read(disk, block)
        return content

    async def write(self, disk: int, block: int, content: Block) -> None:
        """One step."""
        await _stand(Standing(self.issuer, disk_label("write", disk), block))
        await self.store.write(disk, block, content)


def _nobody_waits(_: object) -> None:
    """Conditions are looked at when the log says so."""
