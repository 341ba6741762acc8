"""The kill matrix: which scenario finds which guard's absence, and how soon.

Rules:
- Input is {guard: {scenario: schedules, or None if it did not find it}}; a scenario that is not
  there was not tried. A guard that nobody kills is named first, and in words.
- Colour goes with the order of magnitude; the number stands in every cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from statistics import median
from typing import Final

Matrix = Mapping[str, Mapping[str, int | None]]

_CELL: Final = 34
_ROW: Final = 22
_LEFT: Final = 230
_TOP: Final = 190
_RIGHT: Final = 100
_SHADES: Final = 5
"""Up to 9 schedules, up to 99, and so on; the last one for all more."""
_STYLE: Final = """
.matrix { background: #fff; } .matrix text { font: 11px system-ui, sans-serif; fill: #1b1f24; }
.matrix .cell { stroke: #fff; } .matrix .s0 { fill: #0b3c7d; } .matrix .s1 { fill: #2468ad; }
.matrix .s2 { fill: #6aa5dc; } .matrix .s3 { fill: #a9cdef; } .matrix .s4 { fill: #dbe9f8; }
.matrix .missed { fill: #fff; stroke: #8a949e; stroke-dasharray: 2 2; }
.matrix .alive rect { fill: #ffebe9; } .matrix .alive text { fill: #a40e17; font-weight: 700; }
.matrix text.on-dark { fill: #fff; } .matrix text.mid { text-anchor: middle; }
.matrix text.end { text-anchor: end; }
"""


def matrix_table(matrix: Matrix, *, width: int = 100) -> list[str]:
    """One line a guard: by how many of those tried it was killed, how soon, and by whom."""
    name_width = max([len(guard) for guard in matrix] + [5])
    head = f"{'guard':<{name_width}}  killed by  fewest  median  scenarios: schedules"
    lines = [head[:width]]
    for guard in _ordered(matrix):
        kills = _kills(matrix[guard])
        by = f"{len(kills)} of {len(matrix[guard])}"
        if not kills:
            lines.append(f"{guard:<{name_width}}  {by:>9}  {'NOT KILLED':>14}"[:width])
            continue
        counts = sorted(kills.values())
        start = f"{guard:<{name_width}}  {by:>9}  {counts[0]:>6}  {median(counts):>6g}  "
        named = [f"{name}: {n}" for name, n in sorted(kills.items(), key=lambda k: (k[1], k[0]))]
        lines.append(start + _fitting(named, width - len(start)))
    return lines


def _fitting(names: Sequence[str], room: int) -> str:
    """As many names as fit, and how many do not."""
    for shown in range(len(names), -1, -1):
        more = f"+{len(names) - shown}" if shown < len(names) else ""
        text = ", ".join([*names[:shown], *([more] if more else [])])
        if len(text) <= room:
            return text
    return ""


def matrix_svg(matrix: Matrix) -> str:
    """A heat map as one SVG element, for a file of its own or inside a page."""
    guards = _ordered(matrix)
    scenarios = _columns(matrix, guards)
    width, height = _LEFT + _CELL * len(scenarios) + _RIGHT, _TOP + _ROW * len(guards) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="matrix" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="Kill matrix">',
        f"<style>{_STYLE}</style>",
    ]
    for column, name in enumerate(scenarios):
        x, y = _LEFT + _CELL * column + _CELL // 2, _TOP - 8
        parts.append(f'<text transform="translate({x + 4} {y}) rotate(-60)">{escape(name)}</text>')
    for row, guard in enumerate(guards):
        parts.append(_row(guard, matrix[guard], scenarios, _TOP + _ROW * row))
    return "\n".join([*parts, "</svg>"])


def _row(guard: str, found: Mapping[str, int | None], scenarios: Sequence[str], y: int) -> str:
    alive = "" if _kills(found) else ' class="alive"'
    words = "" if _kills(found) else " (not killed)"
    middle = y + _ROW // 2 + 4
    cells = [
        f"<g{alive}>",
        f'<rect x="0" y="{y}" width="{_LEFT - 6}" height="{_ROW - 1}" fill="none"/>',
        f'<text class="end" x="{_LEFT - 10}" y="{middle}">{escape(guard + words)}</text>',
        "</g>",
    ]
    for column, name in enumerate(scenarios):
        if name in found:
            cells.append(_cell(guard, name, found[name], _LEFT + _CELL * column, y))
    return "".join(cells)


def _cell(guard: str, scenario: str, schedules: int | None, x: int, y: int) -> str:
    killed = schedules is not None
    how = f"found after {schedules} schedules" if killed else "not found"
    title = escape(f"{scenario} without {guard}: {how}")
    shade = f"s{_shade(schedules)}" if schedules is not None else "missed"
    tone = " on-dark" if schedules is not None and _shade(schedules) < 2 else ""
    text = _short(schedules) if schedules is not None else "–"
    return (
        f'<g><title>{title}</title><rect class="cell {shade}" x="{x + 1}" y="{y}" '
        f'width="{_CELL - 2}" height="{_ROW - 2}" rx="3"/>'
        f'<text class="mid{tone}" x="{x + _CELL // 2}" y="{y + _ROW // 2 + 3}">{text}</text></g>'
    )


def _shade(schedules: int) -> int:
    return min(len(str(max(schedules, 1))) - 1, _SHADES - 1)


def _short(number: int) -> str:
    """Four characters at most."""
    for unit, name in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if number >= unit:
            return f"{number // unit}{name}"
    return str(number)


def _ordered(matrix: Matrix) -> list[str]:
    """Guards that are alive first, then as given."""
    return sorted(matrix, key=lambda guard: bool(_kills(matrix[guard])))


def _columns(matrix: Matrix, guards: Sequence[str]) -> list[str]:
    """Scenarios in the order of the guards that they kill, so that kills lie on a diagonal."""
    killing = [name for guard in guards for name in _kills(matrix[guard])]
    others = sorted({name for found in matrix.values() for name in found})
    return list(dict.fromkeys([*killing, *others]))


def _kills(found: Mapping[str, int | None]) -> dict[str, int]:
    return {name: count for name, count in found.items() if count is not None}
