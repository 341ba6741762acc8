"""R15: reclaim puts a page back on the LRU that was discarded while it had it isolated.

vcpu 1's reclaim has taken a page off the LRU, finds that it was referenced, and puts it back. The
host has discarded the page; vcpu 0 finds that out and removes it from the page cache. It would
take it off the LRU as well, but it is not there. Put back after that, the page goes to the free
list with PG_lru set, and reclaim later isolates a page that is somebody else's. So PG_discarded
is looked at where the page is put back, under the LRU lock: the discarder sets it before it comes
to the LRU, and one of the two sees the other.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page import PG_discarded
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import find_get_page
from guest_agent.kernel.syscalls import sys_fsync, sys_write
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One isolated and discarded page, its putting back, and a lookup.

    It is the only page there is: what reads the file at the end has to reuse it.
    """
    world = new_world(protections, vcpu_count=2, page_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        await sys_write(cpu, file, 0, 1)
        await sys_fsync(cpu, file)

    async def isolate() -> None:
        taken = await kernel.lru.isolate(kernel.cpus[1])
        assert taken is page

    async def look(cpu: Cpu) -> None:
        assert await find_get_page(cpu, file, 0) is None

    async def put_back(cpu: Cpu) -> None:
        discarded = page.flags & PG_discarded
        await kernel.lru.put_back(cpu, page)
        if not discarded and page.flags & PG_discarded:
            world.mark("discarded while isolated")
        await put_page(cpu, page)

    world.prepare(prepare())
    page = file.pages[0]
    world.evict_now(page.pfn)
    world.prepare(isolate())
    world.run_vcpu(0, look)
    world.run_vcpu(1, put_back)
    return world


SCENARIO = Scenario(
    name="put-back-discarded",
    races=("R15",),
    guards=("putback_checks_discarded",),
    damage=("bad page freed",),
    sometimes=("discarded while isolated",),
    build=build,
)
