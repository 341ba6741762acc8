"""A whole guest under random schedules: programs of system calls, and a host that evicts.

Everything is drawn from one seed; a run is deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.guards import FIXED, Guards
from guest_agent.kernel.kernel import KernelConfig
from guest_agent.kernel.memory import Mm, Vma
from guest_agent.kernel.page import Mapping
from guest_agent.kernel.syscalls import (
    sys_fsync,
    sys_mmap,
    sys_msync,
    sys_munmap,
    sys_read,
    sys_write,
    user_load,
    user_store,
)
from race_explorer.world import SimWorld

EVICT_ODDS = 10
STEPS_MAX = 200_000


@dataclass(frozen=True, slots=True)
class Shape:
    """Small sizes on purpose: everybody meets everybody."""

    vcpus: int = 3
    pages: int = 14
    frames: int = 8
    files: int = 2
    file_pages: int = 8
    operations: int = 100


class Program:
    """One vCPU's random operations."""

    def __init__(self, world: SimWorld, files: list[Mapping], shape: Shape, seed: int) -> None:
        self.random = Random(seed)
        self.files, self.shape = files, shape
        self.mm: Mm = world.kernel.new_mm()
        self.vmas: list[Vma] = []

    async def run(self, cpu: Cpu) -> None:
        calls: list[Callable[[Cpu], Coroutine[Any, Any, None]]] = [
            self.read,
            self.write,
            self.sync,
            self.map,
            self.unmap,
            self.msync,
            self.touch,
        ]
        weights = [30, 15, 5, 10, 5, 5, 30]
        for call in self.random.choices(calls, weights, k=self.shape.operations):
            await call(cpu)
        for vma in self.vmas:
            await sys_munmap(cpu, self.mm, vma)

    def place(self) -> tuple[Mapping, int]:
        return self.random.choice(self.files), self.random.randrange(self.shape.file_pages)

    async def read(self, cpu: Cpu) -> None:
        await sys_read(cpu, *self.place(), 1)

    async def write(self, cpu: Cpu) -> None:
        await sys_write(cpu, *self.place(), 1)

    async def sync(self, cpu: Cpu) -> None:
        await sys_fsync(cpu, self.place()[0])

    async def map(self, cpu: Cpu) -> None:
        file, index = self.place()
        count = self.random.randint(1, self.shape.file_pages - index)
        kind = self.random.choice(["read-only", "shared", "shared", "private"])
        self.vmas.append(
            await sys_mmap(
                cpu,
                self.mm,
                file,
                index,
                # A private page cannot be reclaimed: one at a time.
                1 if kind == "private" else count,
                writable=kind != "read-only",
                shared=kind != "private",
            )
        )
        if len(self.vmas) > 4:
            await sys_munmap(cpu, self.mm, self.vmas.pop(0))

    async def unmap(self, cpu: Cpu) -> None:
        if self.vmas:
            vma = self.vmas.pop(self.random.randrange(len(self.vmas)))
            await sys_munmap(cpu, self.mm, vma)

    async def msync(self, cpu: Cpu) -> None:
        shared = [vma for vma in self.vmas if vma.shared]
        if shared:
            await sys_msync(cpu, self.random.choice(shared))

    async def touch(self, cpu: Cpu) -> None:
        if not self.vmas:
            return
        vma = self.random.choice(self.vmas)
        address = vma.start + self.random.randrange(vma.page_count)
        if vma.writable and self.random.random() < 0.5:
            await user_store(cpu, self.mm, address)
        else:
            await user_load(cpu, self.mm, address)


def run(
    seed: int, guards: Guards = FIXED, shape: Shape | None = None
) -> tuple[SimWorld, list[str]]:
    """One run to its end: the world, and what went wrong."""
    shape = shape or Shape()
    random = Random(seed)
    config = KernelConfig(page_count=shape.pages, vcpu_count=shape.vcpus, guards=guards)
    world = SimWorld(config, frame_count=shape.frames)
    kernel = world.kernel
    files = [kernel.open_file(n + 1, 1, n * 1000) for n in range(shape.files)]
    world.prepare(kernel.boot(kernel.cpus[0]))
    for n in range(shape.vcpus):
        world.run_vcpu(n, Program(world, files, shape, seed * 100 + n).run)
    for _ in range(STEPS_MAX):
        options = world.options()
        if options and random.randrange(EVICT_ODDS) == 0 and len(world.evictions) < 2:
            pfn = random.randrange(1, shape.pages)
            world.evictions += [pfn] if pfn not in world.evictions else []
        if options:
            random.choice(options).run()
        elif not (world.waits_for_frames() and world.reclaim_one()):
            return world, world.finished()
        if world.violations():
            return world, world.violations()
    return world, [f"no end after {STEPS_MAX} steps"]
