"""struct page, the locks, and files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from guest_agent.kernel.page import Mapping, Page, RwSemaphore, SpinLock
from race_explorer.checking.lens import FIXED, Looks, Override, Place, accessors
from race_explorer.checking.locks import PageLock, Spin, is_referenced, stored
from race_explorer.checking.places.common import OBSERVED, held_by, one, own, unrecorded
from race_explorer.checking.recorder import Lock, Recorder
from race_explorer.checking.views import DictView, ListView

# struct page.


def _page(kind: str, *, locked: bool = False) -> Place:
    def lock(page: Page, _key: Any = None) -> Lock | None:
        return PageLock(page) if locked else None

    return Place(lambda page: (kind, page.pfn), lock=lock)


_HEAD: Final = stored(Page, "head")
_ANONYMOUS: Final = stored(Page, "anonymous")


def _settled(name: str, kind: str, is_settled: Callable[[Page], bool]) -> Override:
    """An attribute that does not change while the page is settled; changes only in private."""

    def make(recorder: Recorder, owner: type) -> property:
        load, store = accessors(Page, name)

        def get(page: Page) -> Any:
            if not is_settled(page):
                recorder.read((kind, page.pfn), PageLock(page))
            return load(page)

        def put(page: Page, value: Any) -> None:
            if load(page) is not value:
                recorder.write((kind, page.pfn), PageLock(page))
            store(page, value)

        return property(get, put)

    return make


PAGE: Final = Looks(
    places={
        "flags": _page("flags"),
        "count": _page("count"),
        "mapcount": _page("mapcount"),
        "mapping": _page("mapping", locked=True),
        "anon_vma": _page("mapping", locked=True),
        "private": _page("private", locked=True),
        "buffers": _page("private", locked=True),
    },
    free={FIXED: "pfn", OBSERVED: "last_essa state_changer swapped_in history"},
    members={
        "head": _settled("head", "private", lambda page: is_referenced(_HEAD(page) or page)),
        "anonymous": _settled("anonymous", "mapping", is_referenced),
        "index": _settled(
            "index", "mapping", lambda page: is_referenced(page) and _ANONYMOUS(page) is None
        ),
        "describe": unrecorded("describe"),
        "flag_names": unrecorded("flag_names"),
    },
)

# Locks.

SPIN_LOCK: Final = Looks(
    places={"holder": Place(own("lock"))},
    free={FIXED: "number"},
    members={"held_by": held_by},
)
SEMAPHORE: Final = Looks(
    places={"readers": Place(own("sem")), "writer": Place(own("sem"))},
    free={FIXED: "number"},
    members={"held_by": held_by},
)

# Files.

_TREE: Final = Place(own("page_tree"), DictView, lambda mapping, _key: Spin(mapping.tree_lock))
_I_MMAP: Final = Place(own("i_mmap"), ListView, lambda mapping, _key: Spin(mapping.i_mmap_lock))
MAPPING: Final = Looks(
    places={
        "pages": _TREE,
        "dirty": _TREE,
        "i_mmap": _I_MMAP,
        "i_mmap_nonlinear": _I_MMAP,
        "page_count": Place(own("i_size")),
        "truncate_count": Place(own("i_size")),
        "i_sem": Place(own("i_sem")),
        "mlocked": Place(one("mlocked"), final=True),
    },
    free={FIXED: "number disk first_block tree_lock i_mmap_lock"},
    members={"held_by": held_by},
)


PAGES: Final[dict[type, Looks]] = {
    Page: PAGE,
    SpinLock: SPIN_LOCK,
    RwSemaphore: SEMAPHORE,
    Mapping: MAPPING,
}
