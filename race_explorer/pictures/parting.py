"""What another order of steps would have changed: the flip, or where a run that holds parts.

Rules:
- Two runs are the same as long as the same actors take the same steps.
- What is said has been run: a flip comes with its passing run, or is not called one.
"""

from __future__ import annotations

from collections.abc import Sequence

from race_explorer.pictures.story import Story
from race_explorer.recording import RecordedStep


def common_steps(one: Sequence[RecordedStep], other: Sequence[RecordedStep]) -> int:
    """How many steps two runs begin with."""
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if (a.index, a.actor, a.label) != (b.index, b.actor, b.label):
            return i
    return min(len(one), len(other))


def parting(story: Story) -> str:
    """One sentence; empty if no run is known that holds."""
    if story.passing is None:
        return ""
    steps, others = story.failing.recording.steps, story.passing.recording.steps
    if story.flip is not None:
        first, second = (_named(steps[i]) for i in story.flip)
        return f"with {second} before {first} it holds"
    place = common_steps(steps, others)
    if place in (len(steps), len(others)):
        return ""
    return (
        f"the nearest run that holds is the same until step {steps[place].index}, where "
        f"{_named(others[place], numbered=False)} comes instead of {_named(steps[place])}"
    )


def _named(step: RecordedStep, *, numbered: bool = True) -> str:
    return f"{step.actor} {step.label}" + (f" ({step.index})" if numbered else "")
