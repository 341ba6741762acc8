"""A miss-ratio curve as text and as SVG.

Rules:
- x is the cache in per cent of the footprint, y the share of accesses that miss, both from 0.
- The same points feed both; nothing is smoothed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Final

Curve = Callable[[float], float]
"""Answers the miss ratio at a cache size in per cent of the footprint."""

_COLUMNS: Final = 61
_ROWS: Final = 13
_HALVES: Final = 2
"""Steps of a character's height that can be told apart."""

_MARKS: Final = (10, 25, 50, 75)


def text_plot(curve: Curve) -> list[str]:
    """Return the curve as lines of text, 0 to 100 % wide and 0 to 1 high."""
    steps = _ROWS * _HALVES - 1
    heights = [round(curve(column * 100 / (_COLUMNS - 1)) * steps) for column in range(_COLUMNS)]
    lines = []
    for row in range(_ROWS - 1, -1, -1):
        cells = "".join(
            ("▄", "▀")[height % _HALVES] if height // _HALVES == row else " " for height in heights
        )
        label = {_ROWS - 1: "1.0", _ROWS // 2: "0.5", 0: "0.0"}.get(row, "   ")
        lines.append(f"  {label} ┤{cells}".rstrip())
    ticks = [" "] * (_COLUMNS + 4)
    axis = ["─"] * _COLUMNS
    for percent in (0, 25, 50, 75, 100):
        place = round(percent * (_COLUMNS - 1) / 100)
        axis[place] = "┴"
        ticks[place : place + len(str(percent))] = str(percent)
    lines.append("      └" + "".join(axis))
    lines.append("       " + "".join(ticks).rstrip() + "  % of the footprint")
    return lines


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where the plot lies on the page, in SVG units."""

    left: int = 64
    top: int = 48
    width: int = 560
    height: int = 300

    def x(self, percent: float) -> float:
        """Place a cache size."""
        return self.left + self.width * percent / 100

    def y(self, ratio: float) -> float:
        """Place a miss ratio."""
        return self.top + self.height * (1 - ratio)


_STYLE: Final = (
    "text{font:12px sans-serif;fill:#333}.title{font-size:15px;font-weight:bold}"
    ".grid{stroke:#ddd}.axis{stroke:#333}"
    ".curve{fill:none;stroke:#0b62a8;stroke-width:2}.mark{fill:#0b62a8}"
)


def svg_plot(curve: Curve, title: str, points: int = 400) -> str:
    """Return the curve as an SVG document, with the four named sizes marked."""
    frame = _Frame()
    path = " ".join(
        f"{frame.x(percent):.1f},{frame.y(curve(percent)):.1f}"
        for percent in (index * 100 / points for index in range(points + 1))
    )
    bottom, right = frame.top + frame.height, frame.left + frame.width
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right + 32} {bottom + 56}" '
        f'width="{right + 32}" height="{bottom + 56}">',
        f"<style>{_STYLE}</style>",
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text class="title" x="{frame.left}" y="28">{escape(title)}</text>',
    ]
    for tenth in range(0, 11, 2):
        y = frame.y(tenth / 10)
        parts.append(
            f'<line class="grid" x1="{frame.left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
            f'<text x="{frame.left - 8}" y="{y + 4:.1f}" text-anchor="end">{tenth / 10:.1f}</text>'
        )
    for percent in range(0, 101, 25):
        x = frame.x(percent)
        parts.append(
            f'<line class="axis" x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 5}"/>'
            f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{percent} %</text>'
        )
    parts.append(
        f'<path class="axis" fill="none" d="M{frame.left},{frame.top}V{bottom}H{right}"/>'
        f'<polyline class="curve" points="{path}"/>'
    )
    for percent in _MARKS:
        ratio = curve(percent)
        parts.append(
            f'<circle class="mark" cx="{frame.x(percent):.1f}" cy="{frame.y(ratio):.1f}" r="4"/>'
            f'<text x="{frame.x(percent) + 7:.1f}" y="{frame.y(ratio) - 7:.1f}">{ratio:.4f}</text>'
        )
    parts.append(
        f'<text x="{(frame.left + right) / 2}" y="{bottom + 42}" text-anchor="middle">'
        "LRU cache, % of the footprint</text>"
        f'<text transform="translate(18 {(frame.top + bottom) / 2}) rotate(-90)" '
        'text-anchor="middle">miss ratio</text></svg>'
    )
    return "\n".join(parts) + "\n"
