"""The accesses of user programs: translation, the access itself, and what is checked of it.

Rules:
- An access is translated and then executed; while it is under way no one can finish
  flushing its pte (IPTE), and a nullified access is translated afresh.

Models: do_page_fault of arch/s390/mm/fault.c, Linux 2.6.15.
"""

from __future__ import annotations

from guest_agent.kernel.checked import check_loaded
from guest_agent.kernel.content import ANONYMOUS_DISK, TAG_SIZE, TAGS_PER_PAGE, BlockKey, tag
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.discard import end_translation, storage_access
from guest_agent.kernel.fault import VmFault, do_page_fault
from guest_agent.kernel.mm import Mm, Pte, Vma
from guest_agent.kernel.oops import check_outcome
from guest_agent.kernel.page import Page, reads, writes
from shared.commands import Load, Store

USER_RETRIES_MAX = 10_000


async def translate(cpu: Cpu, mm: Mm, address: int, *, write: bool) -> tuple[Vma, Pte] | None:
    """Dynamic address translation: the pte, its use registered, or None for a page fault."""
    pte = cpu.kernel.pte(mm, address)
    await cpu.point(
        "pte.translate",
        reads("pte", pte.number),
        writes("tlb", pte.number),
        reads("vma", mm.number),
    )
    if pte.page is None or (write and not pte.writable):
        return None
    cpu.translation = pte
    vma = mm.find_vma(address)
    if vma is None:
        raise KernelBug(f"a pte outside every vma maps {pte.page.describe()}")
    return vma, pte


async def user_access(cpu: Cpu, mm: Mm, address: int, *, write: bool) -> bool:
    """A user program loads from, or stores over, one page of its address space; checked.

    False: there is nothing it may access, and it gets a signal (SIGSEGV, SIGBUS).
    """
    for _ in range(USER_RETRIES_MAX):
        found = await translate(cpu, mm, address, write=write)
        if found is None:
            fault = await do_page_fault(cpu, mm, address, write=write)
            if fault in (VmFault.SIGBUS, VmFault.SIGSEGV):
                cpu.kernel.statistics.signals += 1
                return False
            continue
        access = store_through_pte if write else load_through_pte
        if await access(cpu, found[0], address, found[1]):
            return True
    raise KernelBug(f"no progress at page address {address:#x} after {USER_RETRIES_MAX} faults")


def _expected(vma: Vma, address: int, page: Page) -> tuple[BlockKey, bytes | None]:
    """What the program expects there: its own page's content, or the file's."""
    if page.anonymous is not None:
        return (ANONYMOUS_DISK, page.anonymous.number), page.anonymous.copied
    if vma.mapping is None:
        raise KernelBug(f"anonymous memory maps a file's page: {page.describe()}")
    return vma.mapping.block(vma.expected_index(address)), None


async def load_through_pte(cpu: Cpu, vma: Vma, address: int, pte: Pte) -> bool:
    """One load of one tag through the pte; False if it was nullified."""
    kernel, page = cpu.kernel, pte.page
    assert page is not None
    key, copied = _expected(vma, address, page)
    ticket = kernel.ledger.begin_load(key)
    outcome = await storage_access(cpu, Load(page.pfn, kernel.next_offset(), TAG_SIZE), ticket)
    if outcome is None:
        return False
    check_outcome(cpu, page, outcome, "loading through a pte", user=True)
    check_loaded(kernel, page, ticket, outcome, tags=1, copied=copied)
    await end_translation(cpu)
    return True


async def store_through_pte(cpu: Cpu, vma: Vma, address: int, pte: Pte) -> bool:
    """One store of a new version over the page through the pte; False if nullified."""
    kernel, page = cpu.kernel, pte.page
    assert page is not None
    key, _ = _expected(vma, address, page)
    ticket = kernel.ledger.store(key)
    data = tag(*key, ticket.version)
    outcome = await storage_access(cpu, Store(page.pfn, 0, data, TAGS_PER_PAGE), ticket)
    if outcome is None:
        return False
    check_outcome(cpu, page, outcome, "storing through a pte", user=True)
    ticket.end()
    await end_translation(cpu)
    return True
