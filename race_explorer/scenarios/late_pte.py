"""A pte is set for a page that is being discarded, after its ptes were removed.

With minor faults that change no state (patch 4/6) vcpu 0 has found a page in the cache and is
about to map it; the host has discarded it. vcpu 1 maps it already, takes the discard fault,
removes the ptes that it sees and takes the page out of the cache; then vcpu 0 sets its pte.
Two answers exist. The 2005 series keeps page->mapping, so that vcpu 0's own discard fault finds
the pte (guard discard_keeps_mapping). Later versions clear it and make sure that no late pte comes
about: PG_discarded is set before the ptes are removed, and tested under the page table lock just
before a pte is set (install_checks_discarded, discarded_before_unmap), and no pte is peeked at
without that lock (unmap_takes_lock). Without the mapping, any of these missing leaves a pte that
nobody can find.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.discard import discard_page
from guest_agent.kernel.fault import map_page
from guest_agent.kernel.page_cache import find_get_page_nodiscard
from guest_agent.kernel.syscalls import sys_mmap, user_load
from race_explorer.scenarios.pieces import give_back, new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """Two address spaces, one page: mapped and discarded in one, being mapped in the other."""
    world = new_world(protections, vcpu_count=2, minor_faults=True)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    first, second = kernel.new_mm(), kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, first, file, 0, 1, writable=False)
        await user_load(cpu, first, vma.start)
        await sys_mmap(cpu, second, file, 0, 1, writable=False)
        await find_get_page_nodiscard(cpu, file, 0)  # vcpu 0's reference
        await cpu.get_page(file.pages[0])  # vcpu 1's
        await cpu.down_read(second.mmap_sem)  # vcpu 0's, of its fault

    async def fault(cpu: Cpu) -> None:
        vma = second.vmas[0]
        await map_page(cpu, vma, vma.start, page)
        world.mark("mapped", lambda: page.mapcount > 0)
        world.mark("not mapped", lambda: page.mapcount == 0)
        await cpu.up_read(second.mmap_sem)

    async def discard(cpu: Cpu) -> None:
        await discard_page(cpu, page)

    world.prepare(prepare())
    page = file.pages[0]
    give_back(world, page)
    world.evict_now(page.pfn)
    world.run_vcpu(0, fault)
    world.run_vcpu(1, discard)
    return world


SCENARIO = Scenario(
    name="late-pte",
    races=("R13", "R14"),
    guards=(
        "discard_keeps_mapping",
        "install_checks_discarded",
        "discarded_before_unmap",
        "unmap_takes_lock",
    ),
    damage=("nobody can find",) * 3,
    sometimes=("mapped", "not mapped"),
    build=build,
    pairs=(
        ("discard_keeps_mapping", "install_checks_discarded"),
        ("discard_keeps_mapping", "discarded_before_unmap"),
        ("discard_keeps_mapping", "unmap_takes_lock"),
    ),
)
