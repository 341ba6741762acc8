"""What must hold of the kernel's data: at every quiescent point, and cheaply at every step.

Rules:
- `check` says in sentences what does not hold; it changes nothing, but waits for transfers
  under way. Its caller sees to it that every other vCPU is idle, enabled for interrupts.
- Everything is counted from the holders' side (ptes, page trees, swap cache, buffers, lists)
  and then compared with what the page says of itself.

Models: no function of Linux; free_pages_check, page_referenced's and rmap's BUG_ONs are parts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.mm import Mm, Pte, SwapEntry, Vma
from guest_agent.kernel.page import (
    Page,
    PG_active,
    PG_compound,
    PG_dirty,
    PG_discarded,
    PG_locked,
    PG_lru,
    PG_private,
    PG_reserved,
    PG_state_change,
    PG_swapcache,
    PG_writable,
    PG_writeback,
    SpinLock,
)
from shared.arch import STATE_MASK, STATE_NAMES, USAGE_MASK, Orc, Usage
from shared.commands import ESSA_ARRAY_MAX, EssaArray, EssaArrayOutcome

if TYPE_CHECKING:
    from guest_agent.kernel.kernel import Kernel

_UNDER_WAY = PG_locked | PG_writeback
_TRANSIENT = PG_locked | PG_writeback | PG_state_change
_ROUNDS = 3


@dataclass(slots=True)
class _Census:
    """Who holds each page, by pfn. homes: what a page is; a sound one has exactly one."""

    ptes: Counter[int] = field(default_factory=Counter)
    references: Counter[int] = field(default_factory=Counter)
    homes: dict[int, list[str]] = field(default_factory=dict)
    slots: Counter[int] = field(default_factory=Counter)
    writable: set[int] = field(default_factory=set)
    locked: set[int] = field(default_factory=set)

    def settle(self, page: Page, home: str) -> None:
        """The page lives here."""
        self.homes.setdefault(page.pfn, []).append(home)


async def check(kernel: Kernel, cpu: Cpu) -> list[str]:
    """All that does not hold while nothing is under way; empty if all is well.

    An idle vCPU may still be in an interrupt, or putting pages away while it goes idle; so
    what does not hold must not hold again after every vCPU has been interrupted once more.
    """
    found: list[str] = []
    for _ in range(_ROUNDS):
        await _wait_for_transfers(kernel, cpu)
        await kernel.smp_call_function(cpu)
        states = await _host_states(kernel, cpu) if kernel.has_essa else None
        found = _all(kernel, states)
        if not found:
            break
    return found


async def _wait_for_transfers(kernel: Kernel, cpu: Cpu) -> None:
    for page in kernel.mem_map:
        if page.flags & _UNDER_WAY:
            await cpu.wait_flag_clear(page, _UNDER_WAY, "invariants.transfer")


def _all(kernel: Kernel, states: bytes | None) -> list[str]:
    """Everything in one go; no schedule point."""
    census = _census(kernel)
    found = [
        *_held_locks(kernel),
        *_cpus(kernel),
        *(line for mm in kernel.mms for line in _address_space(mm)),
        *_page_trees(kernel),
        *_lru(kernel),
        *_swap(kernel, census),
        *(line for page in kernel.mem_map for line in _page(page, census)),
    ]
    if states is not None:
        found += [line for page in kernel.mem_map for line in _state(kernel, page, census, states)]
    return found


def at_every_step(kernel: Kernel) -> list[str]:
    """What holds even between two steps, without asking the host."""
    found = [
        f"more ptes than references: {page.describe()}"
        for page in kernel.mem_map
        if not 0 <= page.mapcount <= page.count
    ]
    waiting = kernel.free_list + kernel.grace.pages
    # The list of the series gets a pagevec's pages before the pagevec is emptied.
    once = waiting if kernel.guards.discard_list_irq_safe else kernel.free_list
    found += [f"a page is free twice: {p.describe()}" for p in _twice(once)]
    found += [f"a free page is in use: {p.describe()}" for p in kernel.free_list if _used(p)]
    found += [f"a referenced page waits to be freed: {p.describe()}" for p in waiting if p.count]
    for mapping in kernel.mappings.values():
        for page in mapping.pages.values():
            if page.count < 1 + page.mapcount:
                found.append(f"a cached page without the cache's reference: {page.describe()}")
    return [*found, *_lru(kernel)]


def _used(page: Page) -> bool:
    return bool(page.flags or page.mapping or page.anonymous or page.buffers)


def _twice(pages: list[Page]) -> list[Page]:
    counted = Counter(page.pfn for page in pages)
    return [page for page in pages if counted[page.pfn] > 1]


# Counting.


def _census(kernel: Kernel) -> _Census:
    census = _Census()
    for mm in kernel.mms:
        for vma, _, pte in _ptes(mm):
            _count_pte(census, vma, pte)
    for mapping in kernel.mappings.values():
        for page in mapping.pages.values():
            census.references[page.pfn] += 1
            census.settle(page, f"cached in file {mapping.number}")
    for page in kernel.swap.pages.values():
        census.references[page.pfn] += 1
    for page in kernel.mem_map:
        _count_page(census, page)
    for page in kernel.free_list:
        census.settle(page, "free")
    for page in kernel.grace.pages:
        census.settle(page, "on the discarded list")
    return census


def _count_pte(census: _Census, vma: Vma | None, pte: Pte) -> None:
    if pte.page is not None:
        pfn = pte.page.pfn
        census.ptes[pfn] += 1
        census.references[pfn] += 1
        census.writable |= {pfn} if pte.writable else set()
        census.locked |= {pfn} if vma is not None and vma.locked else set()
    elif isinstance(pte.entry, SwapEntry):
        census.slots[pte.entry.slot] += 1


def _count_page(census: _Census, page: Page) -> None:
    if page.flags & PG_reserved:
        census.settle(page, "reserved")
        census.references[page.pfn] += 1
    if page.flags & PG_compound:
        census.settle(page, "compound")
        census.references[page.pfn] += page.head is None
    if page.anonymous is not None and page.count:
        census.settle(page, "anonymous")
    if page.buffers:
        census.references[page.pfn] += 1


def _ptes(mm: Mm) -> Iterator[tuple[Vma | None, int, Pte]]:
    vmas = sorted(mm.vmas, key=lambda vma: vma.start)
    starts = [vma.start for vma in vmas]
    for address, pte in mm.ptes.items():
        place = bisect_right(starts, address) - 1
        vma = vmas[place] if place >= 0 and address < vmas[place].end else None
        yield vma, address, pte


# Pages.


def _page(page: Page, census: _Census) -> Iterator[str]:
    """One page against its holders."""
    pfn, homes = page.pfn, census.homes.get(page.pfn, [])
    if len(homes) != 1:
        yield f"a page is {' and '.join(homes) or 'lost'}: {page.describe()}"
    if page.mapcount != census.ptes[pfn]:
        yield f"{census.ptes[pfn]} ptes map a page: {page.describe()}"
    if page.count != census.references[pfn]:
        yield f"{census.references[pfn]} references to a page are known: {page.describe()}"
    if page.flags & _TRANSIENT:
        yield f"a flag of a step under way is set: {page.describe()}"
    if page.flags & PG_discarded and homes != ["on the discarded list"]:
        yield f"PG_discarded outside the discarded list: {page.describe()}"
    if homes == ["free"] and _used(page):
        yield f"a free page is in use: {page.describe()}"
    if bool(page.flags & PG_private) is not bool(page.buffers):
        yield f"PG_private does not tell of buffers: {page.describe()}"


def _state(kernel: Kernel, page: Page, census: _Census, states: bytes) -> Iterator[str]:
    """What the host was told of the page, against what the guest needs of it."""
    homes = census.homes.get(page.pfn, [])
    usage = states[page.pfn] & USAGE_MASK
    name = STATE_NAMES[states[page.pfn] & STATE_MASK]
    if (usage == Usage.UNUSED) is not (homes == ["free"] and kernel.unused_hints):
        yield f"state {name}: {' and '.join(homes)}: {page.describe()}"
    if usage == Usage.STABLE or homes in (["free"], ["on the discarded list"]):
        return
    why = _needs_stable(kernel, page, census)
    if why:
        yield f"state {name} although {why}: {page.describe()}"
    # Vz is what a clean potential volatile page comes to rightly.
    if name == "Vr" and page.pfn in census.writable:
        yield f"state {name} although a pte is writable: {page.describe()}"
    if page.pfn in census.writable and not page.flags & PG_writable:
        yield f"a pte is writable and PG_writable clear: {page.describe()}"


def _needs_stable(kernel: Kernel, page: Page, census: _Census) -> str:
    if not kernel.volatile_hints:
        return "nothing is ever volatile"
    if page.flags & PG_dirty:
        return "PG_dirty is set"
    if page.buffers:
        return "it has buffers"
    # DEVIATION: mlock of the series marks files; locked anonymous memory that is on the swap
    # device as well may be volatile, and costs a read when it is gone.
    if page.pfn in census.locked and not page.flags & PG_swapcache:
        return "a locked vma maps it"
    if page.anonymous is not None and not page.flags & PG_swapcache:
        return "its content is nowhere else"
    return ""


async def _host_states(kernel: Kernel, cpu: Cpu) -> bytes:
    """GET_STATE of every page; not counted in the statistics."""
    pfns = np.arange(kernel.config.page_count, dtype=np.uint32)
    parts = []
    for start in range(0, len(pfns), ESSA_ARRAY_MAX):
        chunk = pfns[start : start + ESSA_ARRAY_MAX]
        outcome = await cpu.call(EssaArray.of(np.full(len(chunk), Orc.GET_STATE, np.uint8), chunk))
        if not isinstance(outcome, EssaArrayOutcome):
            raise KernelBug(f"GET_STATE of every page ended in {outcome}")
        parts.append(outcome.states)
    return b"".join(parts)


# Address spaces, page trees, lists.


def _address_space(mm: Mm) -> Iterator[str]:
    for vma, address, pte in _ptes(mm):
        if pte.page is None and pte.entry is None:
            continue
        where = f"mm {mm.number} page address {address:#x}"
        if vma is None:
            yield f"{where}: a pte outside every vma"
        elif pte.page is not None:
            for what in _present(vma, address, pte, pte.page):
                yield f"{where}: {what}: {pte.page.describe()}"
    for vma in mm.vmas:
        lists = [] if vma.mapping is None else [vma.mapping.i_mmap, vma.mapping.i_mmap_nonlinear]
        if vma.anon_vma is not None and vma not in vma.anon_vma.vmas:
            yield f"mm {mm.number}: the vma at {vma.start:#x} is not in its anon_vma"
        if lists and [vma in one for one in lists] != [not vma.nonlinear, vma.nonlinear]:
            yield f"mm {mm.number}: the vma at {vma.start:#x} is not in its file's list"


def _present(vma: Vma, address: int, pte: Pte, page: Page) -> Iterator[str]:
    """What is wrong with a pte that is present."""
    if pte.writable and not vma.writable:
        yield "a pte is writable and its vma is not"
    if page.anonymous is not None:
        if vma.shared:
            yield "a shared mapping has an anonymous page"
        if page.anon_vma is not vma.anon_vma or page.index != vma.index(address):
            yield "rmap does not find the pte of an anonymous page"
        if pte.writable and page.mapcount > 1:
            yield "a pte is writable and the anonymous page shared"
        return
    mapping = vma.mapping
    if mapping is None or page.mapping is not mapping or mapping.pages.get(page.index) is not page:
        yield "a pte to a page outside its mapping"
        return
    if page.index != vma.expected_index(address):
        yield f"a pte to another page than {vma.expected_index(address)} of the file"
    if mapping.page_count is not None and page.index >= mapping.page_count:
        yield "a pte to a truncated page"
    if pte.writable and not vma.shared:
        yield "a private mapping's pte to the file's page is writable"


def _page_trees(kernel: Kernel) -> Iterator[str]:
    for mapping in kernel.mappings.values():
        for index, page in mapping.pages.items():
            if page.mapping is not mapping or page.index != index:
                yield f"file {mapping.number} index {index} caches a stranger: {page.describe()}"
            if page.flags & PG_dirty and index not in mapping.dirty:
                yield f"PG_dirty without its tag: {page.describe()}"
            # A read that began before a truncate may cache such a page; nobody may change it.
            beyond = mapping.page_count is not None and index >= mapping.page_count
            if beyond and page.flags & PG_dirty:
                yield f"a dirty page beyond the end of its file: {page.describe()}"
    cached = sum(len(mapping.pages) for mapping in kernel.mappings.values())
    if cached != kernel.nrpages:
        yield f"{cached} pages are cached and {kernel.nrpages} counted"


def _lru(kernel: Kernel) -> Iterator[str]:
    listed: Counter[int] = Counter()
    for active, pages in ((True, kernel.lru.active), (False, kernel.lru.inactive)):
        for page in pages.values():
            listed[page.pfn] += 1
            if not page.flags & PG_lru or bool(page.flags & PG_active) is not active:
                yield f"a page on the wrong LRU list: {page.describe()}"
    for page in kernel.mem_map:
        if listed[page.pfn] != bool(page.flags & PG_lru):
            yield f"{listed[page.pfn]} times on the LRU lists: {page.describe()}"


def _swap(kernel: Kernel, census: _Census) -> Iterator[str]:
    swap = kernel.swap
    for slot, page in swap.pages.items():
        census.slots[slot] += 1
        if not page.flags & PG_swapcache or page.private != slot or page.anonymous is None:
            yield f"slot {slot} has a stranger in the swap cache: {page.describe()}"
    for slot, users in enumerate(swap.map[1:], 1):
        if users != census.slots[slot]:
            yield f"swap slot {slot} counts {users} users and has {census.slots[slot]}"
    free = swap.map[1:].count(0)
    if swap.free != free:
        yield f"{free} swap slots are free and {swap.free} counted"
    for page in kernel.mem_map:
        if page.flags & PG_swapcache and swap.pages.get(page.private) is not page:
            yield f"PG_swapcache outside the swap cache: {page.describe()}"


def _cpus(kernel: Kernel) -> Iterator[str]:
    # That no vCPU has stayed disabled for interrupts, smp_call_function has shown.
    for cpu in kernel.cpus:
        if cpu.translation is not None:
            yield f"vcpu {cpu.number} has an access under way"
    if kernel.lru.isolated:
        yield f"{kernel.lru.isolated} pages are isolated from the LRU"
    for number in kernel.arrived_faults:
        yield f"discard fault {number} was delivered and never taken"


def _held_locks(kernel: Kernel) -> Iterator[str]:
    for name, lock in _locks(kernel):
        if lock.holder is not None:
            yield f"{name} is held by vcpu {lock.holder}"
    for mapping in kernel.mappings.values():
        if mapping.i_sem is not None:
            yield f"i_sem of file {mapping.number} is held by vcpu {mapping.i_sem}"
    for mm in kernel.mms:
        if mm.mmap_sem.readers or mm.mmap_sem.writer is not None:
            yield f"mmap_sem of mm {mm.number} is held"
        if mm.dma:
            yield f"mm {mm.number} has {mm.dma} transfers under way"


def _locks(kernel: Kernel) -> Iterator[tuple[str, SpinLock]]:
    for mm in kernel.mms:
        yield f"the page table lock of mm {mm.number}", mm.page_table_lock
        for vma in mm.vmas:
            if vma.anon_vma is not None:
                yield f"anon_vma lock {vma.anon_vma.lock.number}", vma.anon_vma.lock
    for mapping in kernel.mappings.values():
        yield f"the tree lock of file {mapping.number}", mapping.tree_lock
        yield f"the i_mmap lock of file {mapping.number}", mapping.i_mmap_lock
    yield "swap_lock", kernel.swap.lock
    yield "the tree lock of the swap cache", kernel.swap.tree_lock
