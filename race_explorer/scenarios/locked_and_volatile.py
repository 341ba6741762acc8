"""mlock brings a page in, the host discards it, and the program faults on locked memory.

The put after make_pages_present makes the page volatile again, unless its file is marked by
then: marked after the pages were brought in, it comes too late for them, and nothing ever makes
them stable again. So the mark comes first (guard mlock_marks_mapping).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page import reads, writes
from guest_agent.kernel.syscalls import sys_mlock, sys_mmap, user_load
from race_explorer.scenarios.pieces import new_world, touch_through
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU, one mapped page, one eviction."""
    world = new_world(protections, vcpu_count=1, page_count=4)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=False)
        await user_load(cpu, mm, vma.start)

    async def lock_and_touch(cpu: Cpu) -> None:
        (vma,) = mm.vmas
        assert await sys_mlock(cpu, mm, vma)
        world.mark("locked")
        await cpu.point("pte.translate", reads("pte", pte.number), writes("tlb", pte.number))
        assert not await touch_through(cpu, pte), "a page of locked memory was discarded"

    world.prepare(prepare())
    (pte,) = mm.ptes.values()
    world.evictions.append(file.pages[0].pfn)
    world.run_vcpu(0, lock_and_touch)
    return world


SCENARIO = Scenario(
    name="locked-and-volatile",
    races=("R31",),
    guards=("mlock_marks_mapping",),
    damage=("a page of locked memory was discarded",),
    sometimes=("locked", "make_stable failed"),
    build=build,
)
