"""A whole guest under random schedules: everything its kernel does, and a host that evicts.

Everything is drawn from one seed; a run is deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import Any

from guest_agent.kernel import invariants
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.grace import Grace
from guest_agent.kernel.guards import FIXED, Guards
from guest_agent.kernel.kernel import KernelConfig
from guest_agent.workload.mixed import Weights, operations
from guest_agent.workload.operations import Operation
from guest_agent.workload.operations import Shape as ProgramShape
from guest_agent.workload.program import Machine
from race_explorer.world import SimWorld

EVICT_ODDS = 10
TICK_ODDS = 40
STEPS_MAX = 400_000
LOOK_EVERY = 16
"""Steps between two looks at what holds at every step."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Small sizes on purpose: everybody meets everybody."""

    vcpus: int = 3
    pages: int = 24
    frames: int = 12
    swap_pages: int = 12
    operations: int = 60
    minor_faults: bool = False
    grace: Grace = Grace.CALL
    weights: Weights = field(default_factory=Weights)
    program: ProgramShape = field(
        default_factory=lambda: ProgramShape(
            files=2,
            file_pages=8,
            processes=2,
            areas=3,
            area_pages=3,
            private_pages=5,
            locked_pages=2,
        )
    )


class RandomGuest:
    """One run of a world that executes given operations on each vCPU."""

    def __init__(
        self, shape: Shape, guards: Guards, programs: list[list[Operation]], seed: int
    ) -> None:
        self.shape = shape
        self.random = Random(seed)
        config = KernelConfig(
            page_count=shape.pages,
            vcpu_count=shape.vcpus,
            guards=guards,
            swap_pages=shape.swap_pages,
            minor_faults=shape.minor_faults,
            grace=shape.grace,
        )
        self.world = SimWorld(config, frame_count=shape.frames)
        self.kernel = self.world.kernel
        self.machine = Machine(self.kernel, shape.program)
        self.broken: list[str] = []
        self._running = shape.vcpus
        self.world.prepare(self.kernel.boot(self.kernel.cpus[0]))
        for vcpu, program in enumerate(programs):
            self.world.run_vcpu(vcpu, self._program(program))

    def _program(self, program: list[Operation]) -> Callable[[Cpu], Coroutine[Any, Any, None]]:
        async def run(cpu: Cpu) -> None:
            await self.machine.run(cpu, program)
            self._running -= 1
            if self._running == 0:
                # All others idle. First with everything mapped, then with nothing.
                self.broken += await invariants.check(self.kernel, cpu)
                await self.machine.finish(cpu)
                self.broken += await invariants.check(self.kernel, cpu)

        return run

    def run(self) -> list[str]:
        """To the end; what went wrong."""
        world, random = self.world, self.random
        for step in range(STEPS_MAX):
            if step % LOOK_EVERY == 0 and (found := invariants.at_every_step(self.kernel)):
                return found
            options = world.options()
            if options and random.randrange(EVICT_ODDS) == 0 and len(world.evictions) < 2:
                pfn = random.randrange(1, self.shape.pages)
                world.evictions += [pfn] if pfn not in world.evictions else []
            if random.randrange(TICK_ODDS) == 0:
                self.kernel.tick(random.randrange(self.shape.vcpus))
            if options:
                random.choice(options).run()
            elif not (world.waits_for_frames() and world.reclaim_one()):
                return world.violations() or self.broken or world.finished()
            if world.violations():
                return world.violations()
        return [f"no end after {STEPS_MAX} steps"]


def random_guest(seed: int, guards: Guards = FIXED, shape: Shape | None = None) -> RandomGuest:
    """A guest whose programs are drawn from the seed, before its first step."""
    shape = shape or Shape()
    programs = [
        list(islice(operations(seed, vcpu, shape.weights, shape.program), shape.operations))
        for vcpu in range(shape.vcpus)
    ]
    return RandomGuest(shape, guards, programs, seed)


def run(
    seed: int, guards: Guards = FIXED, shape: Shape | None = None
) -> tuple[RandomGuest, list[str]]:
    """One run of a seed to its end: the guest, and what went wrong."""
    guest = random_guest(seed, guards, shape)
    return guest, guest.run()
