"""The last unmap takes away the PG_writable that a new writable mapping has just set.

vcpu 1 unmaps the page's last pte. vcpu 0 maps the page writable in another address space:
check_write sets PG_writable and makes the page potential volatile, the pte follows, and only
then the mapcount. In between the mapcount is 0, and vcpu 1's reset_write, which rightly comes
after its dirty transfer, clears the flag. The next make_volatile, vcpu 1's own put_page, finds
no writable mapping and makes the page volatile; vcpu 0 stores; the host discards the page
without a look at the change bit. The store is lost, with all guards of the series on.

vcpu 0 starts where its fault handler has found the page; the page table locks of the two
address spaces have nothing to do with each other and are left out.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page import writes
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import find_get_page
from guest_agent.kernel.page_hva import check_write
from guest_agent.kernel.rmap import page_add_rmap, page_remove_rmap, ptep_clear_flush
from guest_agent.kernel.syscalls import sys_mmap, user_load
from guest_agent.kernel.uaccess import store_through_pte, translate
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """Two address spaces, one page: mapped read-only in one, about to be written in the other."""
    world = new_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    reader, writer = kernel.new_mm(), kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, reader, file, 0, 1, writable=False)
        await user_load(cpu, reader, vma.start)
        await sys_mmap(cpu, writer, file, 0, 1, writable=True)
        await find_get_page(cpu, file, 0)

    async def map_and_store(cpu: Cpu) -> None:
        vma = writer.vmas[0]
        await check_write(cpu, page, writable=True)
        pte = kernel.pte(writer, vma.start)
        await cpu.point("pte.set", writes("pte", pte.number))
        pte.page, pte.writable = page, True
        await page_add_rmap(cpu, page)
        assert await translate(cpu, writer, vma.start, write=True)
        await store_through_pte(cpu, vma, vma.start, pte)
        world.mark("stored")
        world.evictions.append(page.pfn)

    async def unmap(cpu: Cpu) -> None:
        (pte,) = reader.ptes.values()
        assert await ptep_clear_flush(cpu, pte) is page
        await page_remove_rmap(cpu, page)
        await put_page(cpu, page)

    world.prepare(prepare())
    page = file.pages[0]
    world.run_vcpu(0, map_and_store)
    world.run_vcpu(1, unmap)
    return world


SCENARIO = Scenario(
    name="writable-flag-taken",
    races=(),
    guards=("reset_write_counts",),
    damage=("version 0",),
    sometimes=("stored",),
    build=build,
)
