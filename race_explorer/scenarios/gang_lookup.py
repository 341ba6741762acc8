"""Several pages are looked up at once, as truncate does, and one of them is discarded.

Page 0 of the file is dirty, page 1 clean and volatile. The gang lookup takes both, and fails to
make page 1 stable: it discards that one, gives its references back and starts again. In the
first version the loop that should give them back discards every page found so far: the dirty one
too, whose content is nowhere else (guard gang_discards_failed).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import find_get_pages
from guest_agent.kernel.syscalls import sys_read, sys_write
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU, a file of two pages in the cache, one eviction."""
    world = new_world(protections, vcpu_count=1, page_count=4, buffer_heads=False)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        await sys_write(cpu, file, 0, 1)
        await sys_read(cpu, file, 1, 1)

    async def look_up(cpu: Cpu) -> None:
        pages = await find_get_pages(cpu, file, 0, 2)
        world.mark("both found" if len(pages) == 2 else "one found")
        for page in pages:
            await put_page(cpu, page)

    world.prepare(prepare())
    world.evictions.append(file.pages[1].pfn)
    world.run_vcpu(0, look_up)
    return world


SCENARIO = Scenario(
    name="gang-lookup",
    races=("R33",),
    guards=("gang_discards_failed",),
    damage=("discard of a page in use",),
    sometimes=("both found", "one found", "make_stable failed"),
    build=build,
)
