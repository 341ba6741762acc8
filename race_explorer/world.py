"""One guest and its host in one process, cut into steps for the engine.

Rules:
- Every vCPU program, disk transfer, host stage, paging operation and allowed eviction is an
  option of its own; nothing happens between options.
- Whoever adds a source adds options after these; without one they are what they always were.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from operator import call
from typing import Any

from guest_agent.kernel.block import complete, transfer
from guest_agent.kernel.content import TAGS_PER_PAGE, parse_tag
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.kernel import KernelConfig
from guest_agent.kernel.page import writes
from guest_agent.kernel.ports import Accesses, DiskRequest
from guest_agent.kernel.syscalls import sys_sync
from host_daemon.core.config import HostGuards
from host_daemon.core.effects import CHOOSE_VICTIM, PageIn, PageOut, Stage
from race_explorer import touching
from race_explorer.actors import Actor, Program, Step, always, never, stand
from race_explorer.engine import Option
from race_explorer.linked_guest import GUEST as GUEST
from race_explorer.linked_guest import LinkedGuest
from race_explorer.naming import paging_name, stage_name
from race_explorer.rebooted import nothing, read_again
from race_explorer.source import Source
from race_explorer.store import MemoryStore
from shared.session.guards import LinkGuards

SETTLE_STEPS_MAX = 20_000


class SimWorld(LinkedGuest):
    """A host with one guest. Scenarios build one, prepare it, spawn programs, allow evictions.

    marks: situations that scenarios have marked. evictions: pfns that the host may still evict,
    each once, whenever it likes. closing: run on vCPU 0 when all is over, before the disks are
    looked at. sources: of further steps. has_timer: once nobody can go on, time passes.
    """

    def __init__(
        self,
        kernel: KernelConfig,
        *,
        host_guards: HostGuards | None = None,
        link_guards: LinkGuards | None = None,
        frame_count: int = 64,
    ) -> None:
        self.store = MemoryStore()
        self.evictions: list[int] = []
        self.marks: set[str] = set()
        self.closing: Callable[[Cpu], Coroutine[Any, Any, None]] | None = None
        self.sources: list[Source] = []
        self.has_timer = False
        self._settling = False
        self._actors: list[Actor] = []
        self._to_begin = False
        self._before: list[Callable[[], bool]] | None = None
        self._steps_left = 0
        self._transfers = 0
        self._devices: dict[int, str] = {}
        super().__init__(kernel, host_guards, link_guards, frame_count)

    # ports.Disk

    def submit(self, request: DiskRequest) -> None:
        """Start a transfer as an actor of its own."""
        self._transfers += 1
        name = f"disk{self._transfers}"
        self.spawn(name, self._transfer(name, request), daemon=True)

    async def _transfer(self, name: str, request: DiskRequest) -> None:
        if not self.passes():
            await stand(Step("device", lambda: touching.starting(request), always))
        issuer = self._devices_free.pop(0)
        self._requests[issuer], self._devices[issuer] = request, name
        result = await transfer(self, self.store, issuer, request)
        self._devices_free.append(issuer)
        if not self.passes():
            await stand(Step("interrupt", lambda: touching.completing(request), always))
        complete(self.kernel, request, result)

    # What scenarios do.

    def spawn(self, name: str, program: Program, *, daemon: bool = False) -> None:
        """Add a program. A daemon, such as a disk transfer, may be unfinished at the end."""
        actor = self._add(name, lambda: program, daemon=daemon)
        actor.program = program
        # Whoever does this may be passing steps; the new program comes to its first one only.
        spawner, self._before = self._before, None
        self._resume(actor)
        self._before = spawner

    def spawn_later(self, name: str, begin: Callable[[], Program], *, daemon: bool = False) -> None:
        """Add a program that begins when somebody asks for the first step of the race."""
        self._add(name, begin, daemon=daemon)
        self._to_begin = True

    def _add(self, name: str, begin: Callable[[], Program], *, daemon: bool) -> Actor:
        actor = Actor(name, begin, self._resume, daemon)
        self._actors.append(actor)
        return actor

    def run_vcpu(self, vcpu: int, program: Callable[[Cpu], Coroutine[Any, Any, None]]) -> None:
        """Run a program on a vCPU, which afterwards idles and takes interrupts."""
        self.spawn_later(f"cpu{vcpu}", partial(self._on_vcpu, self.kernel.cpus[vcpu], program))

    async def _on_vcpu(self, cpu: Cpu, program: Callable[[Cpu], Coroutine[Any, Any, None]]) -> None:
        await program(cpu)
        await self.kernel.idle(cpu, never if cpu.number else self._is_settling)

    def _begin(self) -> None:
        """Whoever was not begun yet comes to its first step."""
        self._to_begin = False
        for actor in [actor for actor in self._actors if actor.program is None]:
            actor.program = actor.begin()
            self._resume(actor)

    def abandon(self) -> None:
        """Nobody goes on any more, and the world is not used again as it is."""
        for actor in self._actors:
            if actor.program is not None:
                actor.program.close()

    def prepare(self, program: Coroutine[Any, None, None]) -> None:
        """Run a program to its end before the race begins, taking the first option always."""
        self.spawn("prepare", program)
        self._run_first(lambda: not any(a.name == "prepare" for a in self._actors))
        assert not self.violations(), self.violations()

    def evict_now(self, pfn: int) -> None:
        """Let the host evict a page before the race begins, to the end of its paging."""
        self.host_input(self.host.begin_eviction, GUEST, pfn)
        while option := next((o for o in self._forced() if o.name[:4] in ("host", "pagi")), None):
            option.run()

    def evict(self, pfn: int) -> None:
        """Behind a step that says so: the host chooses this page as a victim, if it can."""
        self.host_input(self.host.begin_eviction, GUEST, pfn)

    def waits_for_frames(self) -> bool:
        """Whether a command is parked because no frame is free."""
        return self.host.statistics().waiting_for_frame > 0

    def reclaim_one(self) -> bool:
        """Let the host's policy choose a victim; False if there is none."""
        if CHOOSE_VICTIM not in self.host.enabled():
            return False
        self.host_input(self.host.run, CHOOSE_VICTIM)
        return True

    def actors(self) -> list[str]:
        """Who takes part, by the names that their steps have: programs, then evictions."""
        programs = [actor.name for actor in self._actors if not actor.daemon]
        return programs + [f"host.evict.{pfn}" for pfn in self.evictions]

    def standing(self) -> list[Actor]:
        """All programs, daemons included, each before its next step."""
        if self._to_begin:
            self._begin()
        return list(self._actors)

    def issuer_name(self, issuer: int) -> str:
        """The actor whose commands these are now."""
        cpus = len(self.kernel.cpus)
        return f"cpu{issuer}" if issuer < cpus else self._devices[issuer]

    def drop(self, names: Iterable[str]) -> None:
        """Leave actors out before the race begins."""
        for actor in [a for a in self._actors if a.name in names]:
            self._actors.remove(actor)
            if actor.program is not None:
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
        """Programs in the order of spawning, then host stages, paging, what sources have due,
        evictions, and what they have besides."""
        options = self._forced()
        if self.evictions:
            options += map(self._eviction_option, self.evictions)
        for source in self.sources if options else ():
            options += source.possible()
        return options

    def waiting(self) -> list[Option]:
        """Programs before a step that is not possible yet."""
        if self._to_begin:
            self._begin()
        return [
            Option(actor.name, step.label, step.accesses, actor.run)
            for actor in self._actors
            if (step := actor.step) is not None and not step.ready()
        ]

    def _forced(self) -> list[Option]:
        """Everything but the evictions that the host is free to make."""
        if self._to_begin:
            self._begin()
        options = []
        for actor in self._actors:
            step = actor.step
            if step is not None and (step.ready is always or step.ready()):
                options.append(Option(actor.name, step.label, step.accesses, actor.run))
        if stages := self.stages():
            options += map(self._stage_option, stages)
        if self.paging:
            options += map(self._paging_option, self.paging)
        for source in self.sources:
            options += source.due()
        return options

    def stages(self) -> list[Stage]:
        """What the host could do by itself, but for the choice of a victim."""
        return self.host.enabled_stages()

    def _stage_option(self, stage: Stage) -> Option:
        touched = partial(self._working, stage)
        return Option(*stage_name(stage), touched, partial(self.run_stage, stage))

    def _working(self, stage: Stage) -> Accesses:
        working = touching.working if self.wire is None else self.wire.working
        return working(stage, self.faulting.get(stage.number, 0))

    def run_stage(self, stage: Stage) -> None:
        """Let the host do a stage that is enabled."""
        self.host_input(self.host.run, stage)

    def _paging_option(self, operation: PageOut | PageIn) -> Option:
        run = partial(self.finish_paging, operation)
        return Option(*paging_name(operation), touching.PAGING, run)

    def finish_paging(self, operation: PageOut | PageIn, *, ok: bool = True) -> None:
        """The paging device has done it, or could not."""
        self.paging.remove(operation)
        key = (operation.slot, operation.generation)
        if isinstance(operation, PageOut):
            if ok:
                self._slots[key] = operation.data
            self.host_input(self.host.page_out_done, operation.operation, ok)
        else:
            data = self._slots.get(key) if ok else None
            self.host_input(self.host.page_in_done, operation.operation, data)

    def _eviction_option(self, pfn: int) -> Option:
        run = partial(self._evict_at_last, pfn)
        return Option(f"host.evict.{pfn}", "begin_eviction", (writes("host", pfn),), run)

    def _evict_at_last(self, pfn: int) -> None:
        self.evictions.remove(pfn)
        self.host_input(self.host.begin_eviction, GUEST, pfn)

    def _resume(self, actor: Actor) -> None:
        program = actor.program
        assert program is not None
        try:
            actor.step = program.send(None)
        except StopIteration:
            self._actors.remove(actor)
        except (KernelBug, AssertionError) as error:
            self._actors.remove(actor)
            self._violations.append(f"{actor.name}: {error}")

    def reboot(self) -> None:
        """The guest is gone with all that it did. One with its disk begins, and reads it again."""
        self.marks = self.reached()
        self._violations = [*self.violations()]
        self.abandon()
        self._actors.clear()
        self.closing = None
        before = self.kernel
        before.ledger.power_failed()
        self.new_guest(before.ledger)
        if self.wire is not None:
            self.wire.begin()
        self.run_vcpu(0, partial(read_again, list(before.mappings.values())))
        for vcpu in range(1, len(self.kernel.cpus)):
            self.run_vcpu(vcpu, nothing)

    def violations(self) -> list[str]:
        """Kernel bugs, host assertions and integrity errors."""
        errors = self.kernel.integrity_errors
        return [*self._violations, *(e.what for e in errors)] if errors else self._violations

    def finished(self) -> list[str]:
        """Nobody can go on: report a deadlock, or settle and check every block at rest."""
        if self.has_timer and self._stuck():
            self._run_first(lambda: not self._stuck())
        stuck = self._stuck()
        if stuck:
            return self.violations() or [f"deadlock: {', '.join(stuck)}"]
        # The other idle vCPUs stay: a grace period needs their answers. This one stops idling, or
        # its interrupts would be taken by a second program, in the middle of a call of the first.
        self._settling = True
        self.spawn("settle", self._settle(self.kernel.cpus[0]))
        self._run_first(lambda: not any(a.name == "settle" for a in self._actors))
        wrong = self.violations() or self._disk_errors()
        for source in self.sources:
            wrong = wrong or source.left_over()
        return wrong

    def _stuck(self) -> list[str]:
        """Who neither idles nor has ended, and where."""
        standing = ((actor.name, actor.step) for actor in self._actors)
        return [
            f"{name} at {step.label}" for name, step in standing if step and step.label != "idle"
        ]

    def _is_settling(self) -> bool:
        return self._settling

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
        if self._to_begin:
            self._begin()
        self._steps_left = SETTLE_STEPS_MAX
        while self._steps_left:
            self._steps_left -= 1
            if done() or self.violations():
                return
            actor = next((a for a in self._actors if a.step is not None and a.step.ready()), None)
            if actor is not None:
                self._before = self._ready_before(actor)
                self._resume(actor)
                self._before = None
            elif options := self._forced():
                options[0].run()
            elif not self._tick() and not self.reclaim_one():
                self._violations.append("deadlock while no race was on")
        self._violations.append(f"no end after {SETTLE_STEPS_MAX} steps while no race was on")

    def _ready_before(self, actor: Actor) -> list[Callable[[], bool]]:
        """Of everybody who comes before the actor: whether he could go on."""
        before = self._actors[: self._actors.index(actor)]
        return [other.step.ready for other in before if other.step is not None]

    def passes(self) -> bool:
        """Not in a race. Before and after it, if the program would be the first again."""
        before = self._before
        if before is None or not self._steps_left or self.violations():
            return False
        self._steps_left -= 1
        return not any(map(call, before))

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
