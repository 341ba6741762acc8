"""What hinting costs: the ESSAs that the guest issues on each path of its memory management.

Rules:
- A path is brought about by system calls, one after the other, on the shipped kernel and host
  core; what is counted is the commands that reach the host, page by page.
- The host evicts nothing meanwhile: this is the price when memory is plenty, when hinting has
  nothing to give in return.

What the patches promise is said in the changelogs of 1/6 and 4/6 (2005-09, unchanged in its
figures up to 2006-09), in our words; a path of which they give no figure has none here.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.guards import FIXED, Guards
from guest_agent.kernel.kernel import Hints, KernelConfig
from guest_agent.kernel.mm import Mm
from guest_agent.kernel.page import Mapping
from guest_agent.kernel.syscalls import (
    sys_fsync,
    sys_mmap,
    sys_msync,
    sys_munmap,
    sys_read,
    sys_write,
    user_load,
    user_store,
)
from race_explorer.straight import Straight
from shared.commands import Essa, EssaArray

PAGES: Final = 16
PAGES_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class Variant:
    """What the guest tells its host, and whether patch 4/6 is in."""

    name: str
    hints: Hints
    minor_faults: bool


VARIANTS: Final = tuple(
    Variant(f"{hints}{', 4/6' * minor_faults}", hints, minor_faults)
    for hints in Hints
    for minor_faults in (False, True)
)


class _Bench:
    """A booted guest with one file; nothing is cached."""

    def __init__(self, variant: Variant, guards: Guards, pages: int) -> None:
        self.machine = Straight(
            KernelConfig(
                page_count=2 * pages + 2,
                hints=variant.hints,
                guards=guards,
                minor_faults=variant.minor_faults,
            ),
            frame_count=2 * pages + 2,
        )
        self.kernel = self.machine.kernel
        self.cpu: Cpu = self.kernel.cpus[0]
        self.pages = pages
        self.file: Mapping = self.kernel.open_file(1, disk=1, first_block=0)
        self.mm: Mm = self.kernel.new_mm()

    async def cache(self) -> None:
        """Read the file into the page cache."""
        await sys_read(self.cpu, self.file, 0, self.pages)

    async def map(self, *, writable: bool = False) -> None:
        """Map the file, shared."""
        await sys_mmap(self.cpu, self.mm, self.file, 0, self.pages, writable=writable)

    async def touch(self, *, write: bool = False) -> None:
        """Access every page that is mapped."""
        (vma,) = self.mm.vmas
        access = user_store if write else user_load
        for address in range(vma.start, vma.end):
            await access(self.cpu, self.mm, address)

    async def unmap(self) -> None:
        """Unmap what is mapped."""
        await sys_munmap(self.cpu, self.mm, self.mm.vmas[0])

    # Set-ups.

    async def nothing(self) -> None:
        """Start with an empty page cache."""

    async def cached_and_mapped(self) -> None:
        """The file is cached, and mapped, but no pte is there."""
        await self.cache()
        await self.map()

    async def cached_and_mapped_writable(self) -> None:
        """The same for stores."""
        await self.cache()
        await self.map(writable=True)

    async def read_through_ptes(self) -> None:
        """Every page is mapped and clean."""
        await self.cached_and_mapped()
        await self.touch()

    async def stored_through_ptes(self) -> None:
        """Every page is mapped writable and changed."""
        await self.cached_and_mapped_writable()
        await self.touch(write=True)

    async def dirty(self) -> None:
        """Every page has been written to by a system call."""
        await self.cache()
        await self.write()

    # Paths.

    async def load(self) -> None:
        """A fault on every page, for reading."""
        await self.touch()

    async def store(self) -> None:
        """A fault on every page, for writing."""
        await self.touch(write=True)

    async def read(self) -> None:
        """read(2) of every page."""
        await self.cache()

    async def write(self) -> None:
        """write(2) of every page."""
        await sys_write(self.cpu, self.file, 0, self.pages)

    async def fsync(self) -> None:
        """fsync(2) of the file."""
        await sys_fsync(self.cpu, self.file)

    async def msync(self) -> None:
        """msync(2) of the mapping."""
        await sys_msync(self.cpu, self.mm.vmas[0])

    async def allocate_and_free(self) -> None:
        """Anonymous memory, touched once and given back."""
        await sys_mmap(self.cpu, self.mm, None, 0, self.pages, writable=True)
        await self.touch(write=True)
        await self.unmap()


_Step = Callable[[_Bench], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Path:
    """One path. promised: ESSAs without and with 4/6 as the patches have it, or empty."""

    name: str
    prepare: _Step
    run: _Step
    promised: str = ""


async def _map_and_load(bench: _Bench) -> None:
    await bench.map()
    await bench.load()


PATHS: Final = (
    Path(
        "minor fault, load",
        _Bench.cached_and_mapped,
        _Bench.load,
        "2 (1/6); 0 (4/6)",
    ),
    Path(
        "minor fault, store",
        _Bench.cached_and_mapped_writable,
        _Bench.store,
        "2 (1/6); 0 (4/6); 1 for the first writable pte (3/6)",
    ),
    Path(
        "major fault",
        _Bench.nothing,
        _map_and_load,
        "1 for the new page (1/6), and 1 once it is up to date (4/6)",
    ),
    Path("unmap, clean", _Bench.read_through_ptes, _Bench.unmap, "1 (1/6); 0 (4/6)"),
    Path(
        "unmap, changed",
        _Bench.stored_through_ptes,
        _Bench.unmap,
        "1 (1/6); 0 (4/6); 1 before C is cleared (6/6)",
    ),
    Path("read, hit", _Bench.cache, _Bench.read),
    Path("read, miss", _Bench.nothing, _Bench.read),
    Path("write, hit", _Bench.cache, _Bench.write),
    Path("write, miss", _Bench.nothing, _Bench.write),
    Path("fsync, dirty page", _Bench.dirty, _Bench.fsync),
    Path(
        "msync, changed page",
        _Bench.stored_through_ptes,
        _Bench.msync,
        "1 before C is cleared (6/6)",
    ),
    Path(
        "allocation and free",
        _Bench.nothing,
        _Bench.allocate_and_free,
        "2 (1/6); 1 for the first writable pte (3/6)",
    ),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a path cost. total: ESSAs. pages: how many pages went along the path.

    sequence: the orcs of one page in order, if all pages have the same; else None.
    by_orc: orc -> how many.
    """

    total: int
    pages: int
    by_orc: dict[int, int]
    sequence: tuple[int, ...] | None

    @property
    def per_page(self) -> float:
        """ESSAs per page."""
        return self.total / self.pages


def measure(path: Path, variant: Variant, guards: Guards = FIXED, pages: int = PAGES) -> Cost:
    """Run the path once in a guest of its own.

    Raises KernelBug for an integrity error too: the cost of wrong results is none.
    """
    assert 1 <= pages <= PAGES_MAX
    bench = _Bench(variant, guards, pages)
    machine = bench.machine
    machine.run(bench.kernel.boot(bench.cpu))
    machine.run(path.prepare(bench))
    begun = len(machine.commands)
    machine.run(path.run(bench))
    for error in bench.kernel.integrity_errors:
        raise KernelBug(f"{path.name}: {error.what}")
    history: dict[int, list[int]] = {}
    for _, command in machine.commands[begun:]:
        match command:
            case Essa():
                history.setdefault(command.pfn, []).append(int(command.orc))
            case EssaArray():
                for orc, pfn in zip(command.orcs.tolist(), command.pfns.tolist(), strict=True):
                    history.setdefault(pfn, []).append(orc)
            case _:
                pass
    orcs = [orc for issued in history.values() for orc in issued]
    alike = {tuple(issued) for issued in history.values()}
    sequence = alike.pop() if len(alike) == 1 and len(history) == pages else None
    return Cost(
        len(orcs),
        pages,
        {orc: orcs.count(orc) for orc in sorted(set(orcs))},
        sequence if orcs else (),
    )
