"""Address spaces, their ptes, and the vCPUs that use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.mm import Mm, Pte, Vma
from guest_agent.kernel.page import AnonVma
from race_explorer.checking.lens import FIXED, Looks, Override, Place, accessors
from race_explorer.checking.locks import Absence, Own, Semaphore, Spin, stored
from race_explorer.checking.places.common import ADDRESS_BITS, OBSERVED, one, own
from race_explorer.checking.recorder import Lock, Recorder, Resource
from race_explorer.checking.views import ALL, DictView, ListView
from race_explorer.engine import ANY

# Address spaces.


def _vma_resource(vma: Vma, _key: Any = None) -> Resource:
    return "vma", vma.mm.number


def _vma_lock(vma: Vma, _key: Any = None) -> Lock:
    return Semaphore(vma.mm.mmap_sem)


def _mm_lock(mm: Mm, _key: Any = None) -> Lock:
    return Semaphore(mm.mmap_sem)


ANON_VMA: Final = Looks(
    places={
        "vmas": Place(one("anon_vma"), ListView, lambda anon_vma, _key: Spin(anon_vma.lock)),
    },
    free={FIXED: "lock"},
)
VMA: Final = Looks(
    places={
        **{
            name: Place(_vma_resource, lock=_vma_lock)
            for name in ("writable", "locked", "nonlinear")
        },
        "placed": Place(_vma_resource, DictView, _vma_lock),
        "anon_vma": Place(
            one("anon_vma"),
            lock=lambda vma, _key=None: Semaphore(vma.mm.mmap_sem, shared=True),
            final=True,
        ),
    },
    free={FIXED: "mm mapping start pgoff page_count shared"},
)


class _Ptes(DictView):
    """The ptes of an address space by page address: that there is none is a look at it."""

    __slots__ = ()

    def get(self, key: Any, default: Any = None) -> Any:
        """As the dictionary's own."""
        if key not in self._raw:
            self._spot.read(key)
        return self._raw.get(key, default)

    def pop(self, key: Any, *default: Any) -> Any:
        """As the dictionary's own; to take an empty one away changes nothing."""
        pte = self._raw.get(key)
        if pte is not None and not _is_empty(pte):
            self._spot.write(key)
        return self._raw.pop(key, *default)


def _pte_of(mm: Mm, key: Any) -> Resource:
    return "pte", ANY if key is ALL else mm.number << ADDRESS_BITS | key


MM: Final = Looks(
    places={
        "ptes": Place(
            _pte_of,
            _Ptes,
            lambda mm, _key: Absence(mm),
        ),
        "vmas": Place(own("vma"), ListView, _mm_lock),
        "next_address": Place(own("sem"), lock=_mm_lock),
        "dma": Place(own("dma")),
    },
    free={FIXED: "number page_table_lock mmap_sem"},
    name=lambda mm: ("mm", mm.number),
)

_PTE_PAGE: Final = stored(Pte, "page")
_PTE_ENTRY: Final = stored(Pte, "entry")


def _is_empty(pte: Pte) -> bool:
    return _PTE_PAGE(pte) is None and _PTE_ENTRY(pte) is None


def _pte_field(name: str) -> Override:
    """Its page table lock protects a pte."""

    def make(recorder: Recorder, kind: type) -> property:
        load, store = accessors(Pte, name)

        def lock(pte: Pte) -> Lock | None:
            mm = recorder.known.get(("mm", pte.number >> ADDRESS_BITS))
            return None if mm is None else Spin(mm.page_table_lock)

        def get(pte: Pte) -> Any:
            recorder.read(("pte", pte.number), lock(pte))
            return load(pte)

        def put(pte: Pte, value: Any) -> None:
            resource = ("pte", pte.number)
            if value is load(pte):
                recorder.read(resource, lock(pte))
                return
            recorder.write(resource, lock(pte))
            if name == "page" and _is_empty(pte):
                mm = recorder.known[("mm", pte.number >> ADDRESS_BITS)]
                recorder.protected(resource, Absence(mm))
            store(pte, value)

        return property(get, put)

    return make


PTE: Final = Looks(
    free={FIXED: "number"},
    members={name: _pte_field(name) for name in ("page", "writable", "entry")},
)

# vCPUs.


def _uses(recorder: Recorder, kind: type) -> Callable[..., Any]:
    """Whether an access of the vCPU goes through a pte: a look at that pte's use alone."""

    def uses(cpu: Cpu, pte: Pte) -> bool:
        recorder.read(("tlb", pte.number))
        return cpu.__dict__["translation"] is pte

    return uses


def _translation(recorder: Recorder, kind: type) -> property:
    """The vCPU's own; others hear of a change as of the use of a pte."""

    def get(cpu: Cpu) -> Pte | None:
        recorder.read(("tlb", ANY), Own(cpu.number))
        found: Pte | None = cpu.__dict__["translation"]
        return found

    def put(cpu: Cpu, pte: Pte | None) -> None:
        for changed in (cpu.__dict__["translation"], pte):
            if changed is not None:
                recorder.write(("tlb", changed.number), Own(cpu.number))
        cpu.__dict__["translation"] = pte

    return property(get, put)


def _irq_off(recorder: Recorder, kind: type) -> property:
    """The vCPU's own, entirely."""

    def get(cpu: Cpu) -> int:
        recorder.read(("irq", cpu.number), Own(cpu.number))
        found: int = cpu.__dict__["irq_off"]
        return found

    def put(cpu: Cpu, depth: int) -> None:
        recorder.protected(("irq", cpu.number), Own(cpu.number))
        cpu.__dict__["irq_off"] = depth

    return property(get, put)


CPU: Final = Looks(
    places={"pending": Place(own("irq"), ListView)},
    free={FIXED: "kernel number", OBSERVED: "events", "a link looks at it for the vCPU": "check"},
    members={"uses": _uses, "translation": _translation, "irq_off": _irq_off},
)


ADDRESS_SPACES: Final[dict[type, Looks]] = {AnonVma: ANON_VMA, Vma: VMA, Mm: MM, Pte: PTE, Cpu: CPU}
