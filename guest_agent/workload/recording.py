"""What a recording knows while strace's text is read: tasks, descriptors, names.

Rules:
- An offset belongs to an open file description, which dup and fork share.
- Only regular files count, and not those of /proc, /sys and /dev.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from guest_agent.workload.addressspace import AddressSpace
from guest_agent.workload.filelog import FileLog, FileState
from guest_agent.workload.strace_text import Call, descriptor, quoted

_NOT_FILES: Final = ("/proc/", "/sys/", "/dev/", "/memfd:", "/anon_hugepage")
_MEMORY_FILES: Final = "/dev/shm/"


@dataclass(eq=False, slots=True)
class Description:
    """An open file description."""

    file: FileState
    offset: int = 0
    append: bool = False


@dataclass(slots=True)
class Descriptors:
    """A descriptor table; threads share one."""

    table: dict[int, Description] = field(default_factory=dict)
    users: int = 1


@dataclass(slots=True)
class Task:
    """A thread, as strace sees it."""

    process: int
    space: AddressSpace
    descriptors: Descriptors
    cwd: list[str]
    """One element, so that CLONE_FS can share it."""


@dataclass(slots=True)
class Recording:
    """The files' log, and what all handlers need."""

    log: FileLog
    area_count: int = 0

    def path(self, task: Task, directory: str | None, argument: str) -> str | None:
        """Return the absolute path of an argument; symbolic links in its folders resolved."""
        path = quoted(argument)
        if path is None:
            return None
        base = descriptor(directory)[1] if directory is not None else None
        joined = os.path.join(base or task.cwd[0], path)
        folder, name = os.path.split(joined.rstrip("/"))
        return os.path.join(os.path.realpath(folder), name)

    def opened(self, task: Task, argument: str) -> Description | None:
        """Return the description behind `3</path>`; None if it is no regular file."""
        number, path = descriptor(argument)
        table = task.descriptors.table
        known = table.get(number)
        if path is None or (known is not None and known.file.path == path):
            return known
        # Opened where strace could not see it, or by a call that is not traced.
        path = path.removesuffix(" (deleted)")
        if known is not None and known.file.path == path:
            return known
        if not is_recorded(path):
            return None
        table[number] = Description(self.log.file(path))
        return table[number]


Handler = Callable[[Recording, Task, Call], None]


def is_recorded(path: str) -> bool:
    """Whether a path may be a file whose pages are cached."""
    return path.startswith("/") and (
        path.startswith(_MEMORY_FILES) or not path.startswith(_NOT_FILES)
    )
