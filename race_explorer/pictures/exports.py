"""The failing run for other tools: Mermaid, ShiViz, Perfetto, and a line of JSON for every step.

Rules:
- Text that a guest or a scenario brings cannot break out of what each format calls text.
- Mermaid is for documents, so it shows what fits; the others hold every step.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Final

from race_explorer.causality import clocks
from race_explorer.engine import Touch
from race_explorer.pictures.document import recorded
from race_explorer.pictures.folding import keep
from race_explorer.pictures.plot import Plot
from race_explorer.pictures.story import Story, cut
from race_explorer.recording import touched_pfns

STEPS_FORMAT: Final = "essa-steps/1"
SHIVIZ_PARSER: Final = r"(?<event>.*)\n(?<host>\S*) (?<clock>{.*})"
"""What ShiViz has to be told of the log; it is the log's first line too."""
MERMAID_LINES: Final = 60
_STEP_MICROSECONDS: Final = 1000
"""Runs have no time: in a trace every step takes as long."""


def mermaid(story: Story, *, lines: int = MERMAID_LINES) -> str:
    """A sequence diagram: messages from lanes to the pages they touch. lines: of steps, at most."""
    plot = Plot(*cut(story.failing, story.flip))
    out = ["sequenceDiagram"]
    out += [f"    participant L{i} as {_plain(name)}" for i, name in enumerate(plot.lanes)]
    pfns = plot.shown.recording.pfns
    out += [f"    participant P{pfn} as page {pfn}" for pfn in pfns]
    everybody = _over(plot)
    out.append(f"    Note over {everybody}: {_plain(f'{story.title}: {story.headline}')}")
    before = -1
    for i in keep(plot, lines) if plot.steps else ():
        if i - before > 1:
            out.append(f"    Note over {everybody}: {i - before - 1} steps folded")
        out.append(f"    {_message(plot, i)}")
        before = i
    out.append(f"    Note over {everybody}: {_plain(story.violation)}")
    return "\n".join(out) + "\n"


def _over(plot: Plot) -> str:
    names = [f"L{i}" for i in range(len(plot.lanes))]
    names += [f"P{pfn}" for pfn in plot.shown.recording.pfns]
    return ",".join(dict.fromkeys((names[0], names[-1]))) if names else "L0"


def _message(plot: Plot, i: int) -> str:
    """A solid arrow changes a page, a dashed one only touches it; others stay in their lane."""
    source = f"L{plot.lanes.index(plot.lane_of[i])}"
    told, step = plot.tellings[i], plot.steps[i]
    touched = touched_pfns(step.accesses)
    letters = {place: letter for letter, place in zip("AB", plot.pair or (), strict=False)}
    mark = f"[{letters[i]}] " if i in letters else ""
    text = _plain(f"{mark}{step.index} {told.text}")
    if told.changed:
        return f"{source}->>P{told.changed[0]}: {text}"
    return f"{source}-->>P{touched[0]}: {text}" if touched else f"{source}->>{source}: {text}"


def _plain(text: str) -> str:
    """Text that Mermaid takes for text."""
    escapes = {"#": "#35;", ";": "#59;", "<": "#lt;", ">": "#gt;", "%": "#37;"}
    return "".join(escapes.get(letter, letter) for letter in " ".join(text.split()))


@dataclass(frozen=True, slots=True)
class _LaneStep:
    """A step as its lane's: ShiViz shows a host for every one, and each has its own clock."""

    actor: str
    accesses: tuple[Touch, ...]


def shiviz(story: Story) -> str:
    """A log for ShiViz: its parser's regular expression, an empty line, then two lines a step."""
    plot = Plot(*cut(story.failing, story.flip))
    steps = [
        _LaneStep(name, step.accesses) for name, step in zip(plot.lane_of, plot.steps, strict=True)
    ]
    lines = [SHIVIZ_PARSER, ""]
    for i, clock in enumerate(clocks(steps)):
        lines.append(f"{plot.steps[i].index} {' '.join(plot.tellings[i].text.split())}")
        lines.append(f"{steps[i].actor} {json.dumps(clock, sort_keys=True)}")
    return "\n".join(lines) + "\n"


def chrome_trace(story: Story) -> str:
    """Trace-event JSON, which Perfetto and chrome://tracing open: lanes, holds, pages, arrows."""
    plot = Plot(*cut(story.failing, story.flip))
    events = [*_names(plot), *_steps(plot), *_holds(plot), *_pages(plot), *_flows(plot)]
    return json.dumps(
        {
            "displayTimeUnit": "ms",
            "otherData": {"title": story.title, "violation": story.violation},
            "traceEvents": events,
        },
        separators=(",", ":"),
    )


_ACTORS, _PAGES = 1, 2
"""Numbers of the two processes of a trace."""
Json = dict[str, Any]


def _names(plot: Plot) -> Iterator[Json]:
    yield _meta("process_name", _ACTORS, 0, "actors")
    yield _meta("process_name", _PAGES, 0, "pages")
    for tid, name in enumerate(plot.lanes, 1):
        yield _meta("thread_name", _ACTORS, tid, name)
    for pfn in plot.shown.recording.pfns:
        yield _meta("thread_name", _PAGES, pfn + 1, f"page {pfn}")


def _meta(kind: str, process: int, thread: int, name: str) -> Json:
    return {"ph": "M", "pid": process, "tid": thread, "ts": 0, "name": kind, "args": {"name": name}}


def _event(phase: str, process: int, thread: int, i: int, name: str, **more: Any) -> Json:
    ts = i * _STEP_MICROSECONDS
    return {"ph": phase, "pid": process, "tid": thread, "ts": ts, "name": name, **more}


def _steps(plot: Plot) -> Iterator[Json]:
    for i, step in enumerate(plot.steps):
        told = plot.tellings[i]
        yield _event(
            "X",
            _ACTORS,
            plot.lanes.index(plot.lane_of[i]) + 1,
            i,
            told.text,
            dur=_STEP_MICROSECONDS,
            cat=told.look.value,
            args={"step": step.index, "actor": step.actor, "label": step.label, "nth": step.nth},
        )


def _holds(plot: Plot) -> Iterator[Json]:
    """Holds overlap as they like, so they are asynchronous events."""
    for number, span in enumerate(plot.spans):
        thread = plot.lanes.index(span.lane) + 1
        last = len(plot.steps) if span.last is None else span.last + 1
        more = {"cat": span.hold.value, "id": number}
        yield _event("b", _ACTORS, thread, span.first, span.name, **more)
        yield _event("e", _ACTORS, thread, last, span.name, **more)


def _pages(plot: Plot) -> Iterator[Json]:
    """What every page was, for as long as it was that."""
    recording = plot.shown.recording
    for place, pfn in enumerate(recording.pfns):
        seen = [step.pages[place] for step in plot.steps]
        first = 0
        for name, run in groupby(seen, key=lambda page: f"{page.state} C={int(page.changed)}"):
            length = len(list(run))
            args = asdict(seen[first])
            duration = length * _STEP_MICROSECONDS
            yield _event("X", _PAGES, pfn + 1, first, name, dur=duration, cat="page", args=args)
            first += length


def _flows(plot: Plot) -> Iterator[Json]:
    for number, arrow in enumerate(plot.arrows):
        more = {"cat": arrow.tie.value, "id": number}
        source = plot.lanes.index(plot.lane_of[arrow.source]) + 1
        target = plot.lanes.index(plot.lane_of[arrow.target]) + 1
        yield _event("s", _ACTORS, source, arrow.source, arrow.what, **more)
        yield _event("f", _ACTORS, target, arrow.target, arrow.what, bp="e", **more)


def steps_jsonl(story: Story) -> str:
    """The sidecar: a header line, then one object a step, with its clock and its cause."""
    plot = Plot(*cut(story.failing, story.flip))
    recording = plot.shown.recording
    header = {
        "format": STEPS_FORMAT,
        "title": story.title,
        "off": [guard.name for guard in story.off],
        "pfns": list(recording.pfns),
        "before": [asdict(page) for page in recording.before],
        "violations": list(recording.violations),
        "left_out": plot.shown.left_out,
        "digest": recording.digest,
    }
    lines = [header]
    for i, step in enumerate(plot.steps):
        cause = plot.causes[i]
        more = {
            "clock": plot.clocks[i],
            "cause": None if cause is None else plot.steps[cause].index,
        }
        lines.append({**recorded(step), "lane": plot.lane_of[i], **more})
    return "".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in lines)
