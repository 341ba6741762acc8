"""An operation of a program, as plain data, and the sizes that programs are drawn for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What an operation does. The file, or the area, is `Operation.place`."""

    READ = "read"  # `count` pages of the file from `page` on, by a system call
    WRITE = "write"
    FSYNC = "fsync"
    SYNC = "sync"
    TRUNCATE = "truncate"  # the file to `page` pages, or with an odd `count` to its full length
    MMAP = "mmap"  # `count` pages of the file from `page` on, as `memory` says
    MUNMAP = "munmap"
    LOAD = "load"  # from page `page` of the area
    STORE = "store"
    MSYNC = "msync"
    MPROTECT = "mprotect"  # to read-only where `memory` says so, else to writable
    FORK = "fork"
    EXIT = "exit"
    MLOCK = "mlock"
    MUNLOCK = "munlock"
    REMAP = "remap"  # remap_file_pages: page `page` of the area becomes page `count` of the file
    DMA_OUT = "dma_out"  # `count` pages of the area from `page` on, to a device
    DMA_IN = "dma_in"
    PRESSURE = "pressure"  # reclaim `count` pages


ON_AREAS: Final = frozenset(
    {
        Kind.MUNMAP,
        Kind.LOAD,
        Kind.STORE,
        Kind.MSYNC,
        Kind.MPROTECT,
        Kind.MLOCK,
        Kind.MUNLOCK,
        Kind.REMAP,
        Kind.DMA_OUT,
        Kind.DMA_IN,
    }
)


class Memory(StrEnum):
    """What an area is."""

    SHARED = "shared"
    PRIVATE = "private"
    READ_ONLY = "read_only"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that one thread does."""

    kind: Kind
    process: int = 0
    place: int = 0
    page: int = 0
    count: int = 1
    memory: Memory = Memory.SHARED


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the world of the operations is.

    processes, areas: at most so many, and areas of one process. transfer_pages: of one read,
    write or DMA. private_pages: of private and anonymous areas of all processes together;
    locked_pages: of locked ones.
    """

    files: int = 8
    file_pages: int = 32
    processes: int = 8
    areas: int = 8
    area_pages: int = 16
    transfer_pages: int = 2
    private_pages: int = 64
    locked_pages: int = 16

    @classmethod
    def of_memory(cls, page_count: int, vcpu_count: int, swap_pages: int) -> Shape:
        """One for a guest whose memory holds neither all its files nor all private memory.

        Two vCPUs share a process on average, and a file: more wait for each other. Half of
        the memory is never promised to private pages.
        """
        files = max(2, vcpu_count // 2)
        return cls(
            files=files,
            file_pages=max(8, 3 * page_count // (2 * files)),
            processes=max(2, vcpu_count // 2),
            private_pages=page_count // 2 + swap_pages,
            locked_pages=page_count // 16,
        )

    @property
    def block_count(self) -> int:
        """Blocks of the disk that the files take."""
        return self.files * self.file_pages
