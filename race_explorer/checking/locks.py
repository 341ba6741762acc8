"""What protects a place: who may look at it without saying so, and who may change it.

Rules:
- Who holds the protection looks without a declaration: nobody else can change the place then,
  so no order of steps can matter. That rests on the other half, which is checked at every
  change: it is made under the protection, or in a step that needs the protection to be free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from guest_agent.kernel.mm import Mm
from guest_agent.kernel.page import Page, PG_locked, PG_lru, PG_swapcache, RwSemaphore, SpinLock
from race_explorer.checking.recorder import Resource

Declared = Callable[[Resource], bool]


def stored(kind: type, name: str) -> Callable[[Any], Any]:
    """Reads an attribute of a slotted class itself, past the property that records it."""
    get: Callable[[Any], Any] = kind.__dict__[name].__get__
    return get


_SHOWN: Final = PG_lru | PG_swapcache
_holder: Final = stored(SpinLock, "holder")
_writer: Final = stored(RwSemaphore, "writer")
_readers: Final = stored(RwSemaphore, "readers")
_flags: Final = stored(Page, "flags")
_count: Final = stored(Page, "count")
_mapcount: Final = stored(Page, "mapcount")


def is_referenced(page: Page) -> bool:
    """Whether anybody has a reference to the page."""
    return bool(_count(page) > 0)


def is_private(page: Page) -> bool:
    """Whether nobody can have found the page: it is free, or its allocator has not shown it."""
    return not is_referenced(page) or not (_flags(page) & _SHOWN or _mapcount(page))


@dataclass(frozen=True, slots=True)
class Spin:
    """A spin lock."""

    lock: SpinLock

    def held_for(self, vcpu: int | None, *, write: bool) -> bool:
        """Whether this vCPU holds it."""
        return vcpu is not None and bool(_holder(self.lock) == vcpu)

    def free_by_declaration(self, declared: Declared) -> bool:
        """Whether it is free, in a short critical section that is one step."""
        return _holder(self.lock) is None and declared(("lock", self.lock.number))


@dataclass(frozen=True, slots=True)
class Semaphore:
    """mmap_sem. Its writer may change, its readers look.

    shared: for a place that its readers change too, each with a declaration; its writer alone
    then looks without one.
    """

    semaphore: RwSemaphore
    shared: bool = False

    def held_for(self, vcpu: int | None, *, write: bool) -> bool:
        """Whether this vCPU has it for writing; or whether it has readers, where they may."""
        if _writer(self.semaphore) is not None:
            return bool(_writer(self.semaphore) == vcpu)
        return write is self.shared and bool(_readers(self.semaphore))

    def free_by_declaration(self, declared: Declared) -> bool:
        """Never: nothing is done under it in passing."""
        return False


@dataclass(frozen=True, slots=True)
class PageLock:
    """PG_locked. It has no holder that could be told: an interrupt unlocks for another vCPU."""

    page: Page

    def held_for(self, vcpu: int | None, *, write: bool) -> bool:
        """Whether the page is locked; to change it is allowed too where nobody can look."""
        return bool(_flags(self.page) & PG_locked) or (write and is_private(self.page))

    def free_by_declaration(self, declared: Declared) -> bool:
        """Never."""
        return False


@dataclass(frozen=True, slots=True)
class Own:
    """One vCPU's own: it alone changes the place."""

    cpu: int

    def held_for(self, vcpu: int | None, *, write: bool) -> bool:
        """Whether it is this vCPU's."""
        return vcpu == self.cpu

    def free_by_declaration(self, declared: Declared) -> bool:
        """Never."""
        return False


@dataclass(frozen=True, slots=True)
class Settled:
    """What nobody changes any more when the race begins."""

    def held_for(self, vcpu: int | None, *, write: bool) -> bool:
        """For every look, and for no change."""
        return not write

    def free_by_declaration(self, declared: Declared) -> bool:
        """Never."""
        return False


@dataclass(frozen=True, slots=True)
class Absence:
    """That there is nothing behind a page address: who maps a page there holds the page table
    lock, and mmap_sem at least for reading; either of them for writing keeps it as it is."""

    mm: Mm

    def held_for(self, vcpu: int | None, *, write: bool) -> bool:
        """Whether this vCPU has one of them; both, to map a page."""
        table = Spin(self.mm.page_table_lock).held_for(vcpu, write=write)
        areas = Semaphore(self.mm.mmap_sem, shared=True).held_for(vcpu, write=write)
        return table and areas if write else table or areas

    def free_by_declaration(self, declared: Declared) -> bool:
        """Never."""
        return False
