"""A page that does not qualify for P is volatile all the same, and about to be stored to.

With minor faults that change no state (patch 4/6) a fault finds a cached page volatile and leaves
it so. vcpu 0 maps it writable and shared. Somebody else, about to map it too, holds a reference:
the counts do not agree, check_write cannot offer the page as potential volatile, and it must not
leave it as it is. vcpu 0 stores; the host drops the page, being volatile, without a look at the
change bit. Setting the page stable in that case closes it (guard check_write_stable).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import find_get_page_nodiscard
from guest_agent.kernel.syscalls import sys_mmap, sys_read, user_store
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """Two vCPUs, one page in the cache; the host evicts it when it is stored to."""
    world = new_world(protections, vcpu_count=2, minor_faults=True)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        await sys_read(cpu, file, 0, 1)
        await sys_mmap(cpu, mm, file, 0, 1, writable=True)

    async def store(cpu: Cpu) -> None:
        await user_store(cpu, mm, mm.vmas[0].start)
        world.mark("stored")
        world.evictions.append(page.pfn)

    async def look(cpu: Cpu) -> None:
        found = await find_get_page_nodiscard(cpu, file, 0)
        if found is not None:
            await put_page(cpu, found)

    world.prepare(prepare())
    page = file.pages[0]
    world.run_vcpu(0, store)
    world.run_vcpu(1, look)
    return world


SCENARIO = Scenario(
    name="writable-and-volatile",
    races=("R8",),
    guards=("check_write_stable",),
    damage=("version 0 seen",),
    sometimes=("stored",),
    build=build,
)
