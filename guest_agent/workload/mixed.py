"""A workload that mixes every operation of the kernel, from one seed.

Rules:
- Operation i of vCPU v depends on the seed, v and the weights alone; what it meets depends on
  how the vCPUs interleave. So a run is its seed in the race explorer, and nearly so in a
  real guest.
- Pages near the front of a file are asked for more often than others: everybody meets
  everybody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from random import Random
from typing import Final

from guest_agent.kernel import invariants
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.kernel import Kernel
from guest_agent.kernel.ports import Resource
from guest_agent.workload.operations import Kind, Memory, Operation, Shape
from guest_agent.workload.program import Machine

IDLE: Final[Resource] = ("idle", 0)
"""What `Kernel.idle` waits on."""

_MEMORY: Final = (
    *[Memory.SHARED] * 4,
    *[Memory.PRIVATE] * 2,
    *[Memory.READ_ONLY] * 2,
    *[Memory.ANONYMOUS] * 2,
)
_FILE_KINDS: Final = (Kind.READ, Kind.WRITE, Kind.MMAP)
_HOT: Final = 0.5
"""Of these, so many choose their page from the first eighth of the file."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How often each kind of operation comes, as parts of their sum; 0 leaves it out."""

    read: int = 40
    write: int = 20
    fsync: int = 3
    sync: int = 1
    truncate: int = 1
    mmap: int = 18
    munmap: int = 7
    load: int = 60
    store: int = 48
    msync: int = 6
    mprotect: int = 8
    fork: int = 4
    exit: int = 4
    mlock: int = 1
    munlock: int = 1
    remap: int = 4
    dma_out: int = 4
    dma_in: int = 4
    pressure: int = 3

    def __post_init__(self) -> None:
        """Raise ValueError for weights that make no sense."""
        for one in fields(self):
            if getattr(self, one.name) < 0:
                raise ValueError(f"the weight of {one.name} is negative")
        if not any(getattr(self, one.name) for one in fields(self)):
            raise ValueError("all weights are 0")


@dataclass(frozen=True, slots=True)
class Mix:
    """A mixed workload: `operations` over all vCPUs, invariants checked every `check_every`."""

    seed: int
    operations: int
    vcpu_count: int
    shape: Shape
    weights: Weights = field(default_factory=Weights)
    check_every: int = 2_000

    @property
    def request_count(self) -> int:
        """What its progress is counted in."""
        return self.operations

    @property
    def block_count(self) -> int:
        """Blocks of the disk that its files take."""
        return self.shape.block_count


def operations(seed: int, vcpu: int, weights: Weights, shape: Shape) -> Iterator[Operation]:
    """The operations of one vCPU, without end."""
    random = Random(f"{seed} {vcpu}")
    kinds = list(Kind)
    chances = [getattr(weights, kind.value) for kind in kinds]
    while True:
        for kind in random.choices(kinds, chances, k=64):
            yield Operation(
                kind,
                process=random.randrange(shape.processes),
                place=random.randrange(shape.files * shape.areas),
                page=_page(random, shape, hot=kind in _FILE_KINDS),
                count=random.randint(1, shape.area_pages),
                memory=random.choice(_MEMORY),
            )


def _page(random: Random, shape: Shape, *, hot: bool) -> int:
    if hot and random.random() < _HOT:
        return random.randrange(max(1, shape.file_pages // 8))
    return random.randrange(shape.file_pages)


class MixedRunner:
    """Executes a mix on one kernel after the other; what is done survives a kernel.

    Which vCPU has how many operations is left to time: whoever is free takes its next one.
    counts: how operations ended, over all kernels.
    """

    def __init__(
        self,
        mix: Mix,
        changed: Callable[[Resource], None],
        violated: Callable[[list[str]], None],
    ) -> None:
        """changed: called when `IDLE` has changed. violated: told what a check has found."""
        self.requests_done = 0
        self.counts: Counter[str] = Counter()
        self._mix = mix
        self._changed = changed
        self._violated = violated
        self._machine: Machine | None = None
        vcpus = range(mix.vcpu_count)
        self._streams = [operations(mix.seed, v, mix.weights, mix.shape) for v in vcpus]
        self._next = [next(stream) for stream in self._streams]
        self._running = 0
        self._waiting = 0
        self._checked = 0

    @property
    def steps_done(self) -> int:
        """An operation is a step."""
        return self.requests_done

    def rebooted(self) -> None:
        """Memory is gone, and with it all processes; every vCPU goes on where it was."""
        self._machine = None
        self._running = self._waiting = 0

    async def run(self, cpu: Cpu) -> None:
        """Execute operations and meet at barriers, until all are through."""
        machine = self._machine_of(cpu.kernel)
        total, every = self._mix.operations, self._mix.check_every
        while self._checked < total:
            stop = min(total, (self._checked // every + 1) * every)
            while self.requests_done + self._running < stop:
                await self._execute(cpu, machine)
            await self._barrier(cpu, stop)

    async def unmap_all(self, cpu: Cpu) -> None:
        """End all processes, so that every store shows as a dirty page."""
        await self._machine_of(cpu.kernel).finish(cpu)

    def _machine_of(self, kernel: Kernel) -> Machine:
        if self._machine is None:
            self._machine = Machine(kernel, self._mix.shape, self.counts)
        return self._machine

    async def _execute(self, cpu: Cpu, machine: Machine) -> None:
        vcpu = cpu.number
        self._running += 1
        await machine.execute(cpu, self._next[vcpu])
        self._running -= 1
        self.requests_done += 1
        self._next[vcpu] = next(self._streams[vcpu])

    async def _barrier(self, cpu: Cpu, number: int) -> None:
        """Wait for all other vCPUs; the last one to come checks the invariants."""
        self._waiting += 1
        if self._waiting == self._mix.vcpu_count:
            self._violated(await invariants.check(cpu.kernel, cpu))
            self._waiting, self._checked = 0, number
            self._changed(IDLE)
        await cpu.kernel.idle(cpu, lambda: self._checked >= number, "mixed.barrier")
