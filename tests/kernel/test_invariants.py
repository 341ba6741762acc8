"""Every invariant can fail: a sound guest is spoilt in one place, and the check says where.

Method: a guest with every kind of page (cached, dirty, mapped, anonymous, swapped, locked,
free, discarded), quiet; each case changes one field of it by hand. With nothing changed the
check finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from guest_agent.kernel import invariants
from guest_agent.kernel.mm import Mm, Vma
from guest_agent.kernel.page import (
    Anonymous,
    Page,
    PG_active,
    PG_compound,
    PG_dirty,
    PG_discarded,
    PG_lru,
    PG_private,
    PG_state_change,
    PG_swapcache,
    PG_writable,
)
from guest_agent.kernel.syscalls import (
    sys_fsync,
    sys_mlock,
    sys_mmap,
    sys_read,
    sys_remap_file_pages,
    sys_write,
    user_load,
    user_store,
)
from shared.arch import Orc
from shared.commands import DiscardFault, Essa
from tests.kernel.world import World


class Guest(World):
    """One with a page of every kind."""

    mm: Mm
    shared: Vma
    private: Vma
    anonymous: Vma

    def __init__(self) -> None:
        super().__init__(page_count=48, swap_pages=8)
        self.mm = self.kernel.new_mm()
        self.run(self._fill())

    async def _fill(self) -> None:
        cpu, mm = self.cpu, self.mm
        await sys_read(cpu, self.file, 0, 6)
        await sys_write(cpu, self.file, 6, 2)
        await sys_fsync(cpu, self.file)
        await sys_write(cpu, self.file, 7, 1)
        self.shared = await sys_mmap(cpu, mm, self.file, 0, 4, writable=True)
        self.private = await sys_mmap(cpu, mm, self.file, 4, 2, writable=True, shared=False)
        self.anonymous = await sys_mmap(cpu, mm, None, 0, 4, writable=True, shared=False)
        for n in range(3):
            await user_store(cpu, mm, self.shared.start + n)
        await user_load(cpu, mm, self.private.start)
        await user_store(cpu, mm, self.private.start + 1)
        for n in range(4):
            await user_store(cpu, mm, self.anonymous.start + n)
        self.discarded = self.page(self.file.pages[3])
        self.host.begin_eviction(self.guest_id, self.discarded.pfn)
        self.settle()
        await user_load(cpu, mm, self.shared.start + 3)

    def page(self, page: Page | None) -> Page:
        assert page is not None
        return page

    def mapped(self, vma: Vma, n: int = 0) -> Page:
        return self.page(self.mm.ptes[vma.start + n].page)

    def check(self) -> list[str]:
        found: list[str] = []

        async def program() -> None:
            found.extend(await invariants.check(self.kernel, self.cpu))

        self.run(program())
        return found

    def essa(self, orc: Orc, page: Page) -> None:
        self.run(self._call(Essa(orc, page.pfn)))

    async def _call(self, command: Essa) -> None:
        await self.cpu.call(command)


def _double_free(guest: Guest) -> None:
    guest.kernel.free_list.append(guest.kernel.free_list[0])


def _lost(guest: Guest) -> None:
    guest.kernel.free_list.pop()


def _flag(of: Callable[[Guest], Page], flag: int) -> Callable[[Guest], None]:
    def spoil(guest: Guest) -> None:
        of(guest).flags ^= flag

    return spoil


def _count(of: Callable[[Guest], Page], name: str) -> Callable[[Guest], None]:
    def spoil(guest: Guest) -> None:
        page = of(guest)
        setattr(page, name, getattr(page, name) + 1)

    return spoil


def _state(of: Callable[[Guest], Page], orc: Orc) -> Callable[[Guest], None]:
    return lambda guest: guest.essa(orc, of(guest))


def _cached(guest: Guest) -> Page:
    return guest.file.pages[6]


def _dirty(guest: Guest) -> Page:
    return guest.file.pages[7]


def _stored(guest: Guest) -> Page:
    return guest.mapped(guest.shared)


def _copy(guest: Guest) -> Page:
    return guest.mapped(guest.private, 1)


def _anonymous(guest: Guest) -> Page:
    return guest.mapped(guest.anonymous)


def _free(guest: Guest) -> Page:
    return guest.kernel.free_list[0]


def _another_page(guest: Guest) -> None:
    one, other = (guest.mm.ptes[guest.shared.start + n] for n in (0, 1))
    one.page, other.page = other.page, one.page


def _outside_its_mapping(guest: Guest) -> None:
    page = guest.file.pages.pop(_stored(guest).index)
    guest.kernel.nrpages -= 1
    page.count -= 1


def _stray_pte(guest: Guest) -> None:
    guest.mm.ptes[0x9999] = guest.mm.ptes.pop(guest.shared.start)


def _truncated(guest: Guest) -> None:
    guest.file.page_count = 1


def _shared_copy(guest: Guest) -> None:
    child = guest.kernel.new_mm()
    vma = Vma(child, None, 0x1000, 0x1000, 1, writable=True, shared=False)
    child.vmas.append(vma)
    vma.anon_vma = guest.anonymous.anon_vma
    page = _anonymous(guest)
    pte = guest.kernel.pte(child, 0x1000)
    pte.page, pte.writable = page, True
    page.count += 1
    page.mapcount += 1


def _writable_pte(guest: Guest) -> None:
    guest.mm.ptes[guest.private.start].writable = True


def _vma_read_only(guest: Guest) -> None:
    guest.shared.writable = False


def _unlinked(guest: Guest) -> None:
    guest.file.i_mmap.remove(guest.shared)


def _not_in_anon_vma(guest: Guest) -> None:
    assert guest.anonymous.anon_vma is not None
    guest.anonymous.anon_vma.vmas.clear()


def _untagged(guest: Guest) -> None:
    guest.file.dirty.clear()


def _stranger(guest: Guest) -> None:
    guest.file.pages[6].index = 5


def _miscounted(guest: Guest) -> None:
    guest.kernel.nrpages += 1


def _off_the_list(guest: Guest) -> None:
    page = _cached(guest)
    (guest.kernel.lru.active if page.flags & PG_active else guest.kernel.lru.inactive).pop(page.pfn)


def _isolated(guest: Guest) -> None:
    guest.kernel.lru.isolated += 1


def _slot_leaked(guest: Guest) -> None:
    guest.kernel.swap.map[3] += 1
    guest.kernel.swap.free -= 1


def _slots_miscounted(guest: Guest) -> None:
    guest.kernel.swap.free -= 1


def _stranger_in_the_swap_cache(guest: Guest) -> None:
    page = _anonymous(guest)
    guest.kernel.swap.pages[2] = page
    page.count += 1
    guest.kernel.swap.map[2] += 1
    guest.kernel.swap.free -= 1


def _locked_and_volatile(guest: Guest) -> None:
    guest.private.locked = True
    guest.essa(Orc.SET_VOLATILE, guest.mapped(guest.private))


def _translation(guest: Guest) -> None:
    guest.cpu.translation = guest.mm.ptes[guest.shared.start]


def _fault(guest: Guest) -> None:
    guest.kernel.arrived_faults[9] = DiscardFault(9, 0, 0)


def _spin_lock(guest: Guest) -> None:
    guest.file.tree_lock.holder = 0


def _semaphore(guest: Guest) -> None:
    guest.mm.mmap_sem.readers = 1


def _i_sem(guest: Guest) -> None:
    guest.file.i_sem = 0


def _dma(guest: Guest) -> None:
    guest.mm.dma = 1


def _file_page_in_anonymous_memory(guest: Guest) -> None:
    page, pte = _cached(guest), guest.mm.ptes[guest.anonymous.start]
    pte.page, pte.writable = page, False


def _anonymous_page_in_a_shared_mapping(guest: Guest) -> None:
    page, pte = _anonymous(guest), guest.mm.ptes[guest.shared.start]
    pte.page = page


SPOILT: dict[str, tuple[Callable[[Guest], None], str]] = {
    "a double free": (_double_free, "a page is free and free: pfn"),
    "a lost page": (_lost, "a page is lost: pfn"),
    "a free page of a file": (_flag(_free, PG_lru), "a free page is in use"),
    "a free page that is stable": (_state(_free, Orc.SET_STABLE), "state S[rz]: free"),
    "a free page that is dirty": (_flag(_free, PG_dirty), "a free page is in use"),
    "a free page with a reference": (_count(_free, "count"), "0 references to a page are known"),
    "two homes": (
        lambda g: setattr(_cached(g), "anonymous", Anonymous(99, bytes(32))),
        "a page is cached in file 1 and anonymous",
    ),
    "a reference too many": (_count(_cached, "count"), "1 references to a page are known"),
    "a pte too few": (_count(_stored, "mapcount"), "1 ptes map a page"),
    "a bit lock held": (_flag(_cached, PG_state_change), "a flag of a step under way is set"),
    "discarded in the cache": (_flag(_cached, PG_discarded), "PG_discarded outside"),
    "buffers without their flag": (_flag(_dirty, PG_private), "PG_private does not tell"),
    "compound in the cache": (_flag(_cached, PG_compound), "cached in file 1 and compound"),
    "dirty and volatile": (_state(_dirty, Orc.SET_VOLATILE), "state V[rz] although PG_dirty"),
    "anonymous and volatile": (
        _state(_copy, Orc.SET_VOLATILE),
        "state V[rz] although its content is nowhere else",
    ),
    "cached and unused": (_state(_cached, Orc.SET_UNUSED), "state U[rz]: cached in file 1"),
    "writable and volatile": (
        _state(_stored, Orc.SET_VOLATILE),
        "state Vr although a pte is writable",
    ),
    "writable without the flag": (_flag(_stored, PG_writable), "PG_writable clear"),
    "locked and volatile": (_locked_and_volatile, "state V[rz] although a locked vma maps it"),
    "another page of the file": (_another_page, "a pte to another page than 0 of the file"),
    "a pte outside the mapping": (_outside_its_mapping, "a pte to a page outside its mapping"),
    "a pte outside every vma": (_stray_pte, "a pte outside every vma"),
    "a pte to a truncated page": (_truncated, "a pte to a truncated page"),
    "a truncated page that is dirty": (_truncated, "a dirty page beyond the end of its file"),
    "a shared copy that is writable": (_shared_copy, "writable and the anonymous page shared"),
    "a pte of another vma": (_shared_copy, "rmap does not find the pte of an anonymous page"),
    "a file's page writable in private": (_writable_pte, "the file's page is writable"),
    "a writable pte too many": (_vma_read_only, "a pte is writable and its vma is not"),
    "a file's page in anonymous memory": (
        _file_page_in_anonymous_memory,
        "a pte to a page outside its mapping",
    ),
    "an anonymous page shared": (
        _anonymous_page_in_a_shared_mapping,
        "a shared mapping has an anonymous page",
    ),
    "a vma that rmap forgot": (_unlinked, "is not in its file's list"),
    "a vma that anon_vma forgot": (_not_in_anon_vma, "is not in its anon_vma"),
    "dirty and not tagged": (_untagged, "PG_dirty without its tag"),
    "a stranger in the page tree": (_stranger, "file 1 index 6 caches a stranger"),
    "pages miscounted": (_miscounted, "pages are cached and"),
    "not on the LRU": (_off_the_list, "0 times on the LRU lists"),
    "on the wrong LRU list": (_flag(_cached, PG_active), "a page on the wrong LRU list"),
    "isolated": (_isolated, "1 pages are isolated"),
    "a leaked slot": (_slot_leaked, "swap slot 3 counts 1 users and has 0"),
    "slots miscounted": (_slots_miscounted, "swap slots are free and"),
    "a stranger in the swap cache": (_stranger_in_the_swap_cache, "slot 2 has a stranger"),
    "PG_swapcache alone": (_flag(_anonymous, PG_swapcache), "PG_swapcache outside"),
    "a translation": (_translation, "vcpu 0 has an access under way"),
    "a fault that nobody took": (_fault, "discard fault 9 was delivered and never taken"),
    "a spin lock": (_spin_lock, "the tree lock of file 1 is held by vcpu 0"),
    "mmap_sem": (_semaphore, "mmap_sem of mm 1 is held"),
    "i_sem": (_i_sem, "i_sem of file 1 is held by vcpu 0"),
    "a transfer": (_dma, "mm 1 has 1 transfers under way"),
}


def test_a_sound_guest_is_found_sound() -> None:
    guest = Guest()
    assert guest.check() == []
    assert invariants.at_every_step(guest.kernel) == []
    assert guest.discarded in guest.kernel.grace.pages


def test_so_is_one_with_locked_swapped_and_non_linear_memory() -> None:
    guest = Guest()

    async def more() -> None:
        cpu, mm = guest.cpu, guest.mm
        await sys_mlock(cpu, mm, guest.private)
        await sys_remap_file_pages(cpu, mm, guest.shared, guest.shared.start, 3)
        await user_store(cpu, mm, guest.shared.start)
        for _ in range(20):
            await guest.kernel.try_to_free_pages(cpu)

    guest.run(more())
    assert guest.kernel.statistics.swap_writes > 0
    assert guest.check() == []


@pytest.mark.parametrize(("spoil", "sentence"), SPOILT.values(), ids=SPOILT.keys())
def test_every_invariant_can_fail(spoil: Callable[[Guest], None], sentence: str) -> None:
    guest = Guest()
    spoil(guest)
    found = "\n".join(guest.check())
    with pytest.raises(AssertionError, match=sentence):
        assert not found, found


CHEAP: dict[str, tuple[Callable[[Guest], None], str]] = {
    "a double free": (_double_free, "a page is free twice"),
    "a free page in use": (_flag(_free, PG_dirty), "a free page is in use"),
    "a free page with a reference": (_count(_free, "count"), "a referenced page waits"),
    "more ptes than references": (
        lambda g: setattr(_stored(g), "mapcount", 9),
        "more ptes than references",
    ),
    "a cached page without its reference": (
        lambda g: setattr(_cached(g), "count", 0),
        "a cached page without the cache's reference",
    ),
    "not on the LRU": (_off_the_list, "0 times on the LRU lists"),
}


@pytest.mark.parametrize(("spoil", "sentence"), CHEAP.values(), ids=CHEAP.keys())
def test_the_cheap_ones_need_no_host(spoil: Callable[[Guest], None], sentence: str) -> None:
    guest = Guest()
    commands = len(guest.commands)
    spoil(guest)
    assert sentence in "\n".join(invariants.at_every_step(guest.kernel))
    assert len(guest.commands) == commands
