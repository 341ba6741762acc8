"""R9: check_write's loop waits for PG_state_change with its sense inverted.

The series has `while (!TestSetPageStateChange(page))`. A free bit is taken at the first turn and
the loop left at the second; a bit that somebody holds is fallen through at once, and cleared at
the end although it is not ours.

vcpu 0 is inside make_volatile and holds the bit. vcpu 1 maps the page writable: check_write does
not wait, and clears vcpu 0's bit when it is done. With the mapping in place vcpu 0's counts
agree, and it is about to offer the page, with no bit to show for it. vcpu 1 finds the page in
the cache and makes it stable without having to wait; vcpu 0's ESSA comes after that, and the host
drops the page that vcpu 1 reads: R1 is open again.

vcpu 1 starts where its fault handler has found the page; vcpu 0 where it has taken the bit.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.filemap import kernel_load
from guest_agent.kernel.page import PG_state_change, writes
from guest_agent.kernel.page_cache import find_get_page
from guest_agent.kernel.page_hva import check_write, make_volatile
from guest_agent.kernel.rmap import page_add_rmap
from guest_agent.kernel.syscalls import sys_mmap, sys_read
from race_explorer.scenarios.pieces import give_back, new_world, run_alone
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """An offer under way, a new writable mapping and a lookup after it, one eviction."""
    world = new_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        await sys_mmap(cpu, mm, file, 0, 1, writable=True)
        await sys_read(cpu, file, 0, 1)
        await find_get_page(cpu, file, 0)  # vcpu 1's reference

    async def offer(cpu: Cpu) -> None:
        await make_volatile(cpu, page, 1)

    async def map_and_read(cpu: Cpu) -> None:
        pte = kernel.pte(mm, mm.vmas[0].start)
        await check_write(cpu, page, writable=True)
        await cpu.point("pte.set", writes("pte", pte.number))
        pte.page, pte.writable = page, True
        await page_add_rmap(cpu, page)
        if await find_get_page(cpu, file, 0) is None:
            world.mark("page gone")
            return
        give_back(world, page)
        await kernel_load(cpu, page, file, 0, tags=1)
        world.mark("page used")

    world.prepare(prepare())
    page = file.pages[0]
    world.evictions.append(page.pfn)
    world.run_vcpu(0, offer)
    run_alone(world, "cpu0", lambda: bool(page.flags & PG_state_change))
    world.run_vcpu(1, map_and_read)
    return world


SCENARIO = Scenario(
    name="inverted-loop",
    races=("R9",),
    guards=("check_write_waits",),
    damage=("held stable",),
    sometimes=("page used", "page gone"),
    build=build,
)
