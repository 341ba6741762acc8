"""R1: a make_stable overtakes a make_volatile that has already read its conditions.

vcpu 0 offers a clean cached page to the host: it finds no reference but the cache's. Then
vcpu 1 takes a reference, makes the page stable and reads it, while vcpu 0's ESSA, decided
before, makes it volatile under vcpu 1's hands; the host discards it. PG_state_change closes
the gap: vcpu 1 waits with its ESSA until vcpu 0's is through.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.filemap import kernel_load, sys_read
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import find_get_page
from guest_agent.kernel.page_hva import make_volatile
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """Two vCPUs, one cached page, one eviction."""
    world = new_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)

    async def prepare() -> None:
        await kernel.boot(kernel.cpus[0])
        await sys_read(kernel.cpus[0], file, 0, 1)

    async def offer(cpu: Cpu) -> None:
        await make_volatile(cpu, page, 1)

    async def use(cpu: Cpu) -> None:
        found = await find_get_page(cpu, file, 0)
        if found is not None:
            await kernel_load(cpu, found, file, 0, tags=1)
            world.mark("page used")
            await put_page(cpu, found)

    world.prepare(prepare())
    page = file.pages[0]
    world.evictions.append(page.pfn)
    world.run_vcpu(0, offer)
    world.run_vcpu(1, use)
    return world


SCENARIO = Scenario(
    name="make-stable-overtakes",
    races=("R1",),
    guards=("state_change",),
    damage=("held stable",),
    sometimes=("page used", "make_stable failed"),
    build=build,
)
