"""The protections of the swap cache: what the same program meets with each of them off.

Method: by hand on one vCPU, where one suffices; and small guests under random schedules,
several processes with fork and exit, reclaim all the time, and a host that evicts.
"""

from __future__ import annotations

import re
from random import Random

import pytest

from guest_agent.kernel import invariants
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.guards import FIXED, Guards
from guest_agent.kernel.kernel import KernelConfig
from guest_agent.kernel.mm import Mm
from guest_agent.kernel.page import Mapping, Page, PG_dirty, PG_discarded
from guest_agent.kernel.page_lock import lock_page, unlock_page
from guest_agent.kernel.swap import try_to_free_swap
from guest_agent.kernel.swap_cache import find_swap_page_nodiscard, swap_free
from guest_agent.kernel.syscalls import (
    sys_exit,
    sys_fork,
    sys_mmap,
    sys_munmap,
    sys_read,
    user_load,
    user_store,
)
from race_explorer.world import SimWorld
from tests.kernel.swap_world import SwapWorld
from tests.kernel.world import World

# By hand.


def store_to_a_discarded_page(guards: Guards) -> SwapWorld:
    """A write fault, by patch 4/6, on a page of the swap cache that is discarded."""
    world = SwapWorld(guards=guards, minor_faults=True)

    async def program() -> None:
        child = await world.shared_and_swapped()
        world.evict(world.page(child).pfn)
        assert await user_store(world.cpu, world.mm, world.vma.start)
        assert await user_load(world.cpu, child, world.vma.start)

    world.run(program())
    return world


def test_a_fault_discards_after_it_has_unlocked() -> None:
    world = store_to_a_discarded_page(FIXED)
    assert world.kernel.statistics.pages_discarded == 1
    world.end()


def test_r26_a_fault_that_discards_with_the_page_locked_waits_for_itself() -> None:
    with pytest.raises(AssertionError, match="waits for ever at lock_page"):
        store_to_a_discarded_page(FIXED.without("unlock_before_discard"))


def unmap_while_discarded(guards: Guards, *, full: bool) -> SwapWorld:
    """Our pte names the slot of a page that the child maps and the host has discarded: unmap."""
    world = SwapWorld(guards=guards, swap_pages=4)

    async def program() -> None:
        child = await world.shared_and_swapped()
        if full:
            world.fill_swap()
        world.evict(world.page(child).pfn)
        await sys_munmap(world.cpu, world.mm, world.vma)
        assert await user_load(world.cpu, child, world.vma.start)

    world.run(program())
    return world


@pytest.mark.parametrize("full", [False, True])
def test_the_last_entry_of_a_discarded_page_leaves_page_and_slot(full: bool) -> None:
    world = unmap_while_discarded(FIXED, full=full)
    assert world.kernel.statistics.swap_reads == 2
    world.end()


def test_r27_a_lookup_that_discards_under_the_page_table_lock_dead_locks() -> None:
    with pytest.raises(KernelBug, match=r"dead-lock.*\(ptl\)"):
        unmap_while_discarded(FIXED.without("swap_nodiscard_lookup"), full=False)


def test_r28_a_slot_freed_while_the_page_is_discarded_is_lost() -> None:
    with pytest.raises(KernelBug, match="slot 0 is free"):
        unmap_while_discarded(FIXED.without("swap_slot_stable"), full=True)


def give_up_slot(guards: Guards, *, discarded: bool) -> tuple[World, Page, bool]:
    """try_to_free_swap on a page in the swap cache that nobody maps."""
    world = SwapWorld(guards=guards)
    freed: list[tuple[Page, bool]] = []

    async def program() -> None:
        child = await world.shared_and_swapped()
        page, slot = world.page(child), world.page(child).private
        await sys_exit(world.cpu, child)
        if discarded:
            world.evict(page.pfn)
        # The last pte that names the slot goes, as far as the map is concerned.
        await swap_free(world.cpu, slot)
        world.mm.ptes[world.vma.start].entry = None
        assert await find_swap_page_nodiscard(world.cpu, slot) is page
        await lock_page(world.cpu, page)
        freed.append((page, await try_to_free_swap(world.cpu, page)))
        await unlock_page(world.cpu, page)

    world.run(program())
    return world, *freed[0]


def test_the_slot_of_a_page_that_is_there_is_freed() -> None:
    world, page, freed = give_up_slot(FIXED, discarded=False)
    assert freed
    assert world.state(page) == "Sr"
    assert page.flags & PG_dirty
    assert not page.flags & PG_discarded
    assert not any(world.kernel.swap.map)


def test_the_slot_of_a_discarded_page_is_kept() -> None:
    world, page, freed = give_up_slot(FIXED, discarded=True)
    assert not freed
    assert world.kernel.swap.pages[page.private] is page


def test_r28_without_the_guard_the_slot_goes_with_the_content() -> None:
    world, page, freed = give_up_slot(FIXED.without("swap_slot_stable"), discarded=True)
    assert freed
    assert world.state(page) == "Vz"
    assert not any(world.kernel.swap.map)


# Under random schedules.

VCPUS = 3
OPERATIONS = 30
EVICT_ODDS = 10
STEPS_MAX = 100_000
PAGES = 10


class Process:
    """A program with a little anonymous memory that forks children and works for them too."""

    def __init__(self, file: Mapping, mm: Mm, seed: int) -> None:
        self.random, self.file = Random(seed), file
        self.mms = [mm]

    async def run(self, cpu: Cpu) -> None:
        calls = [self.load, self.store, self.read, self.fork, self.exit]
        for call in self.random.choices(calls, [35, 30, 15, 10, 10], k=OPERATIONS):
            await call(cpu)
        for child in self.mms[1:]:
            await sys_exit(cpu, child)

    def place(self) -> tuple[Mm, int]:
        mm = self.random.choice(self.mms)
        vma = mm.vmas[0]
        return mm, vma.start + self.random.randrange(vma.page_count)

    async def load(self, cpu: Cpu) -> None:
        assert await user_load(cpu, *self.place())

    async def store(self, cpu: Cpu) -> None:
        assert await user_store(cpu, *self.place())

    async def read(self, cpu: Cpu) -> None:
        await sys_read(cpu, self.file, self.random.randrange(6), 1)

    async def fork(self, cpu: Cpu) -> None:
        if len(self.mms) < 3:
            self.mms.append(await sys_fork(cpu, self.mms[0]))

    async def exit(self, cpu: Cpu) -> None:
        if len(self.mms) > 1:
            await sys_exit(cpu, self.mms.pop())


def random_run(seed: int, guards: Guards, *, swap_pages: int, minor_faults: bool) -> list[str]:
    """One guest to its end; what went wrong. Two of the processes share an address space."""
    random = Random(seed)
    config = KernelConfig(
        PAGES, VCPUS, guards=guards, swap_pages=swap_pages, minor_faults=minor_faults
    )
    world = SimWorld(config, frame_count=PAGES - 3)
    kernel = world.kernel
    file = kernel.open_file(1, 1, 0)
    mms = [kernel.new_mm(), kernel.new_mm()]

    async def prepare() -> None:
        await kernel.boot(kernel.cpus[0])
        for mm in mms:
            await sys_mmap(kernel.cpus[0], mm, None, 0, 3, writable=True)

    world.prepare(prepare())
    for n in range(VCPUS):
        world.run_vcpu(n, Process(file, mms[n % 2], seed * 100 + n).run)
    for _ in range(STEPS_MAX):
        options = world.options()
        if options and random.randrange(EVICT_ODDS) == 0 and len(world.evictions) < 2:
            world.evictions.append(random.randrange(1, PAGES))
        if options:
            random.choice(options).run()
        elif not (world.waits_for_frames() and world.reclaim_one()):
            break
        if world.violations():
            return world.violations()
    found = world.finished()

    async def check() -> None:
        found.extend(await invariants.check(kernel, kernel.cpus[0]))

    if not found:
        world.prepare(check())
    return found


@pytest.mark.parametrize("minor_faults", [False, True])
@pytest.mark.parametrize("swap_pages", [24, 64])
def test_random_processes_keep_their_memory(swap_pages: int, minor_faults: bool) -> None:
    for seed in range(6):
        found = random_run(seed, FIXED, swap_pages=swap_pages, minor_faults=minor_faults)
        assert not found, f"seed {seed}: {found}"


@pytest.mark.parametrize(
    ("guard", "damage"),
    [
        ("swap_slot_stable", r"anonymous \d+"),
        ("swap_nodiscard_lookup", r"dead-?lock"),
        ("putback_checks_discarded", r"bad page freed.*PG_lru"),
        ("unlock_before_discard", r"deadlock.*lock_page"),
    ],
)
def test_random_processes_miss_every_guard(guard: str, damage: str) -> None:
    guards = FIXED.without(guard)
    runs = (random_run(seed, guards, swap_pages=24, minor_faults=True) for seed in range(30))
    found = next(found for found in runs if found)
    assert re.search(damage, found[0]), found
