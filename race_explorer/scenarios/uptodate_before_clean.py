"""R10: PG_uptodate is visible before the change bit is clear.

A page is read from the disk, which sets its change bit. The completion interrupt on vcpu 0 sets
PG_uptodate and then clears the bit. A fault on vcpu 1 waits for PG_uptodate and for nothing else:
filemap_nopage takes the page lock only if the flag is not set. It maps the page writable between
the two, the program stores, and vcpu 0 clears the change bit of that store. Unlocked, the page
becomes potential volatile; the host finds it unchanged and drops it. All guards of the series
are on. Clearing the bit before the flag is set closes it (guard clear_change_first): until then
nobody maps the page.

vcpu 1 starts where its fault handler has found the page and not looked at the flag yet.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.filemap import readpage
from guest_agent.kernel.page import PG_locked, PG_uptodate, writes
from guest_agent.kernel.page_cache import add_new_page
from guest_agent.kernel.page_hva import check_write
from guest_agent.kernel.rmap import page_add_rmap
from guest_agent.kernel.syscalls import sys_mmap
from guest_agent.kernel.uaccess import store_through_pte, translate
from race_explorer.scenarios.pieces import give_back, new_world, run_alone
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """A read whose interrupt is pending, a fault on the same page, and then one eviction."""
    world = new_world(protections, vcpu_count=2, minor_faults=True)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        await sys_mmap(cpu, mm, file, 0, 1, writable=True)
        new = await add_new_page(cpu, file, 0)
        assert new is not None
        await readpage(cpu, new, file, 0)  # the reference is vcpu 1's from here on

    async def take_interrupt(cpu: Cpu) -> None:
        pass  # whoever idles takes it

    async def map_and_store(cpu: Cpu) -> None:
        (vma,) = mm.vmas
        if not await cpu.read_flags(page) & PG_uptodate:
            world.mark("not up to date yet")
            give_back(world, page)
            return
        if page.flags & PG_locked:
            world.mark("up to date and still locked")
        await check_write(cpu, page, writable=True)
        pte = kernel.pte(mm, vma.start)
        await cpu.point("pte.set", writes("pte", pte.number))
        pte.page, pte.writable = page, True
        await page_add_rmap(cpu, page)
        assert await translate(cpu, mm, vma.start, write=True)
        await store_through_pte(cpu, vma, vma.start, pte)
        world.evictions.append(page.pfn)

    world.prepare(prepare())
    page = file.pages[0]
    run_alone(world, "disk1")
    world.run_vcpu(0, take_interrupt)
    world.run_vcpu(1, map_and_store)
    return world


SCENARIO = Scenario(
    name="uptodate-before-clean",
    races=("R10",),
    guards=("clear_change_first",),
    damage=("version 0 seen",),
    sometimes=("not up to date yet", "up to date and still locked"),
    build=build,
)
