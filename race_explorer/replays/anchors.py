"""A schedule said by meaning: where it differs from what a fixed policy would have done.

Rules:
- The policy `stay-current/first` goes on with the activity that ran last while it can go on, and
  takes the first option otherwise. What it takes is no deviation.
- An activity is an actor; but all that the host does with one page is one activity.
- A step is named by its actor, its label, and which of that actor's steps with that label it is.
  Numbers of steps are hints for people; no index of an option is ever written down.
- Deviations are an ordered list. Faults are options like others, and stand in it with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from host_daemon.core.effects import StageKind
from race_explorer.recording import Recording

POLICY: Final = "stay-current/first"

Offer = tuple[str, str]
"""One enabled step: its actor and its label."""

_PAGE: Final = "host.page."
_PAGE_STAGES: Final = frozenset(
    {
        "evict",
        StageKind.REMOVE_ACCESS.name.lower(),
        StageKind.READ_CHANGE_BIT.name.lower(),
        StageKind.COMMIT.name.lower(),
        StageKind.SUBMIT_PAGE_OUT.name.lower(),
        StageKind.SUBMIT_PAGE_IN.name.lower(),
    }
)


_EVICTOR: Final = "host.evictor"
"""Chooses pages as victims, again and again; what it has begun goes on as that page's activity."""


@cache
def activity(actor: str) -> str:
    """Whose step it is in the eyes of the policy, such as "cpu0" or "host.page.7"."""
    side, _, rest = actor.partition(".")
    stage, _, number = rest.partition(".")
    return f"{_PAGE}{number}" if side == "host" and stage in _PAGE_STAGES else actor


def _goes_on(last: str, actor: str) -> bool:
    """Whether this actor goes on with the activity that ran last."""
    if last == _EVICTOR:
        return activity(actor).startswith(_PAGE)
    return activity(actor) == last


def is_program(actor: str) -> bool:
    """Whether it is a program of the guest; what host, network and faults do has dotted names."""
    return "." not in actor


@dataclass(frozen=True, slots=True)
class StepName:
    """A step by meaning. nth: of this actor's steps with this label, from 1."""

    actor: str
    label: str
    nth: int

    def __str__(self) -> str:
        """Such as "cpu0 page.flags (2nd)", for people."""
        return f"{self.actor} {self.label}" + (f" ({ordinal(self.nth)})" if self.nth > 1 else "")


@dataclass(frozen=True, slots=True)
class Deviation:
    """Where the policy would take `at`, `run` is taken. step: its number in the run, from 1."""

    at: StepName
    run: StepName
    step: int


@dataclass(slots=True)
class Progress:
    """How far a run has come. last: the activity. step: the number of the next step, from 1."""

    last: str = ""
    step: int = 1
    taken: Counter[Offer] = field(default_factory=Counter)

    def name(self, offer: Offer) -> StepName:
        """What the step is called if it is next."""
        return StepName(*offer, self.taken[offer] + 1)

    def policy(self, offers: Sequence[Offer]) -> int:
        """The index of what the policy takes."""
        return next((i for i, (actor, _) in enumerate(offers) if _goes_on(self.last, actor)), 0)

    def take(self, offer: Offer) -> None:
        """The step was taken."""
        self.taken[offer] += 1
        self.last = activity(offer[0])
        self.step += 1

    def deviation(self, offers: Sequence[Offer], choice: int) -> Deviation | None:
        """What this choice is, before it is taken; None where the policy takes the same."""
        default = self.policy(offers)
        if offers[choice] == offers[default]:
            return None
        return Deviation(self.name(offers[default]), self.name(offers[choice]), self.step)


def deviations(recording: Recording) -> tuple[Deviation, ...]:
    """The whole schedule of a run, as deviations from the policy."""
    progress, found = Progress(), list[Deviation]()
    for step in recording.steps:
        deviation = progress.deviation(step.enabled, step.choice)
        if deviation is not None:
            found.append(deviation)
        progress.take(step.enabled[step.choice])
    return tuple(found)


def ordinal(number: int) -> str:
    """Such as "1st", "2nd" or "12th"."""
    endings = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number % 100 in (11, 12, 13) else endings.get(number % 10, 'th')}"
