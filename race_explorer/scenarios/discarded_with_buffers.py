"""A page with buffer heads is offered, and discarded with its private data on it.

The page is written back and clean, but its buffer heads are still there. They hold a reference,
so that the counts never agree, unless somebody miscounts: mprotect, which takes a reference for
its own that it does not hold, takes the buffers' here. The host discards the page, and the
discard finds private data that nobody has invalidated. PG_private forbids the offer whatever the
counts say (guard private_blocks); the right offset does too (check_write_offset).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page_lock import lock_page
from guest_agent.kernel.syscalls import sys_mmap, sys_mprotect, sys_write, user_load
from guest_agent.kernel.writeback import wait_on_page_writeback, write_page
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU, one clean page with buffer heads that is mapped read-only, one eviction."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        await sys_write(cpu, file, 0, 1)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=False)
        await user_load(cpu, mm, vma.start)
        await lock_page(cpu, file.pages[0])
        await write_page(cpu, file.pages[0])
        await wait_on_page_writeback(cpu, file.pages[0])
        # As a transfer of the dirty bit leaves the key: the host may drop the page.
        await cpu.set_storage_key(file.pages[0], 0)

    async def protect(cpu: Cpu) -> None:
        (vma,) = mm.vmas
        await sys_mprotect(cpu, mm, vma, writable=True)
        await user_load(cpu, mm, vma.start)
        world.mark("loaded")

    world.prepare(prepare())
    world.evictions.append(file.pages[0].pfn)
    world.run_vcpu(0, protect)
    return world


SCENARIO = Scenario(
    name="discarded-with-buffers",
    races=("R32",),
    guards=("private_blocks", "check_write_offset"),
    damage=("discard of a page in use",),
    sometimes=("loaded",),
    build=build,
    pairs=(("private_blocks", "check_write_offset"),),
)
