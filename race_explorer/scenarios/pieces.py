"""What several scenarios do: a small world, a mapped page that is discarded, one touch of it."""

from __future__ import annotations

from typing import Any

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.discard import end_translation, storage_access
from guest_agent.kernel.kernel import KernelConfig
from guest_agent.kernel.mm import Mm
from guest_agent.kernel.page import Mapping, Page
from guest_agent.kernel.syscalls import sys_mmap, user_load
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
    return SimWorld(config, host_guards=protections.host, link_guards=protections.link)


def map_and_discard(world: SimWorld, mm: Mm, file: Mapping) -> Page:
    """Boot, map the file's page 0 read-only, load from it, and let the host discard it."""
    kernel = world.kernel

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=False)
        await user_load(cpu, mm, vma.start)

    world.prepare(prepare())
    page = file.pages[0]
    world.evict_now(page.pfn)
    return page


async def touch_once(cpu: Cpu, mm: Mm) -> bool:
    """One access through the only pte, not executed again; True if a discard fault took it."""
    (pte,) = mm.ptes.values()
    if pte.page is None:
        return False
    cpu.translation = pte
    if await storage_access(cpu, Load(pte.page.pfn, 0, 32)) is None:
        return True
    await end_translation(cpu)
    return False
