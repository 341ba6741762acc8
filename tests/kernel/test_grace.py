"""The three discarded lists: what is put there is freed once, and not before its time.

Method: the real allocator and lists on a small simulated machine. What depends on order is
explored to exhaustion; with its guard off the damage that the guard is for must be found.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.grace import PAGEVEC_SIZE, CallFunction, Grace, SignOff
from guest_agent.kernel.guards import FIXED, SEED, Guards
from guest_agent.kernel.kernel import KernelConfig
from guest_agent.kernel.lru import LruKind
from guest_agent.kernel.page import Page, PG_discarded, PG_reserved, reads, writes
from guest_agent.kernel.page_alloc import alloc_page, put_page
from race_explorer.engine import replay
from race_explorer.exhaustive import Report, explore
from race_explorer.world import SimWorld
from shared.arch import Orc

SCHEDULES_MAX = 20_000
KINDS = list(Grace)
Program = Callable[[Cpu], Coroutine[Any, None, None]]


class _Device:
    """Stands at points for what is no vCPU."""

    number = 99

    def interruptible(self) -> bool:
        return False


class _World(SimWorld):
    """A booted guest; `pages` are discarded, and one reference to each is left.

    At the end every page must be free or waiting, once.
    """

    def __init__(
        self,
        grace: Grace,
        guards: Guards = FIXED,
        *,
        vcpu_count: int = 2,
        page_count: int = 4,
        discarded: int = 1,
    ) -> None:
        super().__init__(
            KernelConfig(
                page_count,
                vcpu_count=vcpu_count,
                guards=guards,
                grace=grace,
                lru=LruKind.PLAIN,
            )
        )
        self.pages: list[Page] = []

        async def prepare() -> None:
            cpu = self.kernel.cpus[0]
            await self.kernel.boot(cpu)
            for _ in range(discarded):
                page = await alloc_page(cpu)
                await cpu.essa(Orc.SET_VOLATILE, page)
                await cpu.set_flag(page, PG_discarded)
                self.pages.append(page)

        self.prepare(prepare())
        for page in self.pages:
            self.evict_now(page.pfn)

    def device(self, vcpu: int, interrupt: Program) -> None:
        """A device that interrupts a vCPU once, whenever it likes."""

        async def interrupts() -> None:
            await self.kernel.schedule.point(_Device(), "device", (writes("irq", vcpu),))
            self.kernel.raise_interrupt(vcpu, interrupt)

        self.spawn("device", interrupts())

    def timer(self, vcpu: int) -> None:
        """Ticks, where they are wanted."""
        kernel = self.kernel
        touched = (writes("irq", vcpu), reads("discard_list", -1), reads("nohz"))

        async def ticks() -> None:
            while True:
                await kernel.schedule.wait_until(
                    _Device(), lambda: kernel.tick_wanted(vcpu), "tick", touched
                )
                kernel.tick(vcpu)

        self.spawn(f"timer{vcpu}", ticks(), daemon=True)

    def finished(self) -> list[str]:
        kernel = self.kernel
        stuck = [
            f"{a.name} waits here for ever: {a.step.label}"
            for a in self._actors
            if a.step is not None and not a.daemon and a.step.label != "idle"
        ]
        if stuck:
            return stuck
        found = [p.pfn for p in [*kernel.free_list, *kernel.grace.pages]]
        found += [p.pfn for p in kernel.mem_map if p.count or p.flags & PG_reserved]
        if sorted(found) != list(range(len(kernel.mem_map))):
            return [f"pages lost or twice on a list: there are {found}"]
        if self.pages[0] in kernel.free_list:
            self.mark("free")
        return self.violations()


async def _idle(cpu: Cpu) -> None:
    """Nothing to do but to take interrupts."""


def _run(world: SimWorld) -> None:
    """One schedule: whoever comes first."""
    run = replay(lambda: world, ())
    assert not run.violations, run.violations


def _explore(build: Callable[[Guards], SimWorld], *without: str) -> Report:
    guards = FIXED.without(*without)
    return explore(lambda: build(guards), schedules_max=SCHEDULES_MAX)


def _assert_guarded(build: Callable[[Guards], SimWorld], guard: str, damage: str) -> None:
    """Nothing goes wrong with all guards on, in any order; with this one off, that does."""
    report = _explore(build)
    assert report.counterexample is None, report.counterexample
    assert report.exhausted
    found = _explore(build, guard).counterexample
    assert found is not None
    assert damage in found.violations[0], found


def _all_violations(build: Callable[[Guards], SimWorld], guards: Guards) -> set[str]:
    """The first lines of all that can go wrong."""
    found: set[str] = set()

    class Noting:
        """A world that remembers what it ended in."""

        def __init__(self) -> None:
            self.world = build(guards)
            self.options, self.waiting = self.world.options, self.world.waiting
            self.reached = self.world.reached

        def violations(self) -> list[str]:
            return self._note(self.world.violations())

        def finished(self) -> list[str]:
            return self._note(self.world.finished())

        def _note(self, what: list[str]) -> list[str]:
            found.update(each.splitlines()[0] for each in what)
            return what

    assert explore(Noting, schedules_max=SCHEDULES_MAX, stop_at_first=False).exhausted
    return found


async def _put_all(cpu: Cpu, pages: list[Page]) -> None:
    for page in pages:
        await put_page(cpu, page)


# What every variant does.


@pytest.mark.parametrize("kind", KINDS)
def test_no_page_is_freed_while_a_vcpu_is_disabled_since_before_its_last_put(kind: Grace) -> None:
    def build(guards: Guards) -> SimWorld:
        world = _World(kind, guards)
        page = world.pages[0]

        async def puts(cpu: Cpu) -> None:
            await put_page(cpu, page)
            assert page in world.kernel.grace.pages
            await world.kernel.grace.reclaim(cpu)

        async def busy(cpu: Cpu) -> None:
            depth = cpu.local_irq_save()
            await cpu.point("busy.begin", reads("count", page.pfn))
            referenced = page.count == 1
            await cpu.point("busy.end", reads("flags", page.pfn))
            if referenced:
                world.mark("put while another vCPU was disabled")
                assert page.flags & PG_discarded, "freed too early"
            cpu.local_irq_restore(depth)

        world.run_vcpu(0, puts)
        world.run_vcpu(1, busy)
        world.timer(0)
        world.timer(1)
        return world

    report = _explore(build)
    assert report.counterexample is None, report.counterexample
    assert report.exhausted, report
    assert report.reached["put while another vCPU was disabled"]
    assert report.reached["free"] == report.schedules


@pytest.mark.parametrize("kind", KINDS)
def test_the_allocator_waits_for_the_last_page_that_there_is(kind: Grace) -> None:
    world = _World(kind, page_count=3, discarded=2)

    async def takes_it_back(cpu: Cpu) -> None:
        await put_page(cpu, world.pages[0])
        assert await alloc_page(cpu) is world.pages[0]
        world.mark("taken")

    world.run_vcpu(0, takes_it_back)
    world.run_vcpu(1, _idle)
    world.timer(0)
    world.timer(1)
    _run(world)
    assert "taken" in world.reached()
    assert world.pages[0].count == 1
    assert not world.pages[0].flags


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_that_nobody_discarded_goes_straight_to_the_free_list(kind: Grace) -> None:
    world = _World(kind)

    async def allocates(cpu: Cpu) -> None:
        page = await alloc_page(cpu)
        await put_page(cpu, page)
        assert page is world.kernel.free_list[-1]

    world.run_vcpu(0, allocates)
    _run(world)


@pytest.mark.parametrize("kind", [Grace.CALL, Grace.EACH])
def test_without_the_guard_a_put_with_interrupts_disabled_enables_them(kind: Grace) -> None:
    """R39: seen where the put is an interrupt's, as the one at the end of writeback."""

    def build(guards: Guards) -> SimWorld:
        world = _World(kind, guards, vcpu_count=1)
        world.device(0, lambda cpu: put_page(cpu, world.pages[0]))
        world.run_vcpu(0, _idle)
        return world

    _assert_guarded(build, "free_keeps_irq_state", "returned with interrupts enabled")


# CALL.


def _put_and_interrupt(in_pagevec: int, then: Program) -> Callable[[Guards], SimWorld]:
    """The pagevec holds some pages; a last put comes from an interrupt of what `then` does."""

    def build(guards: Guards) -> SimWorld:
        world = _World(
            Grace.CALL, guards, vcpu_count=1, page_count=in_pagevec + 4, discarded=in_pagevec + 2
        )
        *before, by_program, by_interrupt = world.pages
        world.prepare(_put_all(world.kernel.cpus[0], before))

        async def program(cpu: Cpu) -> None:
            await put_page(cpu, by_program)
            await then(cpu)

        world.run_vcpu(0, program)
        world.device(0, lambda cpu: put_page(cpu, by_interrupt))
        return world

    return build


async def _nothing(cpu: Cpu) -> None:
    pass


async def _reclaim(cpu: Cpu) -> None:
    await cpu.kernel.grace.reclaim(cpu)


@pytest.mark.parametrize(
    ("in_pagevec", "then", "damage"),
    [
        (0, _nothing, "pages lost or twice"),
        (PAGEVEC_SIZE - 2, _nothing, "pages lost or twice"),
        (PAGEVEC_SIZE - 1, _nothing, "past the end of its pagevec"),
        (PAGEVEC_SIZE - 2, _reclaim, "dead-lock: vcpu 0 spins on a spin lock"),
    ],
)
def test_r51_a_last_put_in_an_interrupt_finds_the_list_in_order(
    in_pagevec: int, then: Program, damage: str
) -> None:
    build = _put_and_interrupt(in_pagevec, then)
    report = _explore(build)
    assert report.counterexample is None, report.counterexample
    assert report.exhausted
    violations = _all_violations(build, FIXED.without("discard_list_irq_safe"))
    assert any(damage in what for what in violations), violations


def test_the_series_as_written_loses_a_page_to_an_interrupt() -> None:
    build = _put_and_interrupt(0, _nothing)
    found = explore(lambda: build(SEED), schedules_max=SCHEDULES_MAX).counterexample
    assert found is not None
    assert "pages lost or twice" in found.violations[0]


@pytest.mark.parametrize("count", [1, PAGEVEC_SIZE, PAGEVEC_SIZE + 1])
def test_reclaim_empties_the_pagevecs_of_others_too(count: int) -> None:
    """DEVIATION from the series, whose partial pagevecs keep their pages for ever."""
    world = _World(Grace.CALL, page_count=count + 2, discarded=count)
    grace = world.kernel.grace
    assert isinstance(grace, CallFunction)

    async def puts(cpu: Cpu) -> None:
        await _put_all(cpu, world.pages)

    async def reclaims(cpu: Cpu) -> None:
        await world.kernel.schedule.wait_until(
            cpu, lambda: len(grace.pages) == count, "test", (reads("discard_list", -1),)
        )
        freed = await grace.reclaim(cpu)
        freed += await grace.reclaim(cpu)
        assert freed == count
        assert not grace.pages

    world.run_vcpu(0, reclaims)
    world.run_vcpu(1, puts)
    _run(world)
    assert len(world.kernel.free_list) == count + 1


# EACH.


def test_r19_the_list_of_the_vcpu_that_reclaims_is_spliced_too() -> None:
    def build(guards: Guards) -> SimWorld:
        world = _World(Grace.EACH, guards, page_count=3, discarded=2)

        async def takes_it_back(cpu: Cpu) -> None:
            await put_page(cpu, world.pages[0])
            await alloc_page(cpu)

        world.run_vcpu(0, takes_it_back)
        world.run_vcpu(1, _idle)
        return world

    _assert_guarded(build, "grace_splices_own", "out of memory")


# SIGN_OFF.


def test_r19_an_idle_vcpu_is_not_waited_for() -> None:
    def build(guards: Guards) -> SimWorld:
        world = _World(Grace.SIGN_OFF, guards, page_count=3, discarded=2)

        async def puts(cpu: Cpu) -> None:
            await put_page(cpu, world.pages[0])
            await world.kernel.grace.wait(cpu)

        world.run_vcpu(0, puts)
        world.run_vcpu(1, _idle)
        world.timer(0)
        world.timer(1)
        return world

    _assert_guarded(build, "grace_idle_signs_off", "waits here for ever")


def test_a_page_that_an_interrupt_of_an_idle_vcpu_puts_is_freed() -> None:
    world = _World(Grace.SIGN_OFF)
    world.run_vcpu(0, _idle)
    world.run_vcpu(1, _idle)
    world.device(1, lambda cpu: put_page(cpu, world.pages[0]))
    _run(world)
    assert world.pages[0] in world.kernel.free_list


def test_ticks_are_raised_only_where_they_do_something() -> None:
    world = _World(Grace.SIGN_OFF)
    kernel = world.kernel
    grace = kernel.grace
    assert isinstance(grace, SignOff)
    world.prepare(put_page(kernel.cpus[0], world.pages[0]))
    kernel.tick(1)
    kernel.tick(0)
    kernel.tick(0)
    assert [len(cpu.pending) for cpu in kernel.cpus] == [1, 0]
    world.run_vcpu(0, _idle)
    world.run_vcpu(1, _idle)
    _run(world)
    kernel.tick(0)
    assert not kernel.cpus[0].pending


@pytest.mark.parametrize("kind", [Grace.CALL, Grace.EACH])
def test_calls_need_no_ticks(kind: Grace) -> None:
    world = _World(kind)
    world.prepare(put_page(world.kernel.cpus[0], world.pages[0]))
    world.kernel.tick(0)
    assert not world.kernel.cpus[0].pending
