"""PG_locked: exclusive access to a page, for I/O, truncate and discard.

Models: lock_page and unlock_page of mm/filemap.c, Linux 2.6.15, with patch 1/6.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.page import Page, PG_locked
from guest_agent.kernel.page_hva import make_volatile


async def lock_page(cpu: Cpu, page: Page) -> None:
    """lock_page: sleeps until PG_locked is free."""
    cpu.might_sleep("lock_page")
    await cpu.wait_and_set_flag(page, PG_locked, "lock_page")


async def unlock_page(cpu: Cpu, page: Page) -> None:
    """unlock_page, with the series' make_volatile."""
    if not await cpu.test_and_clear_flag(page, PG_locked):
        raise KernelBug(f"unlock of a page that is not locked: {page.describe()}")
    await make_volatile(cpu, page, 1)


async def trylock_page(cpu: Cpu, page: Page) -> bool:
    """TestSetPageLocked: True if the lock is ours now."""
    return not await cpu.test_and_set_flag(page, PG_locked)


async def wait_on_page_locked(cpu: Cpu, page: Page) -> None:
    """Sleep until the page is unlocked; the caller holds a reference."""
    cpu.might_sleep("wait_on_page_locked")
    await cpu.wait_flag_clear(page, PG_locked, "wait_on_page_locked")
