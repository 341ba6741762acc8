"""An interrupt waits for the vCPU that it has interrupted.

vcpu 0 offers a page whose writeback has just ended for it to see, and holds PG_state_change. The
completion interrupt of that writeback comes to the same vcpu and drops its reference, which
offers the page too. Where make_volatile waits for PG_state_change, it waits for ever: the holder
goes on only when the interrupt returns. Losing the bit has to be no error: whoever loses leaves
the page stable (guard state_change_trylock). make_stable has no such way out: it has to wait, so
an interrupt must not call it at all (irq_never_stabilises).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page_hva import make_volatile
from guest_agent.kernel.page_lock import lock_page
from guest_agent.kernel.syscalls import sys_write
from guest_agent.kernel.writeback import write_page
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU, one dirty page on its way to the disk."""
    world = new_world(protections, vcpu_count=1, buffer_heads=False)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)

    async def prepare() -> None:
        await kernel.boot(kernel.cpus[0])
        await sys_write(kernel.cpus[0], file, 0, 1)

    async def write(cpu: Cpu) -> None:
        await lock_page(cpu, page)
        await write_page(cpu, page)
        await make_volatile(cpu, page, 1)
        world.mark("offered")

    world.prepare(prepare())
    page = file.pages[0]
    world.run_vcpu(0, write)
    return world


SCENARIO = Scenario(
    name="interrupted-holder",
    races=("R22", "R23"),
    guards=("state_change_trylock", "irq_never_stabilises"),
    damage=("dead-lock", "dead-lock"),
    sometimes=("offered",),
    build=build,
)
