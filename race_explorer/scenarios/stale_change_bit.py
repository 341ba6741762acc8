"""R50: a clean volatile page still has its change bit set, and is discarded at the unmap.

A write system call sets the change bit of a cached page; writeback cleans the page and
leaves C alone. Mapped read-only the page is volatile, and the host may discard it without a
look at C. At the last unmap page_remove_rmap sees C set, wants to make the page stable, and
the 2005 series has BUG_ON if that fails, which it rightly does when the host was faster.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.filemap import sys_read, sys_write
from guest_agent.kernel.syscalls import sys_fsync, sys_mmap, sys_munmap, user_load
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU that unmaps, one eviction."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        await sys_read(cpu, file, 0, 1)
        await sys_write(cpu, file, 0, 1)
        await sys_fsync(cpu, file)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=False)
        await user_load(cpu, mm, vma.start)

    async def unmap(cpu: Cpu) -> None:
        await sys_munmap(cpu, mm, mm.vmas[0])
        if any("C was set and the page is discarded" in h for h in page.history):
            world.mark("changed and discarded")

    world.prepare(prepare())
    page = file.pages[0]
    world.evictions.append(page.pfn)
    world.run_vcpu(0, unmap)
    return world


SCENARIO = Scenario(
    name="stale-change-bit",
    races=("R50",),
    guards=("tolerate_discard",),
    damage=("BUG_ON",),
    sometimes=("changed and discarded",),
    build=build,
)
