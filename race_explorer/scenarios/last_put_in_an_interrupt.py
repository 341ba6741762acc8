"""The last reference to a discarded page is dropped by an interrupt.

vcpu 0 drops the last reference to a page that was discarded, and puts it on its list of such
pages. An interrupt comes in between and drops the last reference to another one. With interrupts
enabled it finds the list half changed: an entry is overwritten, or the pagevec is written past
its end (guard discard_list_irq_safe). And the interrupt itself must get back what it had, and not
find interrupts enabled when the page is on the list (guard free_keeps_irq_state).
"""

from __future__ import annotations

from functools import partial

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.grace import PAGEVEC_SIZE
from guest_agent.kernel.page_alloc import put_page
from race_explorer.scenarios.pieces import Device, discard_and_hold, new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU whose pagevec has one free entry, and a device; a discarded page for each."""
    world = new_world(protections, vcpu_count=1, page_count=PAGEVEC_SIZE + 3)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)

    async def fill(cpu: Cpu) -> None:
        for page in before:
            await put_page(cpu, page)

    async def put(cpu: Cpu) -> None:
        await put_page(cpu, by_program)

    async def put_too(cpu: Cpu) -> None:
        await put_page(cpu, by_interrupt)
        world.mark("put in an interrupt")

    *before, by_program, by_interrupt = discard_and_hold(world, file, PAGEVEC_SIZE + 1)
    world.prepare(fill(kernel.cpus[0]))
    world.run_vcpu(0, put)
    world.spawn_later("device", partial(Device(kernel).interrupt, 0, put_too))
    return world


SCENARIO = Scenario(
    name="last-put-in-an-interrupt",
    races=("R39", "R51"),
    guards=("discard_list_irq_safe", "free_keeps_irq_state"),
    damage=("past the end of its pagevec", "returned with interrupts enabled"),
    sometimes=("put in an interrupt",),
    build=build,
)
