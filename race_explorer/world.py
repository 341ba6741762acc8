"""One guest and its host in one process, cut into steps for the engine.

Rules:
- Session, core and kernel are the shipped ones, unchanged; this module only carries what
  passes between them and says what each step touches.
- Every vCPU program, disk transfer, host stage, paging operation and allowed eviction is an
  option of its own; nothing happens between options.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any

from guest_agent.kernel.block import complete, transfer
from guest_agent.kernel.content import TAGS_PER_PAGE, parse_tag
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.kernel import Kernel, KernelConfig
from guest_agent.kernel.page import reads, writes
from guest_agent.kernel.ports import Access, Check, DiskRequest
from guest_agent.kernel.syscalls import sys_sync
from host_daemon.core.config import GuestSpec, HostConfig, HostGuards
from host_daemon.core.effects import (
    CHOOSE_VICTIM,
    Completed,
    DeliverFault,
    PageIn,
    PageOut,
    Stage,
    StageKind,
)
from host_daemon.core.host import Host
from race_explorer import touching
from race_explorer.actors import Actor, SimSchedule, Step, always, stand
from race_explorer.engine import Option
from race_explorer.naming import command_label
from race_explorer.store import MemoryStore
from shared.commands import Command, FaultPending, Outcome
from shared.session.guards import LinkGuards
from shared.session.guest_end import GuestEnd
from shared.session.host_end import HostEnd, Reception

DEVICES = 32
"""More than a small guest can have transfers under way; which of them it is makes no difference."""
SETTLE_STEPS_MAX = 20_000
GUEST = 1


class SimWorld:
    """A host with one guest. Scenarios build one, prepare it, spawn programs, allow evictions.

    reached: situations that scenarios mark. evictions: pfns that the host may still evict,
    each once, whenever it likes. answered: what the last command was told; for people.
    faulting: the vCPU of every discard fault, by number. closing: run on vCPU 0 when all is
    over, before the disks are looked at.
    """

    def __init__(
        self,
        kernel: KernelConfig,
        *,
        host_guards: HostGuards | None = None,
        link_guards: LinkGuards | None = None,
        frame_count: int = 64,
    ) -> None:
        issuers = kernel.vcpu_count + DEVICES
        self.host = Host(
            HostConfig(frame_count, kernel.page_count, guards=host_guards or HostGuards()),
            choices=_NoChoices(),
        )
        self.host.open_guest(GuestSpec("guest", kernel.page_count, kernel.vcpu_count, DEVICES))
        self.host_end = HostEnd(issuers, link_guards or LinkGuards())
        self.guest_end = GuestEnd(issuers, link_guards or LinkGuards())
        self.store = MemoryStore()
        self.kernel = Kernel(kernel, self, SimSchedule(), self)
        self.replies: dict[int, Outcome] = {}
        self.faulting: dict[int, int] = {}
        self.evictions: list[int] = []
        self.marks: set[str] = set()
        self.answered: Outcome | None = None
        self.closing: Callable[[Cpu], Coroutine[Any, Any, None]] | None = None
        self._actors: list[Actor] = []
        self._paging: list[PageOut | PageIn] = []
        self._slots: dict[tuple[int, int], bytes] = {}
        self._devices_free = list(range(kernel.vcpu_count, issuers))
        self._requests: dict[int, DiskRequest] = {}
        self._transfers = 0
        self._violations: list[str] = []

    # ports.Link

    async def call(self, issuer: int, command: Command) -> Outcome:
        """One step; a second one, once the outcome is there, if the host parks the command."""
        await stand(Step(command_label(command), lambda: self._touched(issuer, command), always))
        check = self._check(issuer)
        if check is not None:
            check.begin()
        self.guest_end.submit(issuer, command)
        for vcpu, number, sent in self.guest_end.outgoing():
            if self.host_end.receive(vcpu, number) is Reception.EXECUTE:
                outcome = self.host.execute(GUEST, vcpu, sent)
                if outcome is not None:
                    self._answer(vcpu, outcome)
        self._pump()
        if issuer not in self.replies:
            await stand(
                Step(
                    "parked",
                    lambda: self._issuers_part(issuer),
                    lambda: issuer in self.replies,
                )
            )
        outcome = self.replies.pop(issuer)
        self.answered = outcome
        return outcome

    def fault_settled(self, number: int) -> None:
        """Acknowledge the fault at once."""
        self.guest_end.fault_settled(number)
        for settled in self.guest_end.acknowledgements():
            self.host.acknowledge_fault(GUEST, settled)

    def _answer(self, vcpu: int, outcome: Outcome) -> None:
        if isinstance(outcome, FaultPending):
            self.faulting[outcome.fault] = vcpu
        number = self.host_end.complete(vcpu, outcome)
        if self.guest_end.receive(vcpu, number, outcome):
            self.replies[vcpu] = outcome

    def _touched(self, issuer: int, command: Command) -> tuple[Access, ...]:
        """What executing a command touches, and going on with its outcome."""
        on_host = touching.executing(self.host, GUEST, issuer, command)
        return (*on_host, *self._issuers_part(issuer))

    def _check(self, issuer: int) -> Check | None:
        """What is to be told when the issuer's command is executed."""
        if issuer < len(self.kernel.cpus):
            return self.kernel.cpus[issuer].check
        request = self._requests[issuer]
        # What is read from a disk is read before the command.
        return request.check if request.write or request.content else None

    def _issuers_part(self, issuer: int) -> tuple[Access, ...]:
        """The outcome, and what an oracle makes of it; a device's block, or a vCPU's interrupt.

        An interrupt that is pending comes before the next command.
        """
        touched = [writes("reply", issuer)]
        check = self._check(issuer)
        if check is not None:
            touched += check.accesses()
        if issuer >= len(self.kernel.cpus):
            request = self._requests[issuer]
            if request.write:
                touched.append(writes("disk", touching.block_of(request)))
        elif not (cpu := self.kernel.cpus[issuer]).irq_off:
            touched.append((writes if cpu.interruptible() else reads)("irq", issuer))
        return tuple(touched)

    def _pump(self) -> None:
        """Carry out what the core has decided."""
        for effect in self.host.take_effects():
            match effect:
                case Completed():
                    self._answer(effect.issuer, effect.outcome)
                case PageOut() | PageIn():
                    self._paging.append(effect)
                case DeliverFault():
                    self.deliver_fault(effect)

    def deliver_fault(self, effect: DeliverFault) -> None:
        """A discard fault comes to the guest's end of the link."""
        if self.guest_end.fault_received(effect.fault):
            self.kernel.discard_fault_arrived(effect.fault)

    # ports.Disk

    def submit(self, request: DiskRequest) -> None:
        """Start a transfer as an actor of its own."""
        self._transfers += 1
        self.spawn(f"disk{self._transfers}", self._transfer(request), daemon=True)

    async def _transfer(self, request: DiskRequest) -> None:
        await stand(Step("device", lambda: touching.starting(request), always))
        issuer = self._devices_free.pop(0)
        self._requests[issuer] = request
        result = await transfer(self, self.store, issuer, request)
        self._devices_free.append(issuer)
        await stand(Step("interrupt", lambda: touching.completing(request), always))
        complete(self.kernel, request, result)

    # What scenarios do.

    def spawn(
        self, name: str, program: Coroutine[Any, None, None], *, daemon: bool = False
    ) -> None:
        """Add a program. A daemon, such as a disk transfer, may be unfinished at the end."""
        actor = Actor(name, program, daemon=daemon)
        self._actors.append(actor)
        self._resume(actor)

    def run_vcpu(self, vcpu: int, program: Callable[[Cpu], Coroutine[Any, None, None]]) -> None:
        """Run a program on a vCPU, which afterwards idles and takes interrupts."""
        cpu = self.kernel.cpus[vcpu]

        async def whole() -> None:
            await program(cpu)
            await self.kernel.idle(cpu, lambda: False)

        self.spawn(f"cpu{vcpu}", whole())

    def prepare(self, program: Coroutine[Any, None, None]) -> None:
        """Run a program to its end before the race begins, taking the first option always."""
        self.spawn("prepare", program)
        self._run_first(lambda: not any(a.name == "prepare" for a in self._actors))
        assert not self.violations(), self.violations()

    def evict_now(self, pfn: int) -> None:
        """Let the host evict a page before the race begins, to the end of its paging."""
        self._input(self.host.begin_eviction, GUEST, pfn)
        while option := next((o for o in self._forced() if o.name[:4] in ("host", "pagi")), None):
            option.run()

    def evict(self, pfn: int) -> None:
        """Behind a step that says so: the host chooses this page as a victim, if it can."""
        self._input(self.host.begin_eviction, GUEST, pfn)

    def waits_for_frames(self) -> bool:
        """Whether a command is parked because no frame is free."""
        return self.host.statistics().waiting_for_frame > 0

    def reclaim_one(self) -> bool:
        """Let the host's policy choose a victim; False if there is none."""
        if CHOOSE_VICTIM not in self.host.enabled():
            return False
        self._input(self.host.run, CHOOSE_VICTIM)
        return True

    def actors(self) -> list[str]:
        """Who takes part, by the names that their steps have: programs, then evictions."""
        programs = [actor.name for actor in self._actors if not actor.daemon]
        return programs + [f"host.evict.{pfn}" for pfn in self.evictions]

    def standing(self) -> list[Actor]:
        """All programs, daemons included, each before its next step."""
        return list(self._actors)

    def drop(self, names: Iterable[str]) -> None:
        """Leave actors out before the race begins."""
        for actor in [a for a in self._actors if a.name in names]:
            self._actors.remove(actor)
            actor.program.close()
        self.evictions = [pfn for pfn in self.evictions if f"host.evict.{pfn}" not in names]

    def mark(self, situation: str, when: Callable[[], bool] = always) -> None:
        """Note that an interesting situation was reached.

        when: a look that decides that alone, and is therefore no part of the step.
        """
        if when():
            self.marks.add(situation)

    # engine.World

    def options(self) -> list[Option]:
        """Programs in the order of spawning, then host stages, paging, evictions."""
        return [*self._forced(), *(self._eviction_option(pfn) for pfn in self.evictions)]

    def _forced(self) -> Iterator[Option]:
        """Everything but the evictions that the host is free to make."""
        for actor in self._actors:
            step = actor.step
            if step is not None and step.ready():
                yield Option(actor.name, step.label, step.accesses(), partial(self._resume, actor))
        for stage in self.host.enabled():
            if stage.kind is not StageKind.CHOOSE_VICTIM:
                yield self._stage_option(stage)
        yield from map(self._paging_option, list(self._paging))

    def _stage_option(self, stage: Stage) -> Option:
        kind, _, number = stage
        name = f"host.{kind.name.lower()}.{number}"
        touched = touching.working(stage, self.faulting.get(number, 0))
        return Option(name, kind.name.lower(), touched, lambda: self._input(self.host.run, stage))

    def _paging_option(self, operation: PageOut | PageIn) -> Option:
        def run() -> None:
            self._paging.remove(operation)
            key = (operation.slot, operation.generation)
            if isinstance(operation, PageOut):
                self._slots[key] = operation.data
                self._input(self.host.page_out_done, operation.operation, True)
            else:
                self._input(self.host.page_in_done, operation.operation, self._slots.get(key))

        what = "page_out" if isinstance(operation, PageOut) else "page_in"
        return Option(f"paging.{operation.operation}", what, touching.PAGING, run)

    def _eviction_option(self, pfn: int) -> Option:
        def run() -> None:
            self.evictions.remove(pfn)
            self._input(self.host.begin_eviction, GUEST, pfn)

        return Option(f"host.evict.{pfn}", "begin_eviction", (writes("host", pfn),), run)

    def _input(self, apply: Callable[..., Any], *arguments: Any) -> None:
        try:
            apply(*arguments)
        except AssertionError as error:
            self._violations.append(f"host: {error}")
        self._pump()

    def _resume(self, actor: Actor) -> None:
        try:
            actor.step = actor.program.send(None)
        except StopIteration:
            self._actors.remove(actor)
        except (KernelBug, AssertionError) as error:
            self._actors.remove(actor)
            self._violations.append(f"{actor.name}: {error}")

    def violations(self) -> list[str]:
        """Kernel bugs, host assertions and integrity errors."""
        errors = self.kernel.integrity_errors
        return [*self._violations, *(e.what for e in errors)] if errors else self._violations

    def finished(self) -> list[str]:
        """Nobody can go on: report a deadlock, or settle and check every block at rest."""
        stuck = [a for a in self._actors if a.step is not None and a.step.label != "idle"]
        if stuck:
            return [
                "deadlock: " + ", ".join(f"{a.name} at {a.step.label}" for a in stuck if a.step)
            ]
        # The idle vCPUs stay: a grace period needs their answers.
        self.spawn("settle", self._settle(self.kernel.cpus[0]))
        self._run_first(lambda: not any(a.name == "settle" for a in self._actors))
        return self.violations() or self._disk_errors()

    async def _settle(self, cpu: Cpu) -> None:
        if self.closing is not None:
            await self.closing(cpu)
        await sys_sync(cpu)
        await self.kernel.verify(cpu)

    def _disk_errors(self) -> list[str]:
        """Blocks on the disk that hold what no load may see."""
        errors = []
        disks = {mapping.disk for mapping in self.kernel.mappings.values()}
        for key, (data, repeat) in sorted(self.store.blocks.items()):
            if key[0] not in disks:
                continue  # the swap device and the like, checked when they are read
            seen = parse_tag(data)
            legal = self.kernel.ledger.legal(key)
            if repeat != TAGS_PER_PAGE or seen is None or seen[:2] != key or seen[2] not in legal:
                errors.append(f"disk {key[0]} block {key[1]} holds {seen}, legal are {legal}")
        return errors

    def _run_first(self, done: Callable[[], bool]) -> None:
        """Let whoever comes first go on, always; if nobody can, the host chooses a victim."""
        for _ in range(SETTLE_STEPS_MAX):
            if done() or self.violations():
                return
            actor = next((a for a in self._actors if a.step is not None and a.step.ready()), None)
            if actor is not None:
                self._resume(actor)
            elif option := next(self._forced(), None):
                option.run()
            elif not self._tick() and not self.reclaim_one():
                self._violations.append("deadlock while no race was on")
        self._violations.append(f"no end after {SETTLE_STEPS_MAX} steps while no race was on")

    def _tick(self) -> bool:
        """A timer interrupt for every vCPU that has a use for one; False if none has."""
        wanted = [c.number for c in self.kernel.cpus if self.kernel.tick_wanted(c.number)]
        for number in wanted:
            self.kernel.tick(number)
        return bool(wanted)

    def reached(self) -> set[str]:
        """The marks, and what the counters show."""
        counted = self.kernel.statistics
        found = set(self.marks)
        found |= {"discard fault"} if counted.discard_faults else set()
        found |= {"make_stable failed"} if counted.stable_failed else set()
        found |= {"discarded"} if counted.pages_discarded else set()
        return found


class _NoChoices:
    def choose(self, bound: int) -> int:
        """Never asked: the explorer names its victims itself."""
        raise AssertionError("the explorer chooses victims by name")
