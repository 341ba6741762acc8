"""A failing schedule in a terminal: time goes down, one column an actor, the pages at the right.

Rules:
- The picture has at most `height` lines: what the failure does not depend on is folded first,
  then locks and plain reads, then what is far from the conflict. The two accesses in conflict
  and the failing step always stand there.
- Printed steps and folded ones together are all steps of the run.
- Plain text of at most `width` columns, ASCII but for what the guest or a scenario says itself.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from race_explorer.pictures.folding import gaps, keep
from race_explorer.pictures.parting import parting
from race_explorer.pictures.plot import Plot
from race_explorer.pictures.story import STEPS_MAX, Story, cut
from race_explorer.pictures.strips import (
    LEGEND,
    PAGES_MAX,
    STRIP_WIDTH,
    most_touched,
    strip,
    strip_head,
)
from race_explorer.pictures.switching import reason
from race_explorer.recording import PageSeen

WIDTH: Final = 100
HEIGHT: Final = 40
COLUMNS_MAX: Final = 6
_GUTTER: Final = 11
"""Marks of five columns, a number of five, a blank."""
_LANES_MIN: Final = 48
_COLUMN_MIN: Final = 9
_BODY_HEAD: Final = 3
"""Lines above the first step."""


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where lanes begin. names: of the columns; lanes that have none are in the last one."""

    names: tuple[str, ...]
    starts: tuple[int, ...]
    width: int

    def of(self, lane: str) -> int:
        """The column of a lane."""
        return self.names.index(lane) if lane in self.names else len(self.names) - 1


def lanes(
    story: Story, *, width: int = WIDTH, height: int = HEIGHT, steps_max: int = STEPS_MAX
) -> list[str]:
    """The picture of the failing run, one string a line. steps_max: of its end, to look at."""
    plot = Plot(*cut(story.failing, story.flip, steps_max))
    head, foot = _head(story, width), _foot(story, plot, width)
    if left_out := plot.shown.left_out:
        head.append(f"~~ not shown: the first {_steps(left_out)}")
    body = list[str]()
    if plot.steps:
        body += _body(plot, keep(plot, height - len(head) - len(foot) - _BODY_HEAD), width)
    return [_printable(line) for line in (*head, *body, *foot)]


def _printable(line: str) -> str:
    """Without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _body(plot: Plot, kept: Sequence[int], width: int) -> Iterator[str]:
    recording = plot.shown.recording
    count = max(1, min(PAGES_MAX, (width - _GUTTER - _LANES_MIN) // STRIP_WIDTH))
    places = most_touched(plot, count)
    room = width - _GUTTER - STRIP_WIDTH * len(places)
    columns = _columns(plot, kept, room)

    def pages(index: int) -> list[PageSeen]:
        seen = recording.before if index < 0 else plot.steps[index].pages
        return [seen[place] for place in places]

    names, legend = strip_head(pages(-1))
    yield _line("", "", "".ljust(columns.width), names)
    yield _line("", "#", _titles(columns), legend)
    yield _line("", "", _placed(columns, 0, "before the race"), strip(pages(-1), None))
    folded, before = {j: i for i, j in gaps(plot, kept)}, -1
    for index in kept:
        if index in folded:
            text = f"~~ {_between(plot, folded[index], index, room - 3)} "
            text = text.ljust(columns.width - 1, "~") if len(text) < columns.width else text
            yield _line("", "", text.ljust(columns.width), strip(pages(index - 1), pages(before)))
            before = index - 1
        marks = _marks(plot, index)
        number = str(plot.steps[index].index)
        state = strip(pages(index), None if marks else pages(before))
        text = _placed(columns, columns.of(plot.lane_of[index]), _text(plot, columns, index))
        yield _line(marks, number, text, state)
        before = index


def _line(marks: str, number: str, text: str, strips: str) -> str:
    return f"{marks:<5}{number:>5} {text}{strips}".rstrip()


def _marks(plot: Plot, index: int) -> str:
    letters = {i: letter for letter, i in zip("AB", plot.pair or (), strict=False)}
    failing = plot.shown.in_race and index == len(plot.steps) - 1
    return (f"[{letters[index]}]" if index in letters else "") + ("XX" if failing else "")


def _columns(plot: Plot, kept: Sequence[int], room: int) -> _Columns:
    """Columns as far apart as their texts need, which may run on into those at the right."""
    fitting = max(1, min(COLUMNS_MAX, room // _COLUMN_MIN))
    names = plot.lanes
    if len(names) > fitting:
        uses = Counter(plot.lane_of[i] for i in kept)
        most = sorted(names, key=lambda name: -uses[name])[: fitting - 1]
        names = tuple(name for name in names if name in most)
        names = (*names, f"+{len(plot.lanes) - len(names)}")
    columns = _Columns(names, tuple(range(len(names))), room)
    longest = Counter[int]()
    for i in kept:
        column = columns.of(plot.lane_of[i])
        longest[column] = max(longest[column], len(_text(plot, columns, i)) + 1)
    even = room // len(names)
    starts = [0] * len(names)
    end = room
    for column in reversed(range(1, len(names))):
        latest = min(column * even, room - longest[column], end - _COLUMN_MIN)
        starts[column] = max(latest, column * _COLUMN_MIN)
        end = starts[column]
    return _Columns(names, tuple(starts), room)


def _text(plot: Plot, columns: _Columns, index: int) -> str:
    name = plot.lane_of[index]
    told = plot.tellings[index].text
    return told if name in columns.names else f"{name}: {told}"


def _titles(columns: _Columns) -> str:
    line = ""
    for name, start in zip(columns.names, columns.starts, strict=True):
        line = line.ljust(start) + name
    return line.ljust(columns.width)


def _placed(columns: _Columns, column: int, text: str) -> str:
    """The text in its column, and a dot in each other one that it leaves free."""
    start = columns.starts[column]
    text = _cut(text, columns.width - start - 1)
    cells = [" "] * columns.width
    for dot in columns.starts:
        cells[dot] = "."
    cells[start : start + len(text) + 1] = f"{text} "
    return "".join(cells)


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 3]}..."


def _between(plot: Plot, first: int, second: int, room: int) -> str:
    """What is folded between two printed steps, and why the second one's lane goes on."""
    segments = [
        (name, list(steps))
        for name, steps in groupby(range(first + 1, second), key=lambda i: plot.lane_of[i])
    ]
    switch = ""
    if second > 0 and plot.lane_of[second] != plot.lane_of[second - 1]:
        switch = f"switch to {plot.lane_of[second]}: {reason(plot, second)}"
    for text in _folded(plot, segments):
        whole = "; ".join(part for part in (text, switch) if part)
        if len(whole) <= room:
            return whole
    return _cut(whole, room)


def _folded(plot: Plot, segments: Sequence[tuple[str, list[int]]]) -> Iterator[str]:
    """The same in fewer and fewer words; the number of steps stays."""
    if not segments:
        yield ""
        return
    total = sum(len(steps) for _, steps in segments)
    if len(segments) == 1:
        name, steps = segments[0]
        labels = Counter(plot.steps[i].label for i in steps)
        named = [label + (f" x{n}" if n > 1 else "") for label, n in labels.items()]
        for shown in range(len(named), 0, -1):
            more = ", ..." if shown < len(named) else ""
            yield f"{name} goes on: {_steps(total)} ({', '.join(named[:shown])}{more})"
        yield f"{name} goes on: {_steps(total)}"
    names = list(dict.fromkeys(name for name, _ in segments))
    yield f"{', '.join(names)} go on: {_steps(total)}"
    yield _steps(total)


def _steps(count: int) -> str:
    return f"{count} step{'s' if count != 1 else ''}"


def _head(story: Story, width: int) -> list[str]:
    recording = story.failing.recording
    found = "" if story.raw is None else f" (found with {len(story.raw.recording.steps)})"
    title = f"{story.title}  {' '.join(story.races)}  {_steps(len(recording.steps))}{found}"
    off = ", ".join(guard.name for guard in story.off)
    if story.preset != "fixed":
        off = f"preset {story.preset}" + (f", without {off}" if off else "")
    guards = f"  guards off: {off or 'none'}"
    first = [title.ljust(width - len(guards)) + guards]
    if len(first[0]) > width:
        first = [_cut(title, width), _cut(guards.strip(), width)]
    return [*first, *_wrapped(story.headline, width, 2)]


def _wrapped(text: str, width: int, lines_max: int, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, width, subsequent_indent=indent, max_lines=lines_max, placeholder=" ..."
    )


def _whole(text: str, width: int) -> list[str]:
    """What is of use only as a whole: in two lines at most, or not at all."""
    lines = textwrap.wrap(text, width, break_on_hyphens=False)
    return lines if len(lines) <= 2 else []


def _foot(story: Story, plot: Plot, width: int) -> list[str]:
    step = f"step {len(plot.steps) + plot.shown.left_out}"
    where = step if plot.shown.in_race else "at the end, when all is checked"
    lines = _wrapped(f"XX {where}: {story.violation}", width, 2, "   ")
    if plot.pair is not None:
        a, b = (_named(plot, i) for i in plot.pair)
        lines += _wrapped(f"conflict: [A] {a}, [B] {b}", width, 2, "   ")
    if told := parting(story):
        lines += _wrapped(f"{'flip' if story.flip else 'nearest'}: {told}", width, 2, "   ")
    for guard in story.off[:2]:
        rows = " ".join((*guard.races, guard.source))
        lines += _wrapped(f"off: {guard.name}: {guard.does} ({rows})", width, 2, "   ")
    others = len(story.off[2:]) + story.lacking
    if others:
        lines += [f"off: {others} more"]
    for what, text in (("replay", story.replay_command), ("token", story.token)):
        lines += _whole(f"{what}: {text}", width) if text else []
    return [*lines, *(_cut(line, width) for line in LEGEND)]


def _named(plot: Plot, index: int) -> str:
    step = plot.steps[index]
    return f"{plot.lane_of[index]} {step.label} ({step.index})"
