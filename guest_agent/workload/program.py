"""The machine of processes and files that executes operations.

Rules:
- An operation names what it acts on by numbers that are taken modulo what there is when it
  begins: every list of operations can be executed, whatever stands before it, and however
  several vCPUs interleave.
- Vcpus are threads: an operation runs in whichever process its number picks, so several are
  in one address space at a time. A process that exits takes no new operation, and the last
  one under way in it tears it down, as mm_users has it.
- What a program may not do ends as a signal or an error number, and is counted as refused or
  as signals; none of that is a bug.
- Commitment is strict (vm.overcommit_memory 2, RLIMIT_MEMLOCK): private and locked pages
  together stay below bounds of the shape, so that reclaim always finds something.

Models: nothing of Linux but its programs; all work is system calls of `kernel.syscalls`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from guest_agent.kernel import syscalls
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.kernel import Kernel
from guest_agent.kernel.mm import Mm, Vma
from guest_agent.kernel.page import Mapping, reads
from guest_agent.workload.operations import ON_AREAS, Kind, Memory, Operation, Shape

DISK: Final = 1
"""The disk that holds all files."""


@dataclass(slots=True, eq=False)
class _Area:
    vma: Vma
    private: bool
    locked: bool = False

    @property
    def pages(self) -> int:
        return self.vma.page_count


@dataclass(slots=True, eq=False)
class _Process:
    """users: operations under way in it. dying: it has exited, or is about to."""

    mm: Mm
    areas: list[_Area] = field(default_factory=list)
    private: int = 0
    users: int = 0
    dying: bool = False


class Machine:
    """Files and processes of one kernel. Shared by all its vCPUs.

    counts: how operations ended: their kind's name, or `signals` and `refused`.
    """

    def __init__(self, kernel: Kernel, shape: Shape, counts: Counter[str] | None = None) -> None:
        self.kernel = kernel
        self.shape = shape
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.files: list[Mapping] = [
            kernel.open_file(n + 1, DISK, n * shape.file_pages) for n in range(shape.files)
        ]
        self._processes: list[_Process] = [_Process(kernel.new_mm())]
        self._leaving = 0
        self._private = 0
        self._locked = 0
        self._handlers: dict[Kind, Callable[[Cpu, _Process, Operation], Awaitable[bool]]] = {
            kind: getattr(self, f"_{kind.value}") for kind in Kind
        }

    async def run(self, cpu: Cpu, operations: Sequence[Operation]) -> None:
        """Execute operations one after the other."""
        for operation in operations:
            await self.execute(cpu, operation)

    async def execute(self, cpu: Cpu, operation: Operation) -> None:
        """Execute one operation, in the process that its number picks."""
        process = self._processes[operation.process % len(self._processes)]
        # A program that has nothing mapped maps something first.
        kind = Kind.MMAP if operation.kind in ON_AREAS and not process.areas else operation.kind
        process.users += 1
        done = await self._handlers[kind](cpu, process, operation)
        self.counts[kind.value if done else "refused"] += 1
        await self._leave(cpu, process)

    async def finish(self, cpu: Cpu) -> None:
        """End every process; nothing else is under way."""
        for process in self._processes:
            await self._tear_down(cpu, process)
        self._processes = [_Process(self.kernel.new_mm())]

    async def _leave(self, cpu: Cpu, process: _Process) -> None:
        process.users -= 1
        if process.dying and not process.users:
            await self._tear_down(cpu, process)

    async def _tear_down(self, cpu: Cpu, process: _Process) -> None:
        await syscalls.sys_exit(cpu, process.mm)
        self._private -= process.private
        self._locked -= sum(area.pages for area in process.areas if area.locked)
        process.areas.clear()

    # Files.

    def _file(self, operation: Operation) -> Mapping:
        return self.files[operation.place % len(self.files)]

    def _run_of(self, operation: Operation, pages: int, most: int) -> tuple[int, int]:
        """First page and number of pages, inside so many."""
        first = operation.page % pages
        return first, min(max(operation.count, 1), pages - first, most)

    async def _read(self, cpu: Cpu, _process: _Process, operation: Operation) -> bool:
        shape = self.shape
        run = self._run_of(operation, shape.file_pages, shape.transfer_pages)
        await syscalls.sys_read(cpu, self._file(operation), *run)
        return True

    async def _write(self, cpu: Cpu, _process: _Process, operation: Operation) -> bool:
        shape = self.shape
        run = self._run_of(operation, shape.file_pages, shape.transfer_pages)
        await syscalls.sys_write(cpu, self._file(operation), *run)
        return True

    async def _fsync(self, cpu: Cpu, _process: _Process, operation: Operation) -> bool:
        await syscalls.sys_fsync(cpu, self._file(operation))
        return True

    async def _sync(self, cpu: Cpu, _process: _Process, _operation: Operation) -> bool:
        await syscalls.sys_sync(cpu)
        return True

    async def _truncate(self, cpu: Cpu, _process: _Process, operation: Operation) -> bool:
        full = self.shape.file_pages
        size = full if operation.count % 2 else operation.page % (full + 1)
        await syscalls.sys_truncate(cpu, self._file(operation), size)
        return True

    # Areas.

    def _area(self, process: _Process, operation: Operation) -> _Area | None:
        areas = process.areas
        return areas[operation.place % len(areas)] if areas else None

    async def _mmap(self, cpu: Cpu, process: _Process, operation: Operation) -> bool:
        shape, memory = self.shape, operation.memory
        private = memory in (Memory.PRIVATE, Memory.ANONYMOUS)
        first, count = self._run_of(operation, shape.file_pages, shape.area_pages)
        if len(process.areas) >= shape.areas:
            return await self._munmap(cpu, process, operation)
        if private and not self._commit(process, count):
            return False
        vma = await syscalls.sys_mmap(
            cpu,
            process.mm,
            None if memory is Memory.ANONYMOUS else self._file(operation),
            0 if memory is Memory.ANONYMOUS else first,
            count,
            writable=memory is not Memory.READ_ONLY,
            shared=not private,
        )
        process.areas.append(_Area(vma, private))
        return True

    def _commit(self, process: _Process, pages: int) -> bool:
        if self._private + pages > self.shape.private_pages:
            return False
        self._private += pages
        process.private += pages
        return True

    async def _munmap(self, cpu: Cpu, process: _Process, operation: Operation) -> bool:
        area = self._area(process, operation)
        if area is None:
            return False
        # Gone from the program's own list at once: no other thread unmaps it a second time.
        process.areas.remove(area)
        await syscalls.sys_munmap(cpu, process.mm, area.vma)
        if area.private:
            self._private -= area.pages
            process.private -= area.pages
        if area.locked:
            area.locked = False
            self._locked -= area.pages
        return True

    async def _load(self, cpu: Cpu, process: _Process, operation: Operation) -> bool:
        return await self._touch(cpu, process, operation, syscalls.user_load)

    async def _store(self, cpu: Cpu, process: _Process, operation: Operation) -> bool:
        return await self._touch(cpu, process, operation, syscalls.user_store)

    async def _touch(
        self,
        cpu: Cpu,
        process: _Process,
        operation: Operation,
        access: Callable[[Cpu, Mm, int], Awaitable[bool]],
    ) -> bool:
        area = self._area(process, operation)
        if area is None:
            return False
        address = area.vma.start + operation.page % area.pages
        self.counts["signals"] += not await access(cpu, process.mm, address)
        return True

    async def _msync(self, cpu: Cpu, process: _Process, operation: Operation) -> bool:
        area = self._area(process, operation)
        if area is None or area.private:
            return False
        await syscalls.sys_msync(cpu, area.vma)
        return True

    async def _mprotect(self, cpu: Cpu, process: _Process, operation: Operation) -> bool:
        area = self._area(process, operation)
        if area is None:
            return False
        writable = operation.memory is not Memory.READ_ONLY
        await syscalls.sys_mprotect(cpu, process.mm, area.vma, writable=writable)
        return True

    async def _remap(self, cpu: Cpu, process: _Process, operation: Operation) -> bool:
        area = self._area(process, operation)
        if area is None or area.private:
            return False
        address = area.vma.start + operation.page % area.pages
        index = operation.count % self.shape.file_pages
        await syscalls.sys_remap_file_pages(cpu, process.mm, area.vma, address, index)
        return True

    async def _mlock(self, cpu: Cpu, process: _Process, operation: Operation) -> bool:
        lockable = [a for a in process.areas if not a.locked and self._may_lock(a)]
        if not lockable:
            return False
        area = lockable[operation.place % len(lockable)]
        area.locked = True
        self._locked += area.pages
        await syscalls.sys_mlock(cpu, process.mm, area.vma)
        return True

    def _may_lock(self, area: _Area) -> bool:
        """mlock marks a file for good; so that not all end like that, only one may be."""
        fits = self._locked + area.pages <= self.shape.locked_pages
        return fits and area.vma.mapping in (None, self.files[0])

    async def _munlock(self, cpu: Cpu, process: _Process, operation: Operation) -> bool:
        locked = [area for area in process.areas if area.locked]
        if not locked:
            return False
        area = locked[operation.place % len(locked)]
        await syscalls.sys_munlock(cpu, process.mm, area.vma)
        if area.locked:  # nobody else has unlocked or unmapped it meanwhile
            area.locked = False
            self._locked -= area.pages
        return True

    # Processes.

    async def _fork(self, cpu: Cpu, process: _Process, _operation: Operation) -> bool:
        pages = process.private
        if len(self._processes) + self._leaving >= self.shape.processes or process.dying:
            return False
        if self._private + pages > self.shape.private_pages:
            return False
        self._private += pages
        self._leaving += 1
        mm = await syscalls.sys_fork(cpu, process.mm)
        self._leaving -= 1
        await cpu.point("program.areas", reads("vma", mm.number))
        areas = [_Area(vma, vma.mapping is None or not vma.shared) for vma in mm.vmas]
        child = _Process(mm, areas, sum(area.pages for area in areas if area.private))
        self._private += child.private - pages
        self._processes.append(child)
        return True

    async def _exit(self, _cpu: Cpu, process: _Process, _operation: Operation) -> bool:
        if process.dying or len(self._processes) == 1:
            return False
        self._processes.remove(process)
        process.dying = True
        return True

    # Devices and reclaim.

    async def _dma_out(self, cpu: Cpu, process: _Process, operation: Operation) -> bool:
        return await self._transfer(cpu, process, operation, syscalls.sys_dma_out)

    async def _dma_in(self, cpu: Cpu, process: _Process, operation: Operation) -> bool:
        return await self._transfer(cpu, process, operation, syscalls.sys_dma_in)

    async def _transfer(
        self,
        cpu: Cpu,
        process: _Process,
        operation: Operation,
        call: Callable[[Cpu, Mm, int, int], Awaitable[object]],
    ) -> bool:
        area = self._area(process, operation)
        if area is None:
            return False
        first, count = self._run_of(operation, area.pages, self.shape.transfer_pages)
        await call(cpu, process.mm, area.vma.start + first, count)
        return True

    async def _pressure(self, cpu: Cpu, _process: _Process, operation: Operation) -> bool:
        for _ in range(min(max(operation.count, 1), self.shape.transfer_pages)):
            await self.kernel.try_to_free_pages(cpu)
        return True
