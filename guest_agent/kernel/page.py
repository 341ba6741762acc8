"""struct page, address_space and the locks: the guest's shared state, as plain data.

Rules:
- Only methods of `Cpu` and functions that stand behind one of its points change these.
- `count` is the number of references, 0 for a free page; `mapcount` the number of ptes.

Models: include/linux/mm.h, page-flags.h and fs.h of Linux 2.6.15.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from guest_agent.kernel.ports import Access
from shared.arch import Orc

if TYPE_CHECKING:
    from guest_agent.kernel.mm import Vma
    from shared.commands import LoadOutcome

PG_locked: Final = 1 << 0
PG_error: Final = 1 << 1
PG_referenced: Final = 1 << 2
PG_uptodate: Final = 1 << 3
PG_dirty: Final = 1 << 4
PG_lru: Final = 1 << 5
PG_active: Final = 1 << 6
PG_reserved: Final = 1 << 11
PG_private: Final = 1 << 12
PG_writeback: Final = 1 << 13
PG_compound: Final = 1 << 15
PG_swapcache: Final = 1 << 16
PG_state_change: Final = 1 << 20
PG_discarded: Final = 1 << 21
PG_writable: Final = 1 << 22

FLAG_NAMES: Final = {
    value: name for name, value in sorted(globals().items()) if name.startswith("PG_")
}

HISTORY_MAX: Final = 40

ANY: Final = -1
"""As a resource's number: whichever it turns out to be; conflicts with all of its kind."""


@lru_cache(maxsize=1 << 18)
def reads(kind: str, number: int = 0) -> Access:
    """The next step reads this resource."""
    return Access((kind, number), False)


@lru_cache(maxsize=1 << 18)
def writes(kind: str, number: int = 0) -> Access:
    """The next step reads or writes this resource."""
    return Access((kind, number), True)


@dataclass(slots=True, eq=False)
class SpinLock:
    """A lock with its holder's vCPU number, None when free. number: for `accesses`."""

    number: int
    holder: int | None = None

    def held_by(self, vcpu: int) -> bool:
        """Whether this vCPU holds it; asked by that vCPU itself, nobody else changes the answer."""
        return self.holder == vcpu


@dataclass(frozen=True, slots=True)
class Anonymous:
    """The content of an anonymous page: its number, and the 32 bytes that it began with.

    Those are a tag of what it is a copy of, or zeroes. The number stays with the content
    through the swap device; a copy gets a number of its own.
    """

    number: int
    copied: bytes


@dataclass(slots=True, eq=False)
class Page:
    """struct page of one 4 KiB page frame of the guest.

    mapping, index: of a file's page. anon_vma, index, anonymous: of an anonymous page.
    private: the swap slot of a page with PG_swapcache. buffers: buffer heads, with
    PG_private. head: the first page of the compound page that this is a tail of.
    For the checker alone, read and written at no point: last_essa: the last ESSA and the
    state it found. state_changer: the vCPU that holds PG_state_change. swapped_in: what came
    from the swap device, until somebody maps it.
    """

    pfn: int
    flags: int = 0
    count: int = 0
    mapcount: int = 0
    mapping: Mapping | None = None
    index: int = 0
    anon_vma: AnonVma | None = None
    anonymous: Anonymous | None = None
    private: int = 0
    buffers: int = 0
    head: Page | None = None
    last_essa: tuple[Orc, int] | None = None
    state_changer: int | None = None
    swapped_in: LoadOutcome | None = None
    history: deque[str] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))

    def flag_names(self) -> str:
        """The flags that are set, for people."""
        return "|".join(name for value, name in FLAG_NAMES.items() if self.flags & value) or "0"

    def describe(self) -> str:
        """One line for an oops or an integrity error."""
        where = "-" if self.mapping is None else f"file {self.mapping.number} index {self.index}"
        if self.anonymous is not None:
            where = f"anonymous {self.anonymous.number}"
        return (
            f"pfn {self.pfn} flags {self.flag_names()} count {self.count} "
            f"mapcount {self.mapcount} {where}"
        )


@dataclass(slots=True, eq=False)
class AnonVma:
    """struct anon_vma: the vmas that may map an anonymous page of one family of forks."""

    lock: SpinLock
    vmas: list[Vma] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class RwSemaphore:
    """mmap_sem: readers, or one writer. number: for `accesses`."""

    number: int
    readers: int = 0
    writer: int | None = None

    def held_by(self, vcpu: int) -> bool:
        """Whether this vCPU holds it for writing; as `SpinLock.held_by`."""
        return self.writer == vcpu


@dataclass(slots=True, eq=False)
class Mapping:
    """struct address_space of one file.

    pages: the radix tree. dirty: its PAGECACHE_TAG_DIRTY, in the order of marking.
    The file's page `index` is block `first_block + index` of disk `disk`. page_count: i_size
    in pages, None for a file that ends nowhere. truncate_count: grows
    with every truncate. mlocked: sticky; its pages stay stable. i_sem: the vCPU that writes
    to the file, or truncates it.
    """

    number: int
    disk: int
    first_block: int
    tree_lock: SpinLock
    i_mmap_lock: SpinLock
    pages: dict[int, Page] = field(default_factory=dict)
    dirty: dict[int, None] = field(default_factory=dict)
    i_mmap: list[Vma] = field(default_factory=list)
    i_mmap_nonlinear: list[Vma] = field(default_factory=list)
    page_count: int | None = None
    truncate_count: int = 0
    mlocked: bool = False
    i_sem: int | None = None

    def held_by(self, vcpu: int) -> bool:
        """Whether this vCPU holds i_sem; as `SpinLock.held_by`."""
        return self.i_sem == vcpu

    def block(self, index: int) -> tuple[int, int]:
        """(disk, block) of one of the file's pages."""
        return self.disk, self.first_block + index
