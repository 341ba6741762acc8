"""PG_writable goes before the last mapping does, and the page is offered as read-only.

A page is mapped shared and writable and was stored to: its change bit is set, nothing else tells
of the store. vcpu 0 unmaps it. If reset_write came before the mapcount drops, the pte's reference
would still count as the mapping's: vcpu 1 offers the page meanwhile, finds PG_writable clear and
sets it volatile, and the host drops it without a look at the change bit. The series transfers the
dirty bit first (guard reset_write_last); a reset_write that looks for other users of the page
closes it too (reset_write_counts).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page_hva import make_volatile
from guest_agent.kernel.rmap import page_remove_rmap, ptep_clear_flush, put_mapped_page
from race_explorer.scenarios.pieces import map_and_touch, new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """Two vCPUs, one page that was stored to; the host evicts it when it was offered."""
    world = new_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def unmap(cpu: Cpu) -> None:
        (pte,) = mm.ptes.values()
        assert await ptep_clear_flush(cpu, pte) is page
        await page_remove_rmap(cpu, page)
        await put_mapped_page(cpu, page)
        world.mark("unmapped")

    async def offer(cpu: Cpu) -> None:
        await make_volatile(cpu, page, 1)
        world.evictions.append(page.pfn)

    page = map_and_touch(world, mm, file, writable=True, store=True)
    world.run_vcpu(0, unmap)
    world.run_vcpu(1, offer)
    return world


SCENARIO = Scenario(
    name="flag-before-the-drop",
    races=("R6",),
    guards=("reset_write_last", "reset_write_counts"),
    damage=("mapped writable was discarded",),
    sometimes=("unmapped",),
    build=build,
    pairs=(("reset_write_last", "reset_write_counts"),),
)
