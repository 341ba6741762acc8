"""What steps touch, by names that a reader of the kernel knows.

Rules:
- Numbers of ptes and locks say nothing; whose they are is asked of the world they are in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from guest_agent.kernel.kernel import Kernel
from race_explorer.engine import ANY
from race_explorer.recording import PAGE_KINDS

Resource = tuple[str, int]

_WORDS: Final = {"host": "state", "irq": "interrupts"}
_OF_VCPUS: Final = frozenset({"irq", "fault", "reply"})
_SINGLE: Final = frozenset({"frames", "lru", "free_list", "device", "mlocked"})
"""Kinds of which there is one, or whose number tells nothing."""
_TELLING_MAX: Final = 1 << 20
"""Greater numbers are put together of several, and tell nothing to a reader."""


def names_of(kernel: Kernel) -> dict[Resource, str]:
    """Names for the ptes, locks and semaphores that there are now."""
    return dict(_named(kernel))


def _named(kernel: Kernel) -> Iterator[tuple[Resource, str]]:
    for mm in kernel.mms:
        whose = f"mm {mm.number}"
        yield ("lock", mm.page_table_lock.number), f"page table lock of {whose}"
        yield ("sem", mm.mmap_sem.number), f"mmap_sem of {whose}"
        for address, pte in mm.ptes.items():
            yield ("pte", pte.number), f"pte {address} of {whose}"
            yield ("tlb", pte.number), f"use of pte {address} of {whose}"
    for mapping in kernel.mappings.values():
        whose = f"file {mapping.number}"
        yield ("lock", mapping.tree_lock.number), f"tree_lock of {whose}"
        yield ("lock", mapping.i_mmap_lock.number), f"i_mmap_lock of {whose}"
        yield ("page_tree", mapping.number), f"page tree of {whose}"


def resource_name(resource: Resource, names: Mapping[Resource, str]) -> str:
    """Such as "count of page 3". names: those of the world."""
    kind, number = resource
    if resource in names:
        return names[resource]
    name = _WORDS.get(kind, kind)
    if kind in PAGE_KINDS:
        return f"{name} of pages" if number == ANY else f"{name} of page {number}"
    if kind in _OF_VCPUS:
        return f"{name} of vcpus" if number == ANY else f"{name} of vcpu {number}"
    single = kind in _SINGLE or not 0 <= number < _TELLING_MAX
    return name if single else f"{name} {number}"
