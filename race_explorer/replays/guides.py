"""Following a schedule that may not fit any more: choosers for the engine, and what came of it.

Rules:
- A guide says what is taken next where it has something to say; the policy of `anchors` takes
  the rest. A guide never fails: what cannot be met is left out, and can be asked for afterwards.
- What a run was in the end is noted as it goes, as deviations of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from race_explorer.engine import STEPS_MAX, Option, Path, Run
from race_explorer.replays.anchors import Deviation, Offer, Progress
from race_explorer.world import SimWorld


class Guide(Protocol):
    """Says which of the offers is next, or None for what the policy takes."""

    def __call__(self, offers: Sequence[Offer], progress: Progress) -> int | None: ...


def steps_allowed(steps: int) -> int:
    """How long a variation of a run of so many steps may get before it is given up."""
    return 2 * steps + 200


class Guided:
    """A chooser that follows a guide.

    deviations: of the run that it makes. offered: how many options there were at each step.
    """

    def __init__(self, guide: Guide) -> None:
        self._guide = guide
        self._progress = Progress()
        self.deviations: list[Deviation] = []
        self.offered: list[int] = []

    def __call__(self, options: Sequence[Option]) -> int:
        """The next choice."""
        progress = self._progress
        offers = [(option.name, option.label) for option in options]
        self.offered.append(len(offers))
        choice = self._guide(offers, progress)
        if choice is None:
            choice = progress.policy(offers)
        deviation = progress.deviation(offers, choice)
        if deviation is not None:
            self.deviations.append(deviation)
        progress.take(offers[choice])
        return choice


class Anchored:
    """Meets deviations in their order, each where its anchor is; skips what cannot be met.

    Who deviates at a step leaves it for later, and who does not takes it: so while a run is as it
    was recorded, no anchor fits before its turn. The first one left that fits is the one that is
    due, and what stands before it in the list was missed. met: indices of those that were met.
    """

    def __init__(self, schedule: Sequence[Deviation]) -> None:
        self._schedule = schedule
        self._next = 0
        self.met: list[int] = []

    def __call__(self, offers: Sequence[Offer], progress: Progress) -> int | None:
        """The offer that a deviation names, if its anchor is the step that the policy takes."""
        if self._next == len(self._schedule):
            return None
        at = progress.name(offers[progress.policy(offers)])
        for i in range(self._next, len(self._schedule)):
            deviation = self._schedule[i]
            if deviation.at != at:
                continue
            wanted = (deviation.run.actor, deviation.run.label)
            if wanted in offers and progress.name(wanted) == deviation.run:
                self._next = i + 1
                self.met.append(i)
                return offers.index(wanted)
        return None


class ActorOrder:
    """Runs actors in a given order, one step each; leaves out those that cannot run."""

    def __init__(self, actors: Iterable[str]) -> None:
        self._left = iter(actors)

    def __call__(self, offers: Sequence[Offer], progress: Progress) -> int | None:
        """The offer of the next actor that has one."""
        places = {actor: i for i, (actor, _) in reversed(list(enumerate(offers)))}
        return next((places[actor] for actor in self._left if actor in places), None)


class Indexed:
    """Takes given choices at given steps. choices: step, from 1 -> index of an option."""

    def __init__(self, choices: Mapping[int, int]) -> None:
        self._choices = choices

    def __call__(self, offers: Sequence[Offer], progress: Progress) -> int | None:
        """The choice for this step, as far as there are so many options."""
        choice = self._choices.get(progress.step)
        return choice if choice is None or choice < len(offers) else None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run, and its deviations. offered: how many options there were at each step.

    in_race: whether it went wrong in a step, and not when all was over.
    """

    run: Run
    deviations: tuple[Deviation, ...]
    offered: tuple[int, ...]
    in_race: bool


def attempt(
    build: Callable[[], SimWorld], guide: Guide, *, steps_max: int = STEPS_MAX
) -> Attempt | None:
    """Run one schedule by a guide; None if it is not over after `steps_max` steps."""
    chooser, path = Guided(guide), Path(build(), touching=False)
    while not path.violations and (options := path.world.options()):
        if len(path.steps) == steps_max:
            return None
        path.step(options, chooser(options))
    in_race = bool(path.violations)
    return Attempt(path.record(), tuple(chooser.deviations), tuple(chooser.offered), in_race)
