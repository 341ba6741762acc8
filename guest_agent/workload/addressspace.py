"""Which pages of which files a traced process has mapped where.

Rules:
- An area is what one mmap made; unmapping cuts pieces out of it, which keep its number.
- Addresses are bytes; the file offset of an area's piece goes with its first address.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from guest_agent.workload.filelog import FileState
from shared.arch import PAGE_SIZE


@dataclass(frozen=True, slots=True)
class Area:
    """One piece of a file's mapping."""

    start: int
    end: int
    file: FileState
    offset: int
    number: int
    writable: bool
    """Shared and writable."""

    @property
    def length(self) -> int:
        """Count the bytes."""
        return self.end - self.start

    def cut(self, start: int, end: int) -> Area:
        """Return the part between two addresses inside it."""
        return replace(self, start=start, end=end, offset=self.offset + start - self.start)


class AddressSpace:
    """The file mappings of one process; threads share it."""

    def __init__(self, areas: list[Area] | None = None) -> None:
        self.areas = areas or []
        self.users = 1

    def copy(self) -> AddressSpace:
        """Return a child's space, with the same areas."""
        return AddressSpace(list(self.areas))

    def map(
        self,
        addresses: tuple[int, int],
        file: FileState,
        offset: int,
        number: int,
        *,
        writable: bool,
    ) -> None:
        """Add an area where nothing is mapped."""
        end = _page_end(addresses[1])
        self.areas.append(Area(addresses[0], end, file, offset, number, writable))

    def overlaps(self, start: int, end: int) -> list[Area]:
        """Return the parts of areas between two addresses."""
        end = _page_end(end)
        return [
            area.cut(max(start, area.start), min(end, area.end))
            for area in self.areas
            if area.start < end and start < area.end
        ]

    def unmap(self, start: int, end: int) -> list[Area]:
        """Take out what lies between two addresses, and return it."""
        gone = self.overlaps(start, end)
        if gone:
            end = _page_end(end)
            kept = []
            for area in self.areas:
                if area.end <= start or area.start >= end:
                    kept.append(area)
                    continue
                if area.start < start:
                    kept.append(area.cut(area.start, start))
                if area.end > end:
                    kept.append(area.cut(end, area.end))
            self.areas = kept
        return gone

    def move(self, start: int, end: int, to: int) -> None:
        """Move what lies between two addresses to another one."""
        moved = self.unmap(start, end)
        shift = to - start
        self.areas += [
            replace(area, start=area.start + shift, end=area.end + shift) for area in moved
        ]

    def ending_at(self, address: int) -> Area | None:
        """Return the area whose last page ends at an address."""
        end = _page_end(address)
        return next((area for area in self.areas if area.end == end), None)


def _page_end(address: int) -> int:
    return -(-address // PAGE_SIZE) * PAGE_SIZE
