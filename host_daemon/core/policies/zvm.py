"""Policy `zvm`: least recently used first; hints are consulted on the victim only.

The victim is the frame with the oldest use, whatever its page's state; reclaim then drops
it or writes it.
"""

# DEVIATION: z/VM is said to take unused frames before all others; here they wait their turn,
# so that the policy shows what hints are worth when they do not choose the victim.

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from host_daemon.core.config import Choices
from host_daemon.core.frames import FrameTable
from host_daemon.core.tables import FrameKind

BATCH = 1024
"""Oldest frames sorted at a time."""


class Policy:
    """Exact LRU by stamp.

    `_queue` holds the oldest candidates at the time of sorting, oldest last, with their
    stamps. It is only a shortcut: stamps grow, and a frame that becomes a candidate gets a
    new one, so whatever is not in the queue is younger than all that is still valid in it.
    """

    def __init__(self, _choices: Choices) -> None:
        self._queue: list[tuple[int, int]] = []

    def choose(self, frames: FrameTable, *, may_page_out: bool) -> int:
        """The candidate with the smallest stamp."""
        if not may_page_out:
            kinds = frames.kinds_view
            return _oldest(frames, (kinds > FrameKind.BUSY) & (kinds < FrameKind.KEPT), 1)[0][0]
        while True:  # ends: a new queue begins with a valid entry
            while self._queue:
                frame, stamp = self._queue.pop()
                if frames.last_use[frame] == stamp and frames.kinds[frame] > FrameKind.BUSY:
                    self._queue.append((frame, stamp))
                    return frame
            self._queue = _oldest(frames, frames.kinds_view > FrameKind.BUSY, BATCH)[::-1]
            assert self._queue

    def snapshot(self) -> list[int]:
        """Nothing: the stamps are the frame table's."""
        return []

    def restore(self, data: list[int]) -> None:
        """The inverse of `snapshot`."""
        assert not data


def _oldest(frames: FrameTable, candidates: NDArray[np.bool_], count: int) -> list[tuple[int, int]]:
    """Up to `count` of the candidates with the smallest stamps: (frame, stamp), ascending."""
    numbers = np.flatnonzero(candidates)
    stamps = frames.last_use_view[numbers]
    if len(numbers) > count:
        smallest = np.argpartition(stamps, count)[:count]
        numbers, stamps = numbers[smallest], stamps[smallest]
    order = np.argsort(stamps)
    return list(zip(numbers[order].tolist(), stamps[order].tolist(), strict=True))
