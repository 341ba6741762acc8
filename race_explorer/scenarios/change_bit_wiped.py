"""R10: a page that is up to date is made so again, and its change bit goes with that.

vcpu 1 is in the middle of a write system call: it holds the page lock and has filled the page.
Meanwhile a program has stored to the page through its mapping, and calls msync on vcpu 0. The
store shows in nothing but the change bit. SetPageUptodate clears that bit because filling a new
page sets it; for a page that is up to date already it must not: vcpu 0 would find the bit clear,
the page not dirty yet, and report a store as written that is not even on its way.

Nothing is lost for good here, since the write dirties the page a moment later, and holds the
page lock until then: only what msync has promised is broken, for as long as the machine might
fail.
"""

from __future__ import annotations

from guest_agent.kernel.checked import report
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.dirty import set_page_dirty, set_page_uptodate
from guest_agent.kernel.filemap import kernel_store
from guest_agent.kernel.msync import msync_pte
from guest_agent.kernel.page import PG_dirty
from guest_agent.kernel.page_cache import find_lock_page
from guest_agent.kernel.page_lock import unlock_page
from guest_agent.kernel.syscalls import sys_mmap, user_load, user_store
from race_explorer.scenarios.pieces import give_back, new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """The end of a write, and an msync of what was stored to the same page before."""
    world = new_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=True)
        await user_load(cpu, mm, vma.start)
        found = await find_lock_page(cpu, file, 0)
        assert found is not None
        await kernel_store(cpu, found, file, 0)
        await user_store(cpu, mm, vma.start)

    async def write(cpu: Cpu) -> None:
        await set_page_uptodate(cpu, page)
        await set_page_dirty(cpu, page)
        await unlock_page(cpu, page)

    async def sync(cpu: Cpu) -> None:
        if not page.flags & PG_dirty:
            world.mark("msync comes first")
        (pte,) = mm.ptes.values()
        await msync_pte(cpu, pte)
        if not await cpu.read_flags(page) & PG_dirty:
            report(kernel, page, "msync passes over a page that was stored to")

    world.prepare(prepare())
    page = file.pages[0]
    give_back(world, page)
    world.run_vcpu(1, write)
    world.run_vcpu(0, sync)
    return world


SCENARIO = Scenario(
    name="change-bit-wiped",
    races=("R10",),
    guards=("clear_change_once",),
    damage=("msync passes over",),
    sometimes=("msync comes first",),
    build=build,
)
