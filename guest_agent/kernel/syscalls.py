"""The system calls and user accesses that workloads are made of.

Models: the calls of the same names; whole pages only.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.filemap import sys_read, sys_write
from guest_agent.kernel.fork import sys_exit, sys_fork
from guest_agent.kernel.fremap import sys_remap_file_pages
from guest_agent.kernel.gup import sys_dma_in, sys_dma_out
from guest_agent.kernel.mlock import sys_mlock, sys_munlock
from guest_agent.kernel.mm import Mm
from guest_agent.kernel.mmap import sys_mmap, sys_munmap
from guest_agent.kernel.mprotect import sys_mprotect
from guest_agent.kernel.msync import sys_msync
from guest_agent.kernel.page import Mapping
from guest_agent.kernel.truncate import sys_fallocate, sys_truncate
from guest_agent.kernel.uaccess import user_access
from guest_agent.kernel.writeback import sync_mapping

__all__ = [
    "sys_dma_in",
    "sys_dma_out",
    "sys_exit",
    "sys_fallocate",
    "sys_fork",
    "sys_fsync",
    "sys_mlock",
    "sys_mmap",
    "sys_mprotect",
    "sys_msync",
    "sys_munlock",
    "sys_munmap",
    "sys_read",
    "sys_remap_file_pages",
    "sys_sync",
    "sys_truncate",
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


async def user_load(cpu: Cpu, mm: Mm, address: int) -> bool:
    """A user program loads from a page of its address space; False if it gets a signal."""
    return await user_access(cpu, mm, address, write=False)


async def user_store(cpu: Cpu, mm: Mm, address: int) -> bool:
    """A user program stores over a page of its address space; False if it gets a signal."""
    return await user_access(cpu, mm, address, write=True)
