"""Why another lane goes on: who could not, and who only was not let.

Rules:
- What was enabled is in the recording; a lane is blocked if it comes back to what it stood at,
  finished if it never does.
"""

from __future__ import annotations

from typing import Final

from race_explorer.pictures.cast import lane
from race_explorer.pictures.plot import Plot

IDLE: Final = "idle"
"""The label of a vCPU that has nothing to do but interrupts."""
_WITHOUT_PROGRAM: Final = ("host", "stream", "paging", "network")


def reason(plot: Plot, index: int) -> str:
    """Why step `index` is of another lane than the step before it; for people."""
    left = plot.lane_of[index - 1]
    if plot.shown.moments[index].taken:
        return "an interrupt"
    if _offers(plot, index, left):
        return "the scheduler's choice"
    if left in _WITHOUT_PROGRAM:
        return f"{left} is done" if _next_offer(plot, index, left) is None else f"{left} waits"
    label = _next_offer(plot, index, left)
    if label is None:
        label = _stands_at(plot, left)
        return f"{left} has finished" if label is None else f"{left} is blocked at {label}"
    return f"{left} idles" if label == IDLE else f"{left} is blocked at {label}"


def _offers(plot: Plot, index: int, name: str) -> list[str]:
    """The labels of what a lane could do at a step."""
    return [label for actor, label in plot.steps[index].enabled if lane(actor) == name]


def _next_offer(plot: Plot, index: int, name: str) -> str | None:
    """What a lane can do next, from a step on."""
    later = (_offers(plot, i, name) for i in range(index, len(plot.steps)))
    return next((labels[0] for labels in later if labels), None)


def _stands_at(plot: Plot, name: str) -> str | None:
    """Where a lane still stands when the run is over, if that is what went wrong with it."""
    for violation in plot.shown.recording.violations:
        what, _, places = violation.partition("deadlock: ")
        for place in places.split(", ") if not what else ():
            actor, _, label = place.partition(" at ")
            if actor == name:
                return label
    return None
