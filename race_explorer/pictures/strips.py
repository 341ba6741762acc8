"""The strip of a page beside terminal lanes: what guest and host make of it, line by line.

Rules:
- A value is written where it changes, and in full on lines that are marked; where it stays there
  is a dot, so that a change is seen without colour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from race_explorer.pictures.plot import Plot
from race_explorer.recording import PageSeen, touched_pfns

STRIP_WIDTH: Final = 20
PAGES_MAX: Final = 3
_HEAD: Final = "| g h C  cnt/map inc"
LEGEND: Final = (
    "g: S stable, U unused, V volatile, P potential volatile (kept while C is 1)",
    "h: r resident, p paged out, z gone; C: change bit, ! host may discard; inc: use",
)


def most_touched(plot: Plot, count: int) -> tuple[int, ...]:
    """Positions in `Recording.pfns` of the pages to show: those of the marked steps first."""
    recording = plot.shown.recording
    touched: Counter[int] = Counter()
    for i, step in enumerate(plot.steps):
        weight = 1000 if plot.ranks[i] == 0 else 1
        for pfn in (*touched_pfns(step.accesses), *plot.tellings[i].changed):
            touched[pfn] += weight
    places = sorted(range(len(recording.pfns)), key=lambda i: (-touched[recording.pfns[i]], i))
    return tuple(sorted(places[:count]))


def strip_head(pages: Sequence[PageSeen]) -> tuple[str, str]:
    """Two lines above the strips."""
    names = "".join(f"| page {page.pfn}".ljust(STRIP_WIDTH) for page in pages)
    return names, _HEAD * len(pages)


def strip(pages: Sequence[PageSeen], before: Sequence[PageSeen] | None) -> str:
    """The strips of a line. before: at the last line, None to write all values."""
    old = pages if before is None else before
    return "".join(
        _strip(new, was, in_full=before is None) for new, was in zip(pages, old, strict=True)
    )


def _strip(new: PageSeen, old: PageSeen, *, in_full: bool) -> str:
    cells = zip(_cells(new), _cells(old), strict=True)
    shown = [now if in_full or now != was else ".".center(len(now)) for now, was in cells]
    return f"| {' '.join(shown)}"


def at_risk(page: PageSeen) -> bool:
    """Whether the host may throw the page's content away as things stand."""
    return page.state == "Vr" or (page.state == "Pr" and not page.changed)


def _cells(page: PageSeen) -> tuple[str, ...]:
    counts = f"{page.count}/{page.mapcount}"
    bit = f"{int(page.changed)}{'!' if at_risk(page) else ' '}"
    return page.state[0], page.state[1], bit, counts.center(7), str(page.incarnation).center(3)
