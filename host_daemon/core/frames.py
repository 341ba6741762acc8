"""The frame pool: real 4 KiB frames, who has them, and when they were last used.

Rules:
- A frame's kind mirrors its page's state and change bit (see `kinds`), so that a reclaim
  policy finds a victim by searching bytes.
- A frame that becomes a candidate for reclaim counts as just used.
"""

from __future__ import annotations

import numpy as np

from host_daemon.core.pools import IndexPool
from host_daemon.core.tables import FrameKind
from shared.arch import PAGE_SHIFT, PAGE_SIZE

_ZEROES = bytes(PAGE_SIZE)


class FrameTable:
    """All frames, numbered from 1. Arrays are indexed by frame.

    memory: the frames' bytes, frame n from n << PAGE_SHIFT; kinds: FrameKind;
    referenced: 1 if used since a policy last cleared it; last_use: a stamp that grows with
    every use and is never the same twice; guest, pfn: the owner, where kind is not FREE.
    """

    __slots__ = (
        "busy_count",
        "clock",
        "guest",
        "guest_view",
        "kinds",
        "kinds_view",
        "last_use",
        "last_use_view",
        "memory",
        "memory_view",
        "pfn",
        "pfn_view",
        "pool",
        "referenced",
    )

    def __init__(self, count: int) -> None:
        self.pool = IndexPool(count)
        # numpy asks for zeroed memory and does not touch it; bytearray would.
        self.memory_view = np.zeros((count + 1) << PAGE_SHIFT, dtype=np.uint8)
        self.memory = self.memory_view.data
        self.kinds = bytearray(count + 1)
        self.kinds_view = np.frombuffer(self.kinds, dtype=np.uint8)
        self.referenced = bytearray(count + 1)
        self.guest_view = np.zeros(count + 1, dtype=np.uint32)
        self.guest = self.guest_view.data
        self.pfn_view = np.zeros(count + 1, dtype=np.uint32)
        self.pfn = self.pfn_view.data
        self.last_use_view = np.zeros(count + 1, dtype=np.uint64)
        self.last_use = self.last_use_view.data
        self.clock = 0
        self.busy_count = 0

    @property
    def count(self) -> int:
        """All frames, free ones included."""
        return self.pool.count

    @property
    def free_count(self) -> int:
        """Frames that could be taken now."""
        return self.pool.free_count

    @property
    def candidate_count(self) -> int:
        """Frames that a policy may choose from."""
        return self.pool.count - self.pool.unused_count - self.busy_count

    def has_droppable(self) -> bool:
        """Whether a policy could choose a frame without anything having to be written."""
        find = self.kinds.find
        return any(
            find(kind) > 0 for kind in (FrameKind.UNUSED, FrameKind.VOLATILE, FrameKind.CLEAN)
        )

    def take(self, guest: int, pfn: int) -> int:
        """A frame for a page, BUSY until `settle`, with stale content; 0 if none is free."""
        frame = self.pool.take()
        if frame:
            self.kinds[frame] = FrameKind.BUSY
            self.busy_count += 1
            self.guest[frame] = guest
            self.pfn[frame] = pfn
        return frame

    def settle(self, frame: int, kind: int) -> None:
        """Make a BUSY frame a candidate for reclaim, as just used."""
        assert self.kinds[frame] == FrameKind.BUSY
        self.kinds[frame] = kind
        self.busy_count -= 1
        self.touch(frame)

    def seize(self, frame: int) -> None:
        """Make a candidate BUSY: it is being reclaimed."""
        assert self.kinds[frame] > FrameKind.BUSY
        self.kinds[frame] = FrameKind.BUSY
        self.busy_count += 1

    def free(self, frame: int) -> None:
        """Let go of a frame, BUSY or not."""
        kind = self.kinds[frame]
        assert kind != FrameKind.FREE, f"frame {frame} is free already"
        if kind == FrameKind.BUSY:
            self.busy_count -= 1
        self.kinds[frame] = FrameKind.FREE
        self.pool.give(frame)

    def touch(self, frame: int) -> None:
        """Note a use."""
        self.clock += 1
        self.last_use[frame] = self.clock
        self.referenced[frame] = 1

    def content(self, frame: int) -> bytes:
        """A copy of the frame's 4 KiB."""
        start = frame << PAGE_SHIFT
        return bytes(self.memory[start : start + PAGE_SIZE])

    def fill(self, frame: int, data: bytes = _ZEROES) -> None:
        """Replace the frame's 4 KiB, by default with zeroes."""
        assert len(data) == PAGE_SIZE
        start = frame << PAGE_SHIFT
        self.memory[start : start + PAGE_SIZE] = data
