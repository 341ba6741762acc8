"""fork copies a pte to a page that is being discarded, behind its discarder's back.

A private mapping with an anonymous page beside it has a file's page, which the host has
discarded. vcpu 1 discards it: it goes through the mappings of the file, newest first, and finds
the child's page table empty. vcpu 0 forks and copies the pte that the parent still has; then
vcpu 1 removes the parent's, and takes the page out of the cache. The child keeps a pte to it.
The 2005 series keeps page->mapping, so that the child's own discard fault finds the pte (guard
discard_keeps_mapping); later versions clear it, and copy_one_pte leaves alone what is
PG_discarded (fork_checks_discarded).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.discard import discard_page
from guest_agent.kernel.fork import copy_one_pte
from guest_agent.kernel.syscalls import sys_fork, sys_mmap, user_load, user_store
from race_explorer.scenarios.pieces import give_back, new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """A parent and a child whose page table is about to be filled; one discarded page."""
    world = new_world(protections, vcpu_count=2, page_count=5)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    parent = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, parent, file, 0, 2, writable=True, shared=False)
        await user_store(cpu, parent, vma.start + 1)  # so that fork copies the vma's ptes
        child = await sys_fork(cpu, parent)
        assert child.vmas[0].anon_vma is vma.anon_vma
        await user_load(cpu, parent, vma.start)
        await cpu.get_page(file.pages[0])  # vcpu 1's, of its discard fault
        await cpu.down_write(parent.mmap_sem)  # vcpu 0's, of its fork

    async def copy(cpu: Cpu) -> None:
        vma = parent.vmas[0]
        child = kernel.mms[1]
        source, target = kernel.pte(parent, vma.start), kernel.pte(child, vma.start)
        await cpu.spin_lock(child.page_table_lock, "ptl.child")
        await cpu.spin_lock(parent.page_table_lock, "ptl")
        await copy_one_pte(cpu, vma, vma.start, source, target)
        await cpu.spin_unlock(parent.page_table_lock, "ptl_unlock")
        await cpu.spin_unlock(child.page_table_lock, "ptl_unlock.child")
        world.mark("shared", lambda: target.page is not None)
        world.mark("not shared", lambda: target.page is None)
        await cpu.up_write(parent.mmap_sem)

    async def discard(cpu: Cpu) -> None:
        await discard_page(cpu, page)

    world.prepare(prepare())
    page = file.pages[0]
    give_back(world, page)
    world.evict_now(page.pfn)
    world.run_vcpu(0, copy)
    world.run_vcpu(1, discard)
    return world


SCENARIO = Scenario(
    name="fork-of-a-discarded-page",
    races=("R16",),
    guards=("discard_keeps_mapping", "fork_checks_discarded"),
    damage=("nobody can find",),
    sometimes=("shared", "not shared"),
    build=build,
    pairs=(("discard_keeps_mapping", "fork_checks_discarded"),),
)
