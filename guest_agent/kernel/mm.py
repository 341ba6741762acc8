"""Address spaces: mm_struct, vm_area_struct and page table entries, as plain data.

Rules:
- Addresses are page addresses (address >> 12).
- The page table lock covers every change of a pte; mmap_sem covers the list of vmas.

Models: include/linux/mm.h and sched.h of Linux 2.6.15.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from guest_agent.kernel.page import AnonVma, Anonymous, Mapping, Page, RwSemaphore, SpinLock


@dataclass(frozen=True, slots=True)
class SwapEntry:
    """A page that is on the swap device. anonymous: the content that its owner expects."""

    slot: int
    anonymous: Anonymous


@dataclass(frozen=True, slots=True)
class FileEntry:
    """pte_file: which page of the file a non-linear mapping has at this address."""

    index: int


@dataclass(slots=True, eq=False)
class Pte:
    """One page table entry; `page` is None while it is not present, and then `entry` counts."""

    number: int
    page: Page | None = None
    writable: bool = False
    entry: SwapEntry | FileEntry | None = None


@dataclass(slots=True, eq=False)
class Mm:
    """struct mm_struct of one process. dma: transfers under way into or out of its pages."""

    number: int
    page_table_lock: SpinLock
    mmap_sem: RwSemaphore
    ptes: dict[int, Pte] = field(default_factory=dict)
    vmas: list[Vma] = field(default_factory=list)
    next_address: int = 0x1000
    dma: int = 0

    def find_vma(self, address: int) -> Vma | None:
        """The vma that holds the page address."""
        return next((v for v in self.vmas if v.start <= address < v.start + v.page_count), None)


@dataclass(slots=True, eq=False)
class Vma:
    """struct vm_area_struct. start: a page address. mapping None: anonymous memory.

    shared: MAP_SHARED; otherwise MAP_PRIVATE, and a write breaks copy-on-write. locked:
    VM_LOCKED. nonlinear: VM_NONLINEAR; placed: what remap_file_pages put
    where, for the checker. anon_vma: once it may have an anonymous page.
    """

    mm: Mm
    mapping: Mapping | None
    start: int
    pgoff: int
    page_count: int
    writable: bool
    shared: bool = True
    locked: bool = False
    nonlinear: bool = False
    anon_vma: AnonVma | None = None
    placed: dict[int, int] = field(default_factory=dict)

    @property
    def file(self) -> Mapping:
        """The file that is mapped here; there is one."""
        assert self.mapping is not None, "an anonymous vma has no file"
        return self.mapping

    @property
    def end(self) -> int:
        """The first page address behind it."""
        return self.start + self.page_count

    def address(self, index: int) -> int | None:
        """vma_address: where page `index` of the file, or of the anonymous memory, belongs."""
        if self.pgoff <= index < self.pgoff + self.page_count:
            return self.start + index - self.pgoff
        return None

    def index(self, address: int) -> int:
        """linear_page_index: the page behind a page address."""
        return self.pgoff + address - self.start

    def expected_index(self, address: int) -> int:
        """The page that the program has put behind a page address."""
        return self.placed.get(address, self.index(address))
