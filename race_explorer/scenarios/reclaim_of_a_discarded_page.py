"""Reclaim takes a page out of the page cache that its discarder has just taken out.

The page is clean, volatile and discarded. vcpu 1 has had a discard fault for it and discards it:
it leaves the page tree, and the cache's reference is dropped. page->mapping stays, by which a
later fault finds its ptes. vcpu 0 has isolated the page before. Its own reference and vcpu 1's
are two, as reclaim's and the cache's would be: nothing but PG_discarded says that the page is out
already (guard removal_test_set).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.discard import discard_page, get_page_if_present
from guest_agent.kernel.page import PG_referenced
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.syscalls import sys_read
from guest_agent.kernel.vmscan import Verdict, shrink_page
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """Two vCPUs, and a cached page that is isolated already, and discarded."""
    world = new_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    freed: list[bool] = []

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        await sys_read(cpu, file, 0, 1)
        await cpu.clear_flag(file.pages[0], PG_referenced)
        await kernel.lru.isolate(cpu)

    async def reclaim(cpu: Cpu) -> None:
        verdict = await shrink_page(cpu, page, may_swap=True)
        freed.append(verdict is Verdict.FREED)
        world.mark("reclaimed" if freed[0] else "left to the discarder")

    async def go_on_reclaiming(cpu: Cpu) -> None:
        await (kernel.lru.forget if freed == [True] else kernel.lru.put_back)(cpu, page)
        await put_page(cpu, page)

    async def discard(cpu: Cpu) -> None:
        assert await get_page_if_present(cpu, page)  # vcpu 0 still has its reference
        await discard_page(cpu, page)
        await cpu.put_page_testzero(page)

    world.prepare(prepare())
    world.closing = go_on_reclaiming
    page = file.pages[0]
    world.evict_now(page.pfn)
    world.run_vcpu(0, reclaim)
    world.run_vcpu(1, discard)
    return world


SCENARIO = Scenario(
    name="reclaim-of-a-discarded-page",
    races=("R12",),
    guards=("removal_test_set",),
    damage=("not in its page tree",),
    sometimes=("reclaimed", "left to the discarder"),
    build=build,
)
