"""R20, R40: the end of writeback offers a page to which it holds no reference.

The completion interrupt clears PG_writeback, and then offers the page. Whoever waited for the
writeback goes on at once: a truncate takes the page out of the cache, frees it, and it is
allocated anew, while the interrupt on vcpu 0 still goes through its conditions: with the page's
PG_state_change set it meets the allocator. A reference held during writeback keeps the page until
it was offered, and that offer accounts for it.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page import PG_locked, PG_writeback
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import find_lock_page
from guest_agent.kernel.page_lock import lock_page, unlock_page
from guest_agent.kernel.syscalls import sys_write
from guest_agent.kernel.truncate import truncate_complete_page
from guest_agent.kernel.writeback import wait_on_page_writeback, write_page
from race_explorer.scenarios.pieces import allocate, new_world, run_alone
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """The interrupt at the end of a write, and a truncate that has waited for it."""
    world = new_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        await sys_write(cpu, file, 0, 1)
        found = await find_lock_page(cpu, file, 0)
        assert found is not None
        await write_page(cpu, found)
        await lock_page(cpu, found)

    async def take_interrupt(cpu: Cpu) -> None:
        pass  # whoever idles takes it

    async def truncate(cpu: Cpu) -> None:
        await wait_on_page_writeback(cpu, page)
        await truncate_complete_page(cpu, file, page)
        await unlock_page(cpu, page)
        await put_page(cpu, page)
        if await allocate(world, cpu) is page:
            world.mark("reused")

    world.prepare(prepare())
    page = file.pages[0]
    run_alone(world, "disk1")
    world.run_vcpu(0, take_interrupt)
    run_alone(world, "cpu0", lambda: not page.flags & PG_writeback)
    world.run_vcpu(1, truncate)
    run_alone(world, "cpu1", lambda: not page.flags & PG_locked)
    return world


SCENARIO = Scenario(
    name="volatile-after-writeback",
    races=("R20", "R40"),
    guards=("writeback_reference",),
    damage=("bad page from the free list",),
    sometimes=("reused",),
    build=build,
)
