"""A swap-in that is overtaken: what it reads is somebody else's by then, and nobody is harmed.

Method: two vCPUs under the step engine, one of them held before a step while all others go on.
"""

from __future__ import annotations

from collections.abc import Callable

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.guards import FIXED
from guest_agent.kernel.kernel import KernelConfig
from guest_agent.kernel.mm import Mm, Pte, SwapEntry
from guest_agent.kernel.swap_cache import get_swap_page, swap_free
from guest_agent.kernel.syscalls import sys_mmap, user_load, user_store
from guest_agent.kernel.vmscan import try_to_free_pages
from race_explorer.world import SimWorld

LOADER, STORER = "cpu0", "cpu1"
SLOT = 1
RECLAIMS = 2
STEPS_MAX = 5_000


class Overtaken:
    """vcpu0 loads a page that slot 1 has, and stands between its pte and the slot.

    vcpu1 stores to the same page, which brings it in and gives the slot up, the device being
    full; and reclaims until a page of another process has got the slot.
    """

    def __init__(self) -> None:
        config = KernelConfig(8, 2, guards=FIXED, swap_pages=2)
        self.world = SimWorld(config, frame_count=20)
        self.kernel = self.world.kernel
        self.mm, self.other = self.kernel.new_mm(), self.kernel.new_mm()
        self._taken: list[int] = []
        self.stored = False
        self.world.prepare(self._prepare())
        self.world.closing = self._close
        self.world.run_vcpu(0, self._load)
        self.world.run_vcpu(1, self._store)
        self.run_until(lambda: self.stands(LOADER, "swap_duplicate"), but=STORER)

    async def _prepare(self) -> None:
        cpu = self.kernel.cpus[0]
        await self.kernel.boot(cpu)
        await self._map(cpu, self.mm)
        while await try_to_free_pages(cpu):
            pass
        assert isinstance(self.pte(self.mm).entry, SwapEntry)
        self._taken.append(await get_swap_page(cpu))
        await self._map(cpu, self.other)

    async def _map(self, cpu: Cpu, mm: Mm) -> None:
        vma = await sys_mmap(cpu, mm, None, 0, 1, writable=True)
        assert await user_store(cpu, mm, vma.start)

    async def _close(self, cpu: Cpu) -> None:
        for slot in self._taken:
            await swap_free(cpu, slot)

    async def _load(self, cpu: Cpu) -> None:
        assert await user_load(cpu, self.mm, self.mm.vmas[0].start)

    async def _store(self, cpu: Cpu) -> None:
        assert await user_store(cpu, self.mm, self.mm.vmas[0].start)
        for _ in range(RECLAIMS):
            await try_to_free_pages(cpu)
        self.stored = True

    def pte(self, mm: Mm) -> Pte:
        """The only pte of a process."""
        (pte,) = mm.ptes.values()
        return pte

    def stands(self, actor: str, label: str) -> bool:
        """Whether an actor is before such a step."""
        return any(o.name == actor and o.label == label for o in self.world.options())

    def run_until(self, done: Callable[[], bool], *, but: str) -> None:
        """All go on, one at a time, but for one who waits."""
        for _ in range(STEPS_MAX):
            if done():
                return
            next(o for o in self.world.options() if o.name != but).run()
            assert not self.world.violations()
        raise AssertionError("it never comes to that")

    def finish(self) -> None:
        """Everybody goes on to the end, and all that was ever stored is there."""
        self.run_until(lambda: not self.world.options(), but="nobody")
        assert not self.world.finished()


def test_the_slot_was_given_to_a_page_that_is_not_in_it_yet() -> None:
    race = Overtaken()
    race.run_until(
        lambda: race.stands(STORER, "add_to_swap_cache") and race.kernel.swap.map[SLOT] == 1,
        but=LOADER,
    )
    race.run_until(lambda: not race.stands(LOADER, "swap_duplicate"), but=STORER)
    race.run_until(lambda: SLOT in race.kernel.swap.pages, but=STORER)
    race.finish()


def test_the_slot_has_the_page_of_another_process() -> None:
    race = Overtaken()
    race.run_until(lambda: race.stored, but=LOADER)
    assert SLOT not in race.kernel.swap.pages
    entry = race.pte(race.other).entry
    assert isinstance(entry, SwapEntry)
    assert entry.slot == SLOT
    race.run_until(lambda: SLOT in race.kernel.swap.pages, but=STORER)
    race.finish()
