"""What several scenarios do: a small world, pages that are discarded or swapped, one touch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from guest_agent.kernel.cpu import Cpu, Interrupt
from guest_agent.kernel.discard import discard_page, end_translation, storage_access
from guest_agent.kernel.kernel import Kernel, KernelConfig
from guest_agent.kernel.mm import Mm, Pte
from guest_agent.kernel.page import Mapping, Page, writes
from guest_agent.kernel.page_alloc import alloc_page, put_page
from guest_agent.kernel.page_cache import find_get_page_nodiscard
from guest_agent.kernel.syscalls import sys_fork, sys_mmap, sys_read, user_load, user_store
from guest_agent.kernel.vmscan import try_to_free_pages
from race_explorer.network import RepeatingWorld
from race_explorer.scenarios.scenario import Protections
from race_explorer.world import SimWorld
from shared.commands import Load


def new_world(
    protections: Protections, *, vcpu_count: int, page_count: int = 3, **options: Any
) -> SimWorld:
    """A guest that is not booted yet, and its host, with these protections.

    options: further fields of KernelConfig.
    """
    config = KernelConfig(page_count, vcpu_count, guards=protections.guest, **options)
    return protections.worlds.plain(
        config, host_guards=protections.host, link_guards=protections.link
    )


def new_repeating_world(
    protections: Protections, *, vcpu_count: int, page_count: int = 3
) -> RepeatingWorld:
    """The same, with a network that repeats what the scenario says."""
    config = KernelConfig(page_count, vcpu_count, guards=protections.guest)
    return protections.worlds.repeating(
        config, host_guards=protections.host, link_guards=protections.link
    )


def map_and_discard(world: SimWorld, mm: Mm, file: Mapping) -> Page:
    """Boot, map the file's page 0 read-only, load from it, and let the host discard it."""
    page = map_and_touch(world, mm, file, writable=False)
    world.evict_now(page.pfn)
    return page


def map_and_touch(
    world: SimWorld, mm: Mm, file: Mapping, *, writable: bool, store: bool = False
) -> Page:
    """Boot, map the file's page 0 shared, and load from it or store to it."""
    kernel = world.kernel

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=writable)
        await (user_store if store else user_load)(cpu, mm, vma.start)

    world.prepare(prepare())
    return file.pages[0]


def run_alone(world: SimWorld, actor: str, until: Callable[[], bool] = lambda: False) -> None:
    """Before the race begins one actor goes on by itself: until then, or as far as it can."""
    while option := next((o for o in world.options() if o.name == actor and not until()), None):
        option.run()


def give_back(world: SimWorld, *pages: Page) -> None:
    """References that programs keep go back when all is over, and before everything is checked."""
    before = world.closing

    async def close(cpu: Cpu) -> None:
        if before is not None:
            await before(cpu)
        for page in pages:
            await put_page(cpu, page)

    world.closing = close


async def allocate(world: SimWorld, cpu: Cpu) -> Page:
    """A page for a program that does nothing with it."""
    page = await alloc_page(cpu)
    give_back(world, page)
    return page


async def touch_once(cpu: Cpu, mm: Mm) -> bool:
    """One access through the only pte, not executed again; True if a discard fault took it.

    Translated already, when the race begins: this is the first that the vCPU does in it.
    """
    (pte,) = mm.ptes.values()
    return await touch_through(cpu, pte)


async def touch_through(cpu: Cpu, pte: Pte) -> bool:
    """The same through a given pte; the caller stands behind its translation."""
    if pte.page is None:
        return False
    cpu.translation = pte
    if await storage_access(cpu, Load(pte.page.pfn, 0, 32)) is None:
        return True
    await end_translation(cpu)
    return False


def discard_and_hold(world: SimWorld, file: Mapping, count: int) -> list[Page]:
    """Boot, read the file's first pages, and discard them; one reference to each is left."""
    cpu = world.kernel.cpus[0]
    pages: list[Page] = []

    async def prepare() -> None:
        await world.kernel.boot(cpu)
        await sys_read(cpu, file, 0, count)
        for index in range(count):
            page = await find_get_page_nodiscard(cpu, file, index)
            assert page is not None
            pages.append(page)

    async def discard() -> None:
        for page in pages:
            await discard_page(cpu, page)

    world.prepare(prepare())
    for page in pages:
        world.evict_now(page.pfn)
    world.prepare(discard())
    return pages


async def share_and_swap(cpu: Cpu, mm: Mm) -> tuple[Mm, Page]:
    """A page of anonymous memory that a child maps, volatile, and whose slot our pte names.

    It is stored to, shared by fork, swapped out, and brought in again by the child.
    """
    vma = await sys_mmap(cpu, mm, None, 0, 1, writable=True)
    await user_store(cpu, mm, vma.start)
    child = await sys_fork(cpu, mm)
    while await try_to_free_pages(cpu):
        pass
    await user_load(cpu, child, vma.start)
    page = child.ptes[vma.start].page
    assert page is not None
    return child, page


class Device:
    """What is no vCPU, and interrupts one: it stands at points of its own."""

    number = -1

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def interruptible(self) -> bool:
        """Never."""
        return False

    async def interrupt(self, vcpu: int, interrupt: Interrupt) -> None:
        """Interrupt the vCPU once, at any time. One step."""
        await self._kernel.schedule.point(self, "device", (writes("irq", vcpu),))
        self._kernel.raise_interrupt(vcpu, interrupt)
