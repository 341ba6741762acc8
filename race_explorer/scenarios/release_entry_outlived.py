"""R42: an entry of the block release list is processed when its page is in use again.

A page of private memory is paged out, and then freed by the guest: op 2 gives its content up, and
an entry on the vCPU's release list names the paging slot to free, some time later. The page is
allocated again, for a file's page, and written. The host pages that out too, into another slot.
Only then is the list processed. An entry that merely says which page it was about makes the host
free what the page has now; the file's page reads as zeroes. An entry names a slot and the
generation of what is in it, and frees that or nothing.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.syscalls import sys_mmap, sys_munmap, sys_read, sys_write, user_store
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import GUEST, SimWorld


def build(protections: Protections) -> SimWorld:
    """A page in its second use with an entry from its first, one eviction, one read."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def store_privately() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=True, shared=False)
        await user_store(cpu, mm, vma.start)

    async def free_and_write() -> None:
        cpu = kernel.cpus[0]
        await sys_munmap(cpu, mm, mm.vmas[0])
        await sys_write(cpu, file, 1, 1)

    async def read(cpu: Cpu) -> None:
        await sys_read(cpu, file, 1, 1)
        world.mark(
            "read from the paging device",
            lambda: world.host.guest_statistics(GUEST).paging.page_ins > 0,
        )

    world.prepare(store_privately())
    (pte,) = mm.ptes.values()
    page = pte.page
    assert page is not None
    world.evict_now(page.pfn)
    world.prepare(free_and_write())
    assert file.pages[1] is page
    world.evictions.append(page.pfn)
    world.run_vcpu(0, read)
    return world


SCENARIO = Scenario(
    name="release-entry-outlived",
    races=("R42",),
    guards=("slot_generation",),
    damage=("holds no tag",),
    sometimes=("read from the paging device",),
    build=build,
)
