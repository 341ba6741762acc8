"""mprotect takes somebody else's reference for its own, and offers a page that is in use.

A file's page is mapped read-only and clean. vcpu 1 has found it in the page cache, holds it
referenced and stable, and reads it. vcpu 0 makes the mapping writable: change_pte_range calls
check_write, which counts on a reference that its caller holds (offset 2), as every other caller
does; mprotect holds none. vcpu 1's reference fills the gap: the counts agree, the page becomes
potential volatile, the host finds it unchanged and discards it, and vcpu 1 reads what is gone.
With no foreign reference the count never agrees and the page is made stable, so nothing shows.
All guards of the series are on. An offset of what is really held closes it (guard
check_write_offset).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.filemap import kernel_load
from guest_agent.kernel.page_cache import find_get_page
from guest_agent.kernel.syscalls import sys_mmap, sys_mprotect, user_load
from race_explorer.scenarios.pieces import give_back, new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """Two vCPUs, one shared mapping of one page, one eviction."""
    world = new_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=False)
        await user_load(cpu, mm, vma.start)
        await find_get_page(cpu, file, 0)  # vcpu 1's reference

    async def protect(cpu: Cpu) -> None:
        await sys_mprotect(cpu, mm, mm.vmas[0], writable=True)

    async def read(cpu: Cpu) -> None:
        await kernel_load(cpu, page, file, 0, tags=1)
        world.mark("page used")

    world.prepare(prepare())
    page = file.pages[0]
    give_back(world, page)
    world.evictions.append(page.pfn)
    world.run_vcpu(0, protect)
    world.run_vcpu(1, read)
    return world


SCENARIO = Scenario(
    name="borrowed-reference",
    races=(),
    guards=("check_write_offset",),
    damage=("held stable",),
    sometimes=("page used",),
    build=build,
)
