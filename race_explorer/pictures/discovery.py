"""The discovery curve: how many classes of schedules a search has seen after how many schedules.

Rules:
- Input is {strategy: points of (schedules, distinct classes)}, both rising. Lines differ by dashes
  and by their name at their end, not by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Final

Curves = Mapping[str, Sequence[tuple[int, int]]]

_WIDTH: Final = 720
_HEIGHT: Final = 360
_LEFT: Final = 64
_RIGHT: Final = 150
_TOP: Final = 16
_BOTTOM: Final = 44
_LABEL: Final = 14
_DASHES: Final = ("none", "7 3", "2 3", "9 3 2 3", "4 4", "1 5")
_COLOURS: Final = ("#2468ad", "#bd4b17", "#116a53", "#6b4fa0", "#7a5c00", "#57606a")
_STYLE: Final = """
.discovery { background: #fff; }
.discovery text { font: 12px system-ui, sans-serif; fill: #1b1f24; }
.discovery .axis { stroke: #57606a; } .discovery .grid { stroke: #e3e7eb; }
.discovery .end { text-anchor: end; } .discovery .mid { text-anchor: middle; }
"""


def discovery_svg(curves: Curves) -> str:
    """The curves as one SVG element, for a file of its own or inside a page."""
    most = max([x for points in curves.values() for x, _ in points] + [1])
    highest = max([y for points in curves.values() for _, y in points] + [1])
    plane = _Plane(_nice(most), _nice(highest))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="discovery" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        'aria-label="Distinct classes against schedules">',
        f"<style>{_STYLE}</style>",
        *plane.axes(),
    ]
    heights = _spread([plane.y(points[-1][1]) if points else 0.0 for points in curves.values()])
    for place, (name, points) in enumerate(curves.items()):
        if points:
            parts.append(_curve(plane, name, points, place, heights[place]))
    return "\n".join([*parts, "</svg>"])


class _Plane:
    """Where a point goes. Both axes begin at 0."""

    def __init__(self, most: int, highest: int) -> None:
        self._most, self._highest = most, highest

    def x(self, schedules: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * schedules / self._most

    def y(self, classes: int) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * classes / self._highest

    def axes(self) -> list[str]:
        left, right, bottom = _LEFT, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        parts = []
        for tick in range(5):
            classes, schedules = self._highest * tick // 4, self._most * tick // 4
            y, x = self.y(classes), self.x(schedules)
            parts += [
                f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>',
                f'<text class="end" x="{left - 6}" y="{y + 4:.1f}">{classes}</text>',
                f'<text class="mid" x="{x:.1f}" y="{bottom + 18}">{schedules}</text>',
            ]
        return [
            *parts,
            f'<path class="axis" fill="none" d="M{left} {_TOP}V{bottom}H{right}"/>',
            f'<text class="mid" x="{(left + right) / 2:.1f}" y="{_HEIGHT - 6}">schedules</text>',
            f'<text class="mid" transform="translate(14 {(_TOP + bottom) / 2:.1f}) rotate(-90)">'
            "distinct classes</text>",
        ]


def _curve(
    plane: _Plane, name: str, points: Sequence[tuple[int, int]], place: int, height: float
) -> str:
    colour, dashes = _COLOURS[place % len(_COLOURS)], _DASHES[place % len(_DASHES)]
    path = " ".join(f"{plane.x(x):.1f},{plane.y(y):.1f}" for x, y in points)
    schedules, classes = points[-1]
    end = plane.x(schedules)
    title = escape(f"{name}: {classes} classes in {schedules} schedules")
    return (
        f'<g><title>{title}</title><polyline fill="none" stroke="{colour}" stroke-width="2" '
        f'stroke-dasharray="{dashes}" points="{path}"/>'
        f'<text x="{end + 8:.1f}" y="{height + 4:.1f}" style="fill:{colour}">'
        f"{escape(name)} {classes}</text></g>"
    )


def _spread(heights: Sequence[float]) -> list[float]:
    """The heights, moved apart as far as labels need."""
    found = list(heights)
    order = sorted(range(len(found)), key=lambda i: (found[i], i))
    for above, below in pairwise(order):
        found[below] = max(found[below], found[above] + _LABEL)
    return found


def _nice(number: int) -> int:
    """The next number of the form 4, 8, 20, 40, 80, ... that is no less."""
    scale = 1
    while True:
        for step in (4, 8, 20):
            if step * scale >= number:
                return step * scale
        scale *= 10
