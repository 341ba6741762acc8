"""What a guest's pages cost the host: the daemon's resident set before and after."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.client import Stream, control_stub, eventually, guest_stub, open_guest
from bench.processes import host_server
from bench.settings import ARRAY_LENGTH, VCPUS, Settings
from shared.arch import PAGE_SIZE, Orc
from shared.commands import EssaArray, Store
from shared.essa.v1 import essa_pb2 as pb

_SLOT_FILE_BYTES: Final = PAGE_SIZE + 32
_GENERATION_BYTES: Final = 2
_PART: Final = 1024
"""Pages that are stored to and evicted at a time; ranges of one call."""
_WARM_PASSES: Final = 32
_ORCS: Final = np.array([o for o in Orc if o is not Orc.SET_STABLE_MAKE_RESIDENT], np.uint8)


@dataclass(frozen=True, slots=True)
class MemoryResult:
    """Growths of the daemon's resident set since before the guest was opened, in bytes.

    essas_growth: every page touched by one ESSA. arrays_growth: after that, pages spread over
    the whole guest were stored to and paged out, so that keys and locations are resident too.
    generations: of the slots not used by these, at their full size, because untouched ones
    take no memory. slots_used: the others.
    """

    page_count: int
    slot_count: int
    essas_growth: int
    arrays_growth: int
    generations: int
    slots_used: int

    @property
    def bytes_per_page(self) -> float:
        """After one ESSA on each page."""
        return self.essas_growth / self.page_count

    @property
    def bytes_per_page_all_arrays(self) -> float:
        """If all arrays of the guest and of a slot for each page were resident throughout."""
        return (self.arrays_growth + self.generations) / self.page_count

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {
            "bytes_per_page": self.bytes_per_page,
            "bytes_per_page_all_arrays": self.bytes_per_page_all_arrays,
        }


async def measure(directory: Path, settings: Settings) -> MemoryResult:
    """Start a host of its own and open the guest in it.

    The frame pool is written all over before the first look, so no growth holds any of it.
    """
    listen, control = f"unix:{directory / 'mg'}", f"unix:{directory / 'mc'}"
    pages, frames = settings.memory_pages, settings.memory_frames
    options = ["--memory", str(frames), "--low-watermark", "1", "--high-watermark", "1"]
    # The paging file is sparse, yet its disk has to have room for all of it.
    room = shutil.disk_usage(tempfile.gettempdir()).free // _SLOT_FILE_BYTES
    slots = pages
    if room < pages + 1:
        slots = max(room // 2, 1)
        options.append("--overcommit-paging")
    options += ["--paging-size", str(slots)]
    with host_server(listen, control, *options) as server:
        async with guest_stub(listen) as guests, control_stub(control) as operators:
            await _warm_up(guests, operators, frames)
            before = server.resident_bytes()
            session = await open_guest(guests, "big", pages)
            async with Stream(guests, session) as stream:
                await _touch(stream, pages)
                touched = server.resident_bytes()
                spread = list(range(0, pages, settings.memory_stride))
                await _page_out(stream, operators, "big", spread)
                grown = server.resident_bytes()
    return MemoryResult(
        page_count=pages,
        slot_count=slots,
        essas_growth=touched - before,
        arrays_growth=grown - before,
        generations=_GENERATION_BYTES * (pages - len(spread)),
        slots_used=len(spread),
    )


async def _warm_up(guests: Any, operators: Any, frames: int) -> None:
    """Do once, in a small guest, whatever makes a daemon grow that has nothing to do with size."""
    session = await open_guest(guests, "warm", ARRAY_LENGTH)
    async with Stream(guests, session) as stream:
        for _ in range(_WARM_PASSES):
            await _touch(stream, ARRAY_LENGTH)
        # Others than those that get the frames at the end: nothing is ever paged in here.
        await _page_out(stream, operators, "warm", list(range(frames, 2 * frames)))
        stable = np.full(frames, Orc.SET_STABLE, np.uint8)
        await stream.run([EssaArray.of(stable, np.arange(frames, dtype="<u4"))], width=1)
        await stream.run((_store(pfn) for pfn in range(frames)), width=VCPUS)
    await guests.CloseGuest(pb.CloseGuestRequest(session=session))


def _store(pfn: int) -> Store:
    return Store(pfn, 0, pfn.to_bytes(32, "little"), 128)


async def _touch(stream: Stream, pages: int) -> None:
    """One ESSA on each page, by arrays with random operations."""
    choices = np.random.default_rng(2005)
    for first in range(0, pages, ARRAY_LENGTH):
        count = min(ARRAY_LENGTH, pages - first)
        pfns = np.arange(first, first + count, dtype="<u4")
        await stream.run([EssaArray.of(choices.choice(_ORCS, count), pfns)], width=1)


async def _page_out(stream: Stream, operators: Any, name: str, pfns: list[int]) -> None:
    """Store to pages, one of each _PART at a time in frames, and have them paged out."""
    for first in range(0, len(pfns), _PART):
        part = pfns[first : first + _PART]
        stable = np.full(len(part), Orc.SET_STABLE, np.uint8)
        await stream.run([EssaArray.of(stable, np.array(part, dtype="<u4"))], width=1)
        await stream.run((_store(pfn) for pfn in part), width=VCPUS)
        ranges = [pb.PageRange(first_pfn=pfn, page_count=1) for pfn in part]
        await operators.EvictPages(pb.EvictPagesRequest(name=name, ranges=ranges))
        await eventually(partial(_no_frame_used, operators))


async def _no_frame_used(operators: Any) -> bool:
    status = await operators.GetStatus(pb.GetStatusRequest())
    return bool(status.free_frame_count == status.frame_count)
