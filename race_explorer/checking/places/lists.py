"""The kernel's own lists: free pages, LRU, swap, discarded pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from guest_agent.kernel.grace import CallFunction, OnEachCpu, SignOff
from guest_agent.kernel.kernel import Kernel
from guest_agent.kernel.lru import Lru, PlainLru
from guest_agent.kernel.mm import Mm, Pte
from guest_agent.kernel.swap_cache import Swap
from race_explorer.checking.lens import FIXED, Looks, Place
from race_explorer.checking.locks import Own, Settled, Spin
from race_explorer.checking.places.common import DERIVED, NUMBERS, OBSERVED, one
from race_explorer.checking.recorder import Lock, Recorder, Resource
from race_explorer.checking.views import ALL, DictView, FieldsView, ListView, Spot
from race_explorer.engine import ANY
from race_explorer.world import SimWorld


def _arrived(kernel: Kernel, fault: Any) -> Resource:
    """A vCPU asks for its own fault, whose number it has from the host."""
    faulting = cast(SimWorld, kernel.link).faulting
    return "fault", ANY if fault is ALL else faulting.get(fault, ANY)


def _pte(recorder: Recorder, kind: type) -> Callable[..., Any]:
    """To have a pte made is no change; it is looked at from then on."""

    def pte(kernel: Kernel, mm: Mm, address: int) -> Pte:
        found: Pte = recorder.paused(Kernel.pte, kernel, mm, address)
        recorder.fresh.append(found)
        return found

    return pte


def _cache_is_full(recorder: Recorder, kind: type) -> Callable[..., Any]:
    """Counts the pages of all page trees, where there is a limit."""

    def cache_is_full(kernel: Kernel) -> bool:
        if kernel.cache_limit is not None:
            recorder.read(("page_tree", ANY))
        return Kernel.cache_is_full(kernel)

    return cache_is_full


KERNEL: Final = Looks(
    places={
        "free_list": Place(one("free_list"), ListView),
        "mms": Place(one("mms"), ListView),
        "mappings": Place(one("files"), DictView, lambda _kernel, _key: Settled()),
        "arrived_faults": Place(_arrived, DictView),
    },
    free={
        FIXED: "config guards link schedule disk ledger cache_limit cpus mem_map lru grace swap",
        NUMBERS: "_locks _mms _anonymous _offset _taken_faults",
        OBSERVED: "statistics integrity_errors on_integrity_error",
        DERIVED: "nrpages",
        "set at boot": "has_essa",
    },
    members={"pte": _pte, "cache_is_full": _cache_is_full},
)


def _lru_lock(lru: Lru, _key: Any) -> Lock:
    return Spin(lru._lock)


LRU: Final = Looks(
    places={
        "active": Place(one("lru"), DictView, _lru_lock),
        "inactive": Place(one("lru"), DictView, _lru_lock),
        **{
            name: Place(one("lru"))
            for name in ("isolated", "finished", "prev_priority", "pressure")
        },
    },
    free={FIXED: "_lock"},
)


def _slot(_swap: Swap, slot: Any) -> Resource:
    return "swap", ANY if slot is ALL else slot


def _full(recorder: Recorder, kind: type) -> Callable[..., Any]:
    """vm_swap_full counts the zeroes of the map."""

    def full(swap: Swap) -> bool:
        recorder.read(("swap", ANY))
        return Swap.full(swap)

    return full


def _take(recorder: Recorder, kind: type) -> Callable[..., Any]:
    """A search of the map, from where the last one ended."""

    def take(swap: Swap) -> int:
        recorder.write(("swap", ANY))
        return Swap.take(swap)

    return take


SWAP: Final = Looks(
    places={
        "map": Place(_slot, ListView, lambda swap, _key: Spin(swap.lock)),
        "pages": Place(_slot, DictView, lambda swap, _key: Spin(swap.tree_lock)),
    },
    free={FIXED: "page_count lock tree_lock", DERIVED: "free cursor"},
    members={"full": _full, "take": _take},
)

# Discarded pages.


def _list_of(_grace: Any, vcpu: Any) -> Resource:
    return "discard_list", ANY if vcpu is ALL else 1 + vcpu


def _list_owner(_grace: Any, vcpu: Any) -> Lock | None:
    return None if vcpu is ALL else Own(vcpu)


def _unfreed(recorder: Recorder, kind: type) -> property:
    """How many pages are on their way from a list to the free list: it changes with either.

    Additions may change places, so that only a look by who waits for it counts.
    """

    def get(grace: Any) -> int:
        if recorder.waiting:
            recorder.read(("discard_list", ANY))
            recorder.read(("free_list", 0))
        found: int = grace.__dict__["unfreed"]
        return found

    def put(grace: Any, count: int) -> None:
        grace.__dict__["unfreed"] = count

    return property(get, put)


def _pagevec(value: Any, spot: Spot) -> Any:
    return FieldsView(value, spot)


_LIST: Final = Place(one("discard_list"), ListView)
_LISTS: Final = Place(_list_of, ListView, _list_owner, show=ListView)
_UNFREED: Final = {"unfreed": _unfreed}
CALL_FUNCTION: Final = Looks(
    places={
        "_list": _LIST,
        "_pagevecs": Place(_list_of, ListView, _list_owner, show=_pagevec),
    },
    free={FIXED: "_lock", DERIVED: "unfreed"},
    members=_UNFREED,
)
ON_EACH_CPU: Final = Looks(
    places={"_lists": _LISTS},
    free={DERIVED: "unfreed"},
    members=_UNFREED,
)
SIGN_OFF: Final = Looks(
    places={
        "_lists": _LISTS,
        "_gathered": _LIST,
        "_batch": _LIST,
        "_mask": Place(one("discard_list")),
        "_idle": Place(one("nohz")),
    },
    free={FIXED: "_all _lock", DERIVED: "unfreed"},
    members=_UNFREED,
)

LISTS: Final[dict[type, Looks]] = {
    Kernel: KERNEL,
    Lru: LRU,
    PlainLru: Looks(),
    Swap: SWAP,
    CallFunction: CALL_FUNCTION,
    OnEachCpu: ON_EACH_CPU,
    SignOff: SIGN_OFF,
}
