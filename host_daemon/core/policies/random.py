"""Policy `random`: any candidate, drawn from the host's source of choices."""

from __future__ import annotations

import numpy as np

from host_daemon.core.config import Choices
from host_daemon.core.frames import FrameTable
from host_daemon.core.tables import FrameKind


class Policy:
    """Uniform over the candidates, in order of frame."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices

    def choose(self, frames: FrameTable, *, may_page_out: bool) -> int:
        """The candidate that the choice source picks."""
        kinds = frames.kinds_view
        last = FrameKind.KEPT if may_page_out else FrameKind.CLEAN
        candidates = np.flatnonzero((kinds > FrameKind.BUSY) & (kinds <= last))
        return int(candidates[self._choices.choose(len(candidates))])

    def snapshot(self) -> list[int]:
        """Nothing: the draws are the choice source's."""
        return []

    def restore(self, data: list[int]) -> None:
        """The inverse of `snapshot`."""
        assert not data
