"""Actors put together: programs over one page of a file, as text that can be cut down.

A composition such as

    minor; evict=2; start=store.0 load.1; store.0 msync.0 | munmap.1 | read fsync

has three programs, each on a vCPU of its own. Address spaces 0 and 1 map the page shared and
writable, 2 maps it privately; `.K` says whose an operation is. `start` is done before the race
begins, by nobody else disturbed. The host may evict the page that caches it `evict` times.

Rules:
- Every text that parses can be run, and so can every text with something taken out of it:
  an operation whose mapping is gone does nothing.
- What is searched without a scenario's help is described here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from guest_agent.kernel import invariants
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.grace import Grace
from guest_agent.kernel.mm import Mm, Vma
from guest_agent.kernel.page import Mapping, reads, writes
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import find_get_page
from guest_agent.kernel.ports import Accesses
from guest_agent.kernel.syscalls import (
    sys_dma_in,
    sys_dma_out,
    sys_exit,
    sys_fork,
    sys_fsync,
    sys_mlock,
    sys_mmap,
    sys_mprotect,
    sys_msync,
    sys_munmap,
    sys_read,
    sys_truncate,
    sys_write,
    user_load,
    user_store,
)
from race_explorer.actors import Step, always, stand
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld

COMPOSED: Final = "composed"
"""What a scenario is called that is a composition."""
SPACES: Final = 3
PRIVATE: Final = 2
"""The address space that maps the page privately."""
PROGRAMS_MAX: Final = 6
OPERATIONS_MAX: Final = 8
EVICTIONS_MAX: Final = 9
_PAGES: Final = 8
_FILE: Final = 1


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing to do. space: whose, None for what is done without a mapping."""

    name: str
    space: int | None = None

    def __str__(self) -> str:
        return self.name if self.space is None else f"{self.name}.{self.space}"


Program = tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Composition:
    """See the module. grace: the variant of the discarded list."""

    programs: tuple[Program, ...]
    start: Program = ()
    evictions: int = 0
    minor_faults: bool = False
    grace: Grace = Grace.CALL

    def __str__(self) -> str:
        settings = ["minor"] if self.minor_faults else []
        settings += [f"grace={self.grace}"] if self.grace is not Grace.CALL else []
        settings += [f"evict={self.evictions}"] if self.evictions else []
        settings += [f"start={_program_text(self.start)}"] if self.start else []
        return "; ".join([*settings, " | ".join(map(_program_text, self.programs))])

    def smaller(self) -> Iterator[Composition]:
        """The same with one thing taken out; whole programs first."""
        for i in range(len(self.programs)):
            if len(self.programs) > 1:
                yield replace(self, programs=self.programs[:i] + self.programs[i + 1 :])
        for i, program in enumerate(self.programs):
            if len(program) > 1:
                for shorter in _shorter(program):
                    programs = (*self.programs[:i], shorter, *self.programs[i + 1 :])
                    yield replace(self, programs=programs)
        for shorter in _shorter(self.start):
            yield replace(self, start=shorter)
        if self.evictions:
            yield replace(self, evictions=self.evictions - 1)
        if self.minor_faults:
            yield replace(self, minor_faults=False)
        if self.grace is not Grace.CALL:
            yield replace(self, grace=Grace.CALL)


def _shorter(program: Program) -> Iterator[Program]:
    for i in range(len(program)):
        yield program[:i] + program[i + 1 :]


def _program_text(program: Program) -> str:
    return " ".join(map(str, program))


# From text.


def parse(text: str) -> Composition:
    """The composition that a text describes. Raises ValueError that names what is wrong."""
    *settings, programs = (part.strip() for part in text.split(";"))
    found = Composition(tuple(_program(part, "a program") for part in programs.split("|")))
    if not all(found.programs):
        raise ValueError(f"a program of {text!r} is empty")
    if len(found.programs) > PROGRAMS_MAX:
        raise ValueError(f"{len(found.programs)} programs; there must be 1 to {PROGRAMS_MAX}")
    for setting in settings:
        found = _with_setting(found, setting)
    return found


def _with_setting(found: Composition, setting: str) -> Composition:
    name, _, value = (part.strip() for part in setting.partition("="))
    match name:
        case "minor" if not value:
            return replace(found, minor_faults=True)
        case "start":
            return replace(found, start=_program(value, "start"))
        case "grace" if value in list(Grace):
            return replace(found, grace=Grace(value))
        case "evict" if value.isdecimal() and int(value) <= EVICTIONS_MAX:
            return replace(found, evictions=int(value))
    raise ValueError(
        f"{setting!r} is no setting; they are minor, grace={'|'.join(Grace)}, "
        f"evict=0 to {EVICTIONS_MAX} and start=OPERATIONS"
    )


def _program(text: str, what: str) -> Program:
    program = tuple(map(_operation, text.split()))
    if len(program) > OPERATIONS_MAX:
        raise ValueError(f"{what} has {len(program)} operations; at most {OPERATIONS_MAX}")
    return program


def _operation(text: str) -> Operation:
    name, dot, space = text.partition(".")
    if name in MAPPED and space in map(str, range(SPACES)):
        return Operation(name, int(space))
    if name in UNMAPPED and not dot:
        return Operation(name)
    raise ValueError(
        f"{text!r} is no operation; they are {', '.join(UNMAPPED)}, and with .0 to "
        f".{SPACES - 1} {', '.join(MAPPED)}"
    )


# The world.


class _Stage:
    """The file, its address spaces and what operations do to them."""

    def __init__(self, world: SimWorld) -> None:
        self.world = world
        self.kernel = world.kernel
        self.file: Mapping = self.kernel.open_file(_FILE, disk=1, first_block=0)
        self.vmas: dict[int, Vma] = {}

    async def map_all(self, cpu: Cpu) -> None:
        """Every address space maps the page, and has no pte yet."""
        for space in range(SPACES):
            mm = self.kernel.new_mm()
            shared = space != PRIVATE
            self.vmas[space] = await sys_mmap(
                cpu, mm, self.file, 0, 1, writable=True, shared=shared
            )

    def program(self, program: Program) -> Callable[[Cpu], Coroutine[Any, Any, None]]:
        """What a vCPU runs."""

        async def run(cpu: Cpu) -> None:
            for operation in program:
                await self.perform(cpu, operation)

        return run

    async def perform(self, cpu: Cpu, operation: Operation) -> None:
        """One operation; nothing if its mapping is gone."""
        if operation.space is None:
            await UNMAPPED[operation.name](cpu, self.file)
            return
        vma = self.vmas.get(operation.space)
        if operation.name == "munmap":
            # Gone from the program's own list at once: nobody unmaps it a second time.
            self.vmas.pop(operation.space, None)
        if vma is not None:
            await MAPPED[operation.name](cpu, vma.mm, vma)

    async def close(self, cpu: Cpu) -> None:
        """Every process ends: what was stored through ptes is dirty then, and gets written.

        Raises KernelBug for what does not hold of a kernel at rest.
        """
        for mm in list(self.kernel.mms):
            await sys_exit(cpu, mm)
        broken = await invariants.check(self.kernel, cpu)
        if broken:
            raise KernelBug(f"at rest: {broken[0]}")

    async def evictor(self, times: int) -> None:
        """The host may evict the page that caches the file's page, so many times."""
        for _ in range(times):
            await stand(Step("evict", self._evicted, always))
            page = self.file.pages.get(0)
            if page is not None:
                self.world.evict(page.pfn)

    def _evicted(self) -> Accesses:
        page = self.file.pages.get(0)
        found = () if page is None else (writes("host", page.pfn),)
        return (reads("page_tree", self.file.number), *found)


def build(composition: Composition, protections: Protections) -> SimWorld:
    """A world that is ready for the race."""
    world = new_world(
        protections,
        vcpu_count=len(composition.programs),
        page_count=_PAGES,
        minor_faults=composition.minor_faults,
        grace=composition.grace,
    )
    stage = _Stage(world)

    async def prepare() -> None:
        cpu = world.kernel.cpus[0]
        await world.kernel.boot(cpu)
        await stage.map_all(cpu)
        for operation in composition.start:
            await stage.perform(cpu, operation)

    world.prepare(prepare())
    world.closing = stage.close
    for vcpu, program in enumerate(composition.programs):
        world.run_vcpu(vcpu, stage.program(program))
    if composition.evictions:
        world.spawn_later("host.evictor", partial(stage.evictor, composition.evictions))
    return world


def composed(composition: Composition) -> Scenario:
    """The composition as a scenario that is about no guard in particular."""

    def ready(protections: Protections) -> SimWorld:
        return build(composition, protections)

    return Scenario(COMPOSED, (), (), (), (), ready)


# The operations.


async def _unmap(cpu: Cpu, mm: Mm, vma: Vma) -> None:
    await sys_munmap(cpu, mm, vma)


async def _fork(cpu: Cpu, mm: Mm, _vma: Vma) -> None:
    await sys_fork(cpu, mm)


async def _look(cpu: Cpu, file: Mapping) -> None:
    page = await find_get_page(cpu, file, 0)
    if page is not None:
        await put_page(cpu, page)


async def _reclaim(cpu: Cpu, _file: Mapping) -> None:
    await cpu.kernel.try_to_free_pages(cpu)


async def _grace(cpu: Cpu, _file: Mapping) -> None:
    await cpu.kernel.grace.reclaim(cpu)


MAPPED: Final[dict[str, Callable[[Cpu, Mm, Vma], Awaitable[object]]]] = {
    "load": lambda cpu, mm, vma: user_load(cpu, mm, vma.start),
    "store": lambda cpu, mm, vma: user_store(cpu, mm, vma.start),
    "msync": lambda cpu, _mm, vma: sys_msync(cpu, vma),
    "munmap": _unmap,
    "readonly": lambda cpu, mm, vma: sys_mprotect(cpu, mm, vma, writable=False),
    "writable": lambda cpu, mm, vma: sys_mprotect(cpu, mm, vma, writable=True),
    "fork": _fork,
    "mlock": lambda cpu, mm, vma: sys_mlock(cpu, mm, vma),
    "dma_out": lambda cpu, mm, vma: sys_dma_out(cpu, mm, vma.start, 1),
    "dma_in": lambda cpu, mm, vma: sys_dma_in(cpu, mm, vma.start, 1),
}
"""Operations on a mapping."""
UNMAPPED: Final[dict[str, Callable[[Cpu, Mapping], Awaitable[object]]]] = {
    "read": lambda cpu, file: sys_read(cpu, file, 0, 1),
    "write": lambda cpu, file: sys_write(cpu, file, 0, 1),
    "fsync": sys_fsync,
    "truncate": lambda cpu, file: sys_truncate(cpu, file, 0),
    "look": _look,
    "reclaim": _reclaim,
    "grace": _grace,
}
"""Operations on the file, and the kernel's own."""
