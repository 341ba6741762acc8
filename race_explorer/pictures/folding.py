"""Which steps of a run are shown where there is room for few: the ones that matter most.

Rules:
- The two accesses in conflict and the last step are shown always; a step that the failure does
  not depend on, and that conflicts with nothing it depends on, never.
- Between two steps that are shown there is one line if anything is folded there, or if the second
  one is another lane's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from race_explorer.pictures.plot import Plot

_NEVER: Final = 5
"""The rank of steps that are folded even where there is room."""


def keep(plot: Plot, room: int) -> list[int]:
    """The steps for so many lines, those between them counted; in order."""
    marked = [i for i, rank in enumerate(plot.ranks) if rank == 0]

    def worth(i: int) -> tuple[int, int, int]:
        return plot.ranks[i], min(abs(i - j) for j in marked), i

    ranked = sorted((i for i, rank in enumerate(plot.ranks) if rank < _NEVER), key=worth)
    for count in range(min(room, len(ranked)), len(marked), -1):
        kept = sorted(ranked[:count])
        if _lines(plot, kept) <= room:
            return _filled(plot, kept, room)
    return marked


def gaps(plot: Plot, kept: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Pairs of shown steps with a line between them; -1 stands for the beginning."""
    for i, j in pairwise((-1, *kept)):
        if j - i > 1 or (i >= 0 and plot.lane_of[i] != plot.lane_of[j]):
            yield i, j


def _lines(plot: Plot, kept: Sequence[int]) -> int:
    return len(kept) + sum(1 for _ in gaps(plot, kept))


def _filled(plot: Plot, kept: list[int], room: int) -> list[int]:
    """The same, and single steps whose line would only say that they are folded."""
    for i, j in list(gaps(plot, kept)):
        if j - i == 2 and plot.ranks[i + 1] < _NEVER:
            more = sorted([*kept, i + 1])
            if _lines(plot, more) <= room:
                kept = more
    return kept
