"""The system calls and user accesses that workloads are made of.

Models: the calls of the same names; whole pages only.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.filemap import sys_read, sys_write
from guest_agent.kernel.memory import Mm, Vma, user_access, zap_page_range
from guest_agent.kernel.msync import sys_msync
from guest_agent.kernel.page import Mapping, reads, writes
from guest_agent.kernel.writeback import sync_mapping

__all__ = [
    "sys_fsync",
    "sys_mmap",
    "sys_msync",
    "sys_munmap",
    "sys_read",
    "sys_sync",
    "sys_write",
    "user_load",
    "user_store",
]


async def sys_fsync(cpu: Cpu, mapping: Mapping) -> None:
    """fsync(2): every page that was dirty at the call is on the disk at its return."""
    await sync_mapping(cpu, mapping)


async def sys_sync(cpu: Cpu) -> None:
    """sync(2): fsync of every file."""
    for mapping in list(cpu.kernel.mappings.values()):
        await sync_mapping(cpu, mapping)


async def sys_mmap(
    cpu: Cpu,
    mm: Mm,
    mapping: Mapping,
    index: int,
    count: int,
    *,
    writable: bool,
    shared: bool = True,
) -> Vma:
    """mmap(2), MAP_SHARED or MAP_PRIVATE: `count` pages of the file from page `index`."""
    vma = Vma(mm, mapping, mm.next_address, index, count, writable, shared)
    mm.next_address += count
    mm.vmas.append(vma)
    await cpu.wait_until(
        lambda: mapping.i_mmap_lock.holder is None,
        "i_mmap.add",
        reads("lock", mapping.i_mmap_lock.number),
        writes("i_mmap", mapping.number),
    )
    mapping.i_mmap.append(vma)
    return vma


async def sys_munmap(cpu: Cpu, mm: Mm, vma: Vma) -> None:
    """munmap(2) of a whole vma: unmap its pages, then unlink it from the file."""
    await zap_page_range(cpu, vma)
    mapping = vma.mapping
    await cpu.wait_until(
        lambda: mapping.i_mmap_lock.holder is None,
        "i_mmap.del",
        reads("lock", mapping.i_mmap_lock.number),
        writes("i_mmap", mapping.number),
    )
    mapping.i_mmap.remove(vma)
    mm.vmas.remove(vma)
    for address in range(vma.start, vma.start + vma.page_count):
        mm.ptes.pop(address, None)


async def user_load(cpu: Cpu, mm: Mm, address: int) -> None:
    """A user program loads from a page of its address space."""
    await user_access(cpu, mm, address, write=False)


async def user_store(cpu: Cpu, mm: Mm, address: int) -> None:
    """A user program stores over a page of its address space."""
    await user_access(cpu, mm, address, write=True)
