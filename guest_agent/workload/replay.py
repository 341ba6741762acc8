"""A plan's events as system calls and memory accesses of the guest's kernel.

Rules:
- `syscall`: a read is sys_read, a write sys_write. A mapping is the accesses that stand for it
  (`events.map_touches`), made as one sys_read or sys_write of its run; msync is fsync.
- `mmap`: a process maps every file it reads or writes, whole, once for loads and once for
  stores, on each vCPU that runs it; a read loads from each page of its run, a write stores
  over it, in ascending order. A recorded mapping is mapped as recorded and touched by the
  rule. msync is sys_msync of the area; fsync and sync are preceded by sys_msync of what the
  process has mapped for stores.
- `mixed`: of all requests, counted in the plan's order, the even ones are done as in
  `syscall`, the odd ones as in `mmap`.
- Fork is sys_fork, exec and exit are sys_exit of the address space; a process that maps
  nothing has none. Truncate is sys_truncate, unlink a truncate to nothing. A file has no end
  before its first truncate; from then on a store through a mapping makes it long enough first.
- Where a file's events are on several vCPUs, a truncate or unlink comes after all of the file
  that stood before it, and before all that stood after it.
- An event counts when it is complete. After a power failure a vCPU goes on with the event it
  was at; an area that is not mapped any more is written back by fsync.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

import numpy as np

from guest_agent.kernel import syscalls
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.kernel import Kernel
from guest_agent.kernel.mm import Mm, Vma
from guest_agent.kernel.page import Mapping
from guest_agent.kernel.ports import Resource
from guest_agent.workload.events import (
    Event,
    Exec,
    Exit,
    Fork,
    Fsync,
    Map,
    Msync,
    Read,
    Sync,
    Truncate,
    Unlink,
    Unmap,
    Write,
)
from guest_agent.workload.plan import DISK, Plan, part

IDLE: Final[Resource] = ("idle", 0)
"""What `Kernel.idle` waits on."""

_CHUNK: Final = 4_096
"""Rows of a lane that are Python objects at a time."""


class Access(StrEnum):
    """How requests reach the page cache."""

    SYSCALL = "syscall"
    MMAP = "mmap"
    MIXED = "mixed"


@dataclass(slots=True)
class _Area:
    """A recorded mapping. vma: None if it is not mapped: made by system calls, or lost with
    its kernel."""

    file: int
    page: int
    count: int
    writable: bool
    vma: Vma | None = None


@dataclass(slots=True)
class _Process:
    """One traced process. windows: whole files mapped by (file, writable, vCPU)."""

    mm: Mm | None = None
    areas: dict[int, _Area] = field(default_factory=dict)
    windows: dict[tuple[int, bool, int], Vma] = field(default_factory=dict)


class Replayer:
    """Executes a plan on one kernel after the other; what is done survives a kernel."""

    def __init__(self, plan: Plan, access: Access, changed: Callable[[Resource], None]) -> None:
        """changed: called when `IDLE` has changed, to wake vCPUs that wait for another."""
        self.requests_done = 0
        self.steps_done = 0
        self._plan = plan
        self._access = access
        self._changed = changed
        self._positions = [0] * len(plan.lanes)
        self._waiting = 0
        self._lane_of = np.zeros(len(plan.trace), dtype=np.int32)
        for number, lane in enumerate(plan.lanes):
            self._lane_of[lane] = number
        self._processes = {process: _Process() for process in plan.roots}
        self._unfinished = len(plan.lanes)

    def rebooted(self) -> None:
        """Memory is gone: no vCPU has come to its end, no area is mapped."""
        self._unfinished = len(self._plan.lanes)
        self._waiting = 0
        for process in self._processes.values():
            process.mm = None
            process.windows.clear()
            for area in process.areas.values():
                area.vma = None

    async def run(self, cpu: Cpu) -> None:
        """Execute the vCPU's lane, then take interrupts until all lanes are through."""
        lane = self._plan.lanes[cpu.number]
        while (start := self._positions[cpu.number]) < len(lane):
            rows = lane[start : start + _CHUNK]
            chunk = part(self._plan.trace, rows).events()
            for event, row in zip(chunk, rows.tolist(), strict=True):
                await self._in_turn(cpu, event, row)
                await self._execute(cpu, event, mapped=self._mapped(row))
                self.requests_done += isinstance(event, Read | Write | Map)
                self._positions[cpu.number] += 1
                self.steps_done += 1
                if self._waiting:
                    self._changed(IDLE)
        self._unfinished -= 1
        self._changed(IDLE)
        await cpu.kernel.idle(cpu, lambda: self._unfinished == 0, "replay.others")

    async def unmap_all(self, cpu: Cpu) -> None:
        """Unmap whatever is still mapped, so that every store shows as a dirty page."""
        for process in self._processes.values():
            await self._clear(cpu, process)

    def _mapped(self, row: int) -> bool:
        if self._access is Access.MIXED:
            return int(self._plan.ordinals[row]) % 2 == 1
        return self._access is Access.MMAP

    async def _in_turn(self, cpu: Cpu, event: Event, row: int) -> None:
        """Wait for what must be done first; rows before it only, so somebody always can go on."""
        plan = self._plan
        first = {int(plan.after[row]), int(plan.file_after[row]), *plan.file_first.get(row, ())}
        missing = sorted(other for other in first if other >= 0 and not self._is_done(other))
        if missing:
            await self._wait(cpu, lambda: all(map(self._is_done, missing)))
        if self._plan.ordered and isinstance(event, Fork | Exec | Exit):
            await self._wait(cpu, lambda: self._all_done_before(row, cpu.number))

    async def _wait(self, cpu: Cpu, condition: Callable[[], bool]) -> None:
        self._waiting += 1
        await cpu.kernel.idle(cpu, condition, "replay.order")
        self._waiting -= 1

    def _is_done(self, row: int) -> bool:
        lane = int(self._lane_of[row])
        position = self._positions[lane]
        rows = self._plan.lanes[lane]
        return position == len(rows) or int(rows[position]) > row

    def _all_done_before(self, row: int, vcpu: int) -> bool:
        return all(
            lane == vcpu or position == len(rows) or int(rows[position]) > row
            for lane, (position, rows) in enumerate(
                zip(self._positions, self._plan.lanes, strict=True)
            )
        )

    async def _execute(self, cpu: Cpu, event: Event, *, mapped: bool) -> None:
        process = self._processes[event.process]
        match event:
            case Read(_, file, page, count) | Write(_, file, page, count):
                store = isinstance(event, Write)
                if mapped:
                    vma = await self._window(cpu, process, file, writable=store)
                    await self._touch(cpu, vma, page, count, store=store)
                else:
                    await _transfer(cpu, self._file(cpu, file), page, count, store=store)
            case Map(_, number, file, page, count, writable):
                area = process.areas[number] = _Area(file, page, count, writable)
                if mapped:
                    vma = await self._vma(cpu, process, area)
                    await self._touch(cpu, vma, page, count, store=writable)
                else:
                    await _transfer(cpu, self._file(cpu, file), page, count, store=writable)
            case Unmap():
                await self._unmap(cpu, process, event)
            case Msync(_, number, file):
                wanted = process.areas.get(number)
                if wanted is None or wanted.vma is None:
                    await syscalls.sys_fsync(cpu, self._file(cpu, file))
                else:
                    await syscalls.sys_msync(cpu, wanted.vma)
            case Fsync(_, file):
                await self._msync_windows(cpu, process, file)
                await syscalls.sys_fsync(cpu, self._file(cpu, file))
            case Sync():
                await self._msync_windows(cpu, process, None)
                await syscalls.sys_sync(cpu)
            case Fork(_, child):
                self._processes[child] = await _fork(cpu, process)
            case Exec() | Exit():
                await self._clear(cpu, process)
            case Truncate(_, file, page_count):
                await syscalls.sys_truncate(cpu, self._file(cpu, file), page_count)
            case Unlink(_, file):
                await syscalls.sys_truncate(cpu, self._file(cpu, file), 0)

    async def _touch(self, cpu: Cpu, vma: Vma, page: int, count: int, *, store: bool) -> None:
        """Access pages of the file through the vma; a load from behind its end gives a signal."""
        access = syscalls.user_store if store else syscalls.user_load
        size = vma.file.page_count
        if store and size is not None and size < page + count:
            await syscalls.sys_fallocate(cpu, vma.file, page + count)
        for index in range(page, page + count):
            address = vma.address(index)
            assert address is not None, f"page {index} is outside its mapping"
            await access(cpu, vma.mm, address)
            self.steps_done += 1

    # Files and address spaces.

    def _file(self, cpu: Cpu, file: int) -> Mapping:
        planned = self._plan.files[file]
        return cpu.kernel.open_file(planned.number, DISK, planned.first_block)

    def _mm(self, kernel: Kernel, process: _Process) -> Mm:
        if process.mm is None:
            process.mm = kernel.new_mm()
        return process.mm

    async def _window(self, cpu: Cpu, process: _Process, file: int, *, writable: bool) -> Vma:
        key = (file, writable, cpu.number)
        vma = process.windows.get(key)
        if vma is None:
            mm, count = self._mm(cpu.kernel, process), self._plan.files[file].page_count
            vma = await syscalls.sys_mmap(
                cpu, mm, self._file(cpu, file), 0, count, writable=writable
            )
            process.windows[key] = vma
        return vma

    async def _vma(self, cpu: Cpu, process: _Process, area: _Area) -> Vma:
        if area.vma is None:
            mm, mapping = self._mm(cpu.kernel, process), self._file(cpu, area.file)
            area.vma = await syscalls.sys_mmap(
                cpu, mm, mapping, area.page, area.count, writable=area.writable
            )
        return area.vma

    async def _unmap(self, cpu: Cpu, process: _Process, event: Unmap) -> None:
        """munmap takes whole areas: it comes when nothing of the area is left."""
        if not event.last:
            return
        area = process.areas.pop(event.area, None)
        if area is not None and area.vma is not None:
            await syscalls.sys_munmap(cpu, area.vma.mm, area.vma)

    async def _msync_windows(self, cpu: Cpu, process: _Process, file: int | None) -> None:
        for (mapped_file, writable, _), vma in list(process.windows.items()):
            if writable and file in (None, mapped_file):
                await syscalls.sys_msync(cpu, vma)

    async def _clear(self, cpu: Cpu, process: _Process) -> None:
        mm, process.mm = process.mm, None
        process.areas.clear()
        process.windows.clear()
        if mm is not None:
            await syscalls.sys_exit(cpu, mm)


async def _fork(cpu: Cpu, parent: _Process) -> _Process:
    """The child has what its parent has mapped, where the parent has it."""
    mm = None if parent.mm is None else await syscalls.sys_fork(cpu, parent.mm)

    def copy(vma: Vma) -> Vma:
        found = mm and mm.find_vma(vma.start)
        assert found, f"fork has left out what is mapped at page address {vma.start:#x}"
        return found

    areas = {
        number: replace(area, vma=None if area.vma is None else copy(area.vma))
        for number, area in parent.areas.items()
    }
    return _Process(mm, areas, {key: copy(vma) for key, vma in parent.windows.items()})


async def _transfer(cpu: Cpu, mapping: Mapping, page: int, count: int, *, store: bool) -> None:
    call = syscalls.sys_write if store else syscalls.sys_read
    await call(cpu, mapping, page, count)
