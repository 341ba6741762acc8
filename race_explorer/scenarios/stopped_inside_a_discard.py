"""The host is stopped and resumed while it takes a page away from its guest.

A page is mapped writable, clean and potential volatile. The host has picked it; between the stages
of an eviction, access removed, change bit read, page dropped, it is told to stop. What it knows of
the eviction is written down with the rest, and the process that goes on does the next stage, not
the first one: a store that it has seen by then has to cancel it as ever. The guest notices nothing
but that its connections are gone. Its store was executed, perhaps, and the outcome was on its way;
sent again under its old number it is answered from the session that was written down as well.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.syscalls import sys_exit, sys_fsync, sys_mmap, sys_msync, user_store
from race_explorer.faults import FaultBudget, allow_faults
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU that stores through its mapping, one eviction; the host is stopped once."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=True)
        await user_store(cpu, mm, vma.start)
        await sys_msync(cpu, vma)
        await sys_fsync(cpu, file)

    async def store(cpu: Cpu) -> None:
        await user_store(cpu, mm, mm.vmas[0].start)
        world.mark("stored")

    async def close(cpu: Cpu) -> None:
        await sys_exit(cpu, mm)  # which looks at the change bit

    world.closing = close
    world.prepare(prepare())
    world.evictions.append(file.pages[0].pfn)
    allow_faults(world, FaultBudget.parse("checkpoint=1"))
    world.run_vcpu(0, store)
    return world


SCENARIO = Scenario(
    name="stopped-inside-a-discard",
    races=("R45",),
    guards=("resend_outstanding",),
    damage=("deadlock: cpu0 at reply",),
    sometimes=(
        "stored",
        "discarded",
        "resumed inside an eviction",
        "the last number is answered from memory",
    ),
    build=build,
    bound=400,
)
