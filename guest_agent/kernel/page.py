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

if TYPE_CHECKING:
    from guest_agent.kernel.memory import Vma

PG_locked: Final = 1 << 0
PG_error: Final = 1 << 1
PG_uptodate: Final = 1 << 3
PG_dirty: Final = 1 << 4
PG_lru: Final = 1 << 5
PG_reserved: Final = 1 << 11
PG_private: Final = 1 << 12
PG_writeback: Final = 1 << 13
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


@dataclass(frozen=True, slots=True)
class Anonymous:
    """What makes a page anonymous: its number, and the tag that it was a copy of at first."""

    number: int
    copied: bytes


@dataclass(slots=True, eq=False)
class Page:
    """struct page of one 4 KiB page frame of the guest."""

    pfn: int
    flags: int = 0
    count: int = 0
    mapcount: int = 0
    mapping: Mapping | None = None
    index: int = 0
    anonymous: Anonymous | None = None
    history: deque[str] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))

    def flag_names(self) -> str:
        """The flags that are set, for people."""
        return "|".join(name for value, name in FLAG_NAMES.items() if self.flags & value) or "0"

    def describe(self) -> str:
        """One line for an oops or an integrity error."""
        where = "-" if self.mapping is None else f"file {self.mapping.number} index {self.index}"
        return (
            f"pfn {self.pfn} flags {self.flag_names()} count {self.count} "
            f"mapcount {self.mapcount} {where}"
        )


@dataclass(slots=True, eq=False)
class Mapping:
    """struct address_space of one file.

    pages: the radix tree. dirty: its PAGECACHE_TAG_DIRTY, in the order of marking.
    The file's page `index` is block `first_block + index` of disk `disk`.
    """

    number: int
    disk: int
    first_block: int
    tree_lock: SpinLock
    i_mmap_lock: SpinLock
    pages: dict[int, Page] = field(default_factory=dict)
    dirty: dict[int, None] = field(default_factory=dict)
    i_mmap: list[Vma] = field(default_factory=list)

    def block(self, index: int) -> tuple[int, int]:
        """(disk, block) of one of the file's pages."""
        return self.disk, self.first_block + index
