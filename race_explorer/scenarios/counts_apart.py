"""mapcount and count are two loads, and an unmap between them hides a foreign reference.

vcpu 1 holds a cached page, referenced and stable, and reads it. vcpu 0 offers the page: it
reads a mapcount of 1; vcpu 2 unmaps the page, which drops the mapcount and then the pte's
reference; vcpu 0 reads the count and takes vcpu 1's reference for the mapping's. The page
becomes volatile under vcpu 1's hands. All guards of the series are on. Reading both counts at
one instant closes it (guard counts_in_one_load).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.filemap import kernel_load
from guest_agent.kernel.page_cache import find_get_page
from guest_agent.kernel.page_hva import make_volatile
from guest_agent.kernel.rmap import page_remove_rmap, ptep_clear_flush
from guest_agent.kernel.syscalls import sys_mmap, user_load
from race_explorer.scenarios.pieces import give_back, new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """Three vCPUs, one mapped page that vcpu 1 holds from the start, one eviction."""
    world = new_world(protections, vcpu_count=3)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=False)
        await user_load(cpu, mm, vma.start)
        await find_get_page(cpu, file, 0)

    async def offer(cpu: Cpu) -> None:
        await make_volatile(cpu, page, 1)

    async def use(cpu: Cpu) -> None:
        await kernel_load(cpu, page, file, 0, tags=1)
        world.mark("page used")

    async def unmap(cpu: Cpu) -> None:
        (pte,) = mm.ptes.values()
        assert await ptep_clear_flush(cpu, pte) is page
        await page_remove_rmap(cpu, page)
        await cpu.put_page_testzero(page)

    world.prepare(prepare())
    page = file.pages[0]
    give_back(world, page)
    world.evictions.append(page.pfn)
    world.run_vcpu(0, offer)
    world.run_vcpu(1, use)
    world.run_vcpu(2, unmap)
    return world


SCENARIO = Scenario(
    name="counts-apart",
    races=(),
    guards=("counts_in_one_load",),
    damage=("held stable",),
    sometimes=("page used",),
    build=build,
)
