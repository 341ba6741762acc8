"""Policy `hints-first`: what costs nothing goes first, then a second-chance clock.

Order: unused pages, volatile pages, clean potential volatile pages; then the pages that
have to be written, stable and changed potential volatile ones, by clock: a page used since
the hand last passed is spared once.
"""

from __future__ import annotations

from host_daemon.core.config import Choices
from host_daemon.core.frames import FrameTable
from host_daemon.core.tables import FrameKind

_DROPPABLE = (FrameKind.UNUSED, FrameKind.VOLATILE, FrameKind.CLEAN)


class Policy:
    """One hand per kind, so that equal frames take turns."""

    def __init__(self, _choices: Choices) -> None:
        self._hands = dict.fromkeys((*_DROPPABLE, FrameKind.KEPT), 1)

    def choose(self, frames: FrameTable, *, may_page_out: bool) -> int:
        """The next frame of the first kind that has any."""
        for kind in _DROPPABLE:
            frame = self._next(frames, kind)
            if frame:
                return frame
        assert may_page_out
        while True:  # ends: the first round clears every reference
            frame = self._next(frames, FrameKind.KEPT)
            if not frame or not frames.referenced[frame]:
                return frame
            frames.referenced[frame] = 0

    def _next(self, frames: FrameTable, kind: FrameKind) -> int:
        """The next frame of one kind from its hand on, round and round; 0 if there is none."""
        frame = frames.kinds.find(kind, self._hands[kind])
        if frame < 0:
            frame = frames.kinds.find(kind, 1)
            if frame < 0:
                return 0
        self._hands[kind] = frame + 1
        return frame

    def snapshot(self) -> list[int]:
        """The hands, in order of kind."""
        return list(self._hands.values())

    def restore(self, data: list[int]) -> None:
        """The inverse of `snapshot`."""
        self._hands = dict(zip(self._hands, data, strict=True))
