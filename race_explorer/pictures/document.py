"""The story as JSON: what the HTML page draws, and what other tools may read out of it.

Rules:
- A recorded step is there in full and unchanged; what was computed of it stands beside it.
- Of a very long run the last steps are shown, and it says how many are not.
- Order of keys and of lists is fixed: the same story gives the same text.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from race_explorer.pictures.parting import common_steps, parting
from race_explorer.pictures.plot import Pair, Plot
from race_explorer.pictures.resources import resource_name
from race_explorer.pictures.story import STEPS_MAX, Shown, Story, cut
from race_explorer.pictures.switching import reason
from race_explorer.recording import RecordedStep

FORMAT: Final = "essa-picture/1"
Json = dict[str, Any]


def document(story: Story, steps_max: int = STEPS_MAX) -> Json:
    """Everything on the page that is no layout. steps_max: of each run's end, to show."""

    def plotted(shown: Shown, flip: Pair | None = None) -> Plot:
        return Plot(*cut(shown, flip, steps_max))

    failing = plotted(story.failing, story.flip)
    runs = [_run("failing", "shrunk" if story.raw else "failing run", failing)]
    if story.raw is not None:
        raw = plotted(story.raw)
        run = _run("raw", "as found", raw)
        run["pair"] = _same_steps(failing, raw)
        runs.append(run)
    if story.passing is not None:
        passing = plotted(story.passing)
        run = _run("passing", "flipped" if story.flip else "passing run", passing)
        run["pair"] = _same_steps(failing, passing)
        run["common"] = common_steps(failing.steps, passing.steps)
        runs.append(run)
    return {
        "format": FORMAT,
        "title": story.title,
        "races": list(story.races),
        "about": story.about,
        "headline": story.headline,
        "violation": story.violation,
        "preset": story.preset,
        "off": [asdict(guard) for guard in story.off],
        "lacking": story.lacking,
        "otherwise": _otherwise(failing, story),
        "replay": story.replay_command,
        "token": story.token,
        "runs": runs,
    }


def _otherwise(failing: Plot, story: Story) -> str:
    """What would have had to come first; with the letters where they say the same."""
    if story.passing is not None and failing.flip is not None and failing.flip == failing.pair:
        return "With B before A it holds: that is the run “flipped”."
    told = parting(story)
    return f"{told[:1].upper()}{told[1:]}." if told else ""


def _same_steps(of: Plot, within: Plot) -> tuple[int | None, int | None] | None:
    """The two steps in conflict in another run, by what they are called; None where missing."""
    if of.pair is None:
        return None
    places = {(s.actor, s.label, s.nth): i for i, s in enumerate(within.steps)}
    first, second = (of.steps[i] for i in of.pair)
    return (
        places.get((first.actor, first.label, first.nth)),
        places.get((second.actor, second.label, second.nth)),
    )


def _run(name: str, title: str, plot: Plot) -> Json:
    recording = plot.shown.recording
    return {
        "name": name,
        "title": title,
        "fails": bool(recording.violations),
        "violations": list(recording.violations),
        "in_race": plot.shown.in_race,
        "left_out": plot.shown.left_out,
        "pfns": list(recording.pfns),
        "before": [asdict(page) for page in recording.before],
        "lanes": list(plot.lanes),
        "steps": [_step(plot, i, step) for i, step in enumerate(plot.steps)],
        "spans": [asdict(span) for span in plot.spans],
        "arrows": [asdict(arrow) for arrow in plot.arrows],
        "pair": plot.pair,
        "conflicts": _conflicts(plot),
        "common": 0,
    }


def _step(plot: Plot, i: int, step: RecordedStep) -> Json:
    told, moment = plot.tellings[i], plot.shown.moments[i]
    switched = i > 0 and plot.lane_of[i] != plot.lane_of[i - 1]
    return {
        **recorded(step),
        "touches": [
            f"{'writes' if a.write else 'reads'} {resource_name(a.resource, plot.shown.names)}"
            for a in step.accesses
        ],
        "lane": plot.lane_of[i],
        "text": told.text,
        "look": told.look.value,
        "changed": list(told.changed),
        "rank": plot.ranks[i],
        "cone": i in plot.cone,
        "cause": plot.causes[i],
        "clock": dict(sorted(plot.clocks[i].items())),
        "reason": reason(plot, i) if switched else "",
        **asdict(moment),
    }


def recorded(step: RecordedStep) -> Json:
    """A step as it was recorded, all of it."""
    return {
        "index": step.index,
        "actor": step.actor,
        "label": step.label,
        "nth": step.nth,
        "choice": step.choice,
        "enabled": [list(offer) for offer in step.enabled],
        "accesses": [
            {
                "kind": access.resource[0],
                "number": access.resource[1],
                "write": access.write,
            }
            for access in step.accesses
        ],
        "said": step.said,
        "pages": [asdict(page) for page in step.pages],
        "digest": step.digest,
    }


def _conflicts(plot: Plot) -> list[int]:
    """Steps to go to, one after another: the ends of races that matter, and the last step."""
    ends = {i for pair in plot.races for i in pair if plot.ranks[i] < 4}
    marked = {i for i, rank in enumerate(plot.ranks) if rank == 0}
    return sorted(ends | marked)
