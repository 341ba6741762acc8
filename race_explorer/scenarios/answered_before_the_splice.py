"""R17 again: one call splices the discarded pages and proves that they may be freed.

vcpu 0 reclaims, and calls every vCPU for the pages on its list. vcpu 1 answers, and then
touches a page that the host has discarded: it is interrupted, and holds nothing but the page's
address. vcpu 2 has not been reached yet, or has interrupts disabled; the page is unmapped, loses
its last reference and goes to vcpu 2's list. Then vcpu 2 answers too, and hands the page over.
The list of the series from 2006 on frees it now, since everybody has answered; it is taken for
something else, and vcpu 1 discards it. Pages that were handed over must wait for a second call
(guard grace_calls_again).

The order of the story is held to up to the fault, all that follows is explored. vcpu 2 does
alone what may be two vCPUs' work, to unmap the page and to put it.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.grace import Grace
from guest_agent.kernel.lru import LruKind
from guest_agent.kernel.page import Page, PG_discarded, reads, writes
from guest_agent.kernel.page_alloc import alloc_page, put_page
from guest_agent.kernel.rmap import ptep_clear_flush
from race_explorer.scenarios.pieces import allocate, new_world, touch_through
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld
from shared.arch import Orc


def build(protections: Protections) -> SimWorld:
    """Three vCPUs; two discarded pages, one mapped and one on vcpu 0's list."""
    world = new_world(protections, vcpu_count=3, grace=Grace.EACH, lru=LruKind.PLAIN)
    kernel = world.kernel
    pages: list[Page] = []

    async def discarded(cpu: Cpu) -> None:
        await kernel.boot(cpu)
        for _ in range(2):
            page = await alloc_page(cpu)
            await cpu.essa(Orc.SET_VOLATILE, page)
            await cpu.set_flag(page, PG_discarded)
            pages.append(page)

    world.prepare(discarded(kernel.cpus[0]))
    page, listed = pages
    world.evict_now(page.pfn)
    world.prepare(put_page(kernel.cpus[0], listed))
    mm = kernel.new_mm()
    pte = kernel.pte(mm, 0)
    pte.page = page
    touching: list[bool] = []

    async def reclaim_and_reuse(cpu: Cpu) -> None:
        for _ in range(await kernel.grace.reclaim(cpu)):
            if await allocate(world, cpu) is page:
                world.mark("page reused")

    async def answer_and_touch(cpu: Cpu) -> None:
        await cpu.wait_until(
            lambda: ("interrupt.end", ()) in cpu.events,
            "answered",
            reads("ipi", 0),
            reads("pte", pte.number),
            writes("tlb", pte.number),
        )
        touching.append(True)
        if await touch_through(cpu, pte):
            world.mark("fault after the answer")

    async def unmap_and_put(cpu: Cpu) -> None:
        depth = cpu.local_irq_save()
        await cpu.wait_until(lambda: bool(touching), "touched", reads("tlb", pte.number))
        await ptep_clear_flush(cpu, pte)
        await put_page(cpu, page)
        cpu.local_irq_restore(depth)

    world.run_vcpu(0, reclaim_and_reuse)
    world.run_vcpu(1, answer_and_touch)
    world.run_vcpu(2, unmap_and_put)
    return world


SCENARIO = Scenario(
    name="answered-before-the-splice",
    races=("R17", "R19"),
    guards=("grace_calls_again",),
    damage=("discard of a page without mapping",),
    sometimes=("fault after the answer", "page reused"),
    build=build,
    bound=500,
)
