"""R50: a page that the host has discarded still reports its change bit.

A write system call sets the change bit of a cached page, and writeback leaves it alone. Mapped
read-only the page is volatile; the host discards it, which it may without a look at the bit.
A program touches the page, the discard fault comes, and the handler removes the page's ptes. At
the last one page_remove_rmap asks for the change bit. If the host has kept it, the guest sees a
change to a page that is gone, wants to make the page stable, and the 2005 series has BUG_ON for
that case. A discard clears the bit, with what it spoke of. Guest code that tolerates the case,
which it has to for a discard that comes between the two, hides what the host does here, and the
other way round.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.syscalls import (
    sys_fsync,
    sys_mmap,
    sys_read,
    sys_write,
    user_load,
)
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU that touches a page which was changed, written back, and discarded."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        await sys_read(cpu, file, 0, 1)
        await sys_write(cpu, file, 0, 1)
        await sys_fsync(cpu, file)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=False)
        await user_load(cpu, mm, vma.start)

    async def touch(cpu: Cpu) -> None:
        await user_load(cpu, mm, mm.vmas[0].start)

    world.prepare(prepare())
    world.evict_now(file.pages[0].pfn)
    world.run_vcpu(0, touch)
    return world


SCENARIO = Scenario(
    name="changed-and-gone",
    races=("R50",),
    guards=("discard_clears_change_bit", "tolerate_discard"),
    damage=("BUG_ON",),
    sometimes=("discard fault", "discarded"),
    build=build,
    pairs=(("discard_clears_change_bit", "tolerate_discard"),),
)
