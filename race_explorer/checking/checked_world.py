"""A world whose steps are held to what they declare.

Rules:
- It offers the same options in the same order; a choice list means the same in both.
- What a step touches and has not declared is a violation, unless the step ended in one already:
  to tell what is wrong is to look at everything.
- What a condition looks at that a program waits for is declared too; and whoever can no longer
  do what it could, or would touch something else now, depends on the step that did it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from race_explorer.actors import Actor
from race_explorer.checking.lens import Lens
from race_explorer.checking.places import PLACES
from race_explorer.checking.recorder import Recorder
from race_explorer.engine import Option, dependent
from race_explorer.world import SimWorld


class CheckedWorld:
    """One run under check mode. undeclared: what was found; labels: of the steps taken."""

    def __init__(self, world: SimWorld, recorder: Recorder, lens: Lens) -> None:
        self.world = world
        self.undeclared: list[str] = []
        self.labels: set[str] = set()
        self._recorder = recorder
        self._lens = lens
        self._offered: dict[str, Option] = {}
        self._taken: Option | None = None
        recorder.forget()
        lens.adopt(world)

    # engine.World

    def options(self) -> list[Option]:
        """Those of the world."""
        options = self.world.options()
        self._look_at_the_others({option.name: option for option in options})
        for actor in self.world.standing():
            self._look_at_condition(actor)
        return [
            Option(option.name, option.label, option.accesses, partial(self._run, option))
            for option in options
        ]

    def waiting(self) -> list[Option]:
        """The world's own answer."""
        return self.world.waiting()

    def violations(self) -> list[str]:
        """The world's, then what was not declared."""
        return [*self.world.violations(), *self.undeclared]

    def finished(self) -> list[str]:
        """The world's own answer."""
        return self.world.finished()

    def reached(self) -> set[str]:
        """The world's own answer."""
        return self.world.reached()

    def between_steps(self) -> None:
        """Something has happened outside of any step; what it changed was no step's doing."""
        self._taken = None

    def _run(self, option: Option) -> None:
        """Take a step of the world's, and look what it did."""
        self._taken = option
        self.labels.add(option.label)
        recorder = self._recorder
        recorder.begin(option.accesses, vcpu_of(option.name))
        try:
            option.run()
        finally:
            found = recorder.end()
        if not self.world.violations():
            self._note(f"{option.name} at {option.label}", found)
        world = self.world  # of which some parts may be others now
        self._lens.adopt(world.host, world.host_end, world.guest_end, world.kernel, *recorder.fresh)

    def _look_at_condition(self, actor: Actor) -> None:
        """Ask what an actor waits for, as the world does between steps."""
        step = actor.step
        if step is None:
            return
        self._recorder.begin(step.accesses(), vcpu_of(actor.name), waiting=True)
        step.ready()
        self._note(f"{actor.name} waiting at {step.label}", self._recorder.end())

    def _look_at_the_others(self, offered: dict[str, Option]) -> None:
        """Whoever is no longer offered, or offers something else, depends on the last step."""
        taken, before, self._offered = self._taken, self._offered, offered
        if taken is None:
            return
        for name, option in before.items():
            now = offered.get(name)
            same = now is not None and (now.label, now.accesses) == (option.label, option.accesses)
            if name != taken.name and not same and not dependent(option.accesses, taken.accesses):
                self.undeclared.append(
                    f"undeclared: {taken.name} at {taken.label} changed what {name} could do "
                    f"at {option.label}"
                )

    def _note(self, who: str, found: list[str]) -> None:
        declared = self._recorder.declared()
        self.undeclared += [f"undeclared: {who} {what} (declared: {declared})" for what in found]


def vcpu_of(name: str) -> int | None:
    """The vCPU whose steps have this name, if they are a vCPU's."""
    number = name.removeprefix("cpu")
    return int(number) if name.startswith("cpu") and number.isdigit() else None


def checked(build: Callable[[], SimWorld]) -> Callable[[], CheckedWorld]:
    """The same worlds under check mode: one at a time, since they share a recorder."""
    recorder = Recorder()
    lens = Lens(recorder, PLACES)
    return lambda: CheckedWorld(build(), recorder, lens)
