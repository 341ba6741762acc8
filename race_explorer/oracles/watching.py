"""Worlds under the eyes of oracles: the same options in the same order, and more violations.

Rules:
- A choice list means the same with and without. Who does not watch pays nothing.
- What the world itself has to say comes first; oracles are asked while it has nothing to say.
- Watchers begin when the world is built: what a scenario has prepared is taken as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from functools import partial

from guest_agent.kernel.kernel import Kernel
from race_explorer.engine import Option, Touch
from race_explorer.oracles.history import Event
from race_explorer.oracles.oracle import Oracle, Scene
from race_explorer.oracles.registry import ALL
from race_explorer.world import SimWorld
from shared.commands import Command, Outcome
from shared.session.guest_end import GuestEnd


class _OverheardEnd(GuestEnd):
    """The guest's end of a session, which tells what the guest submits and is answered."""

    __slots__ = ("scene",)

    scene: Scene

    def submit(self, vcpu: int, command: Command) -> int:
        """As ever."""
        number = GuestEnd.submit(self, vcpu, command)
        self.scene.events.append(Event(vcpu, command))
        return number

    def receive(self, vcpu: int, number: int, outcome: Outcome) -> bool:
        """As ever."""
        command = self._outstanding[vcpu][1] if vcpu in self._outstanding else None
        answers = GuestEnd.receive(self, vcpu, number, outcome)
        if answers and command is not None:
            self.scene.events.append(Event(vcpu, command, outcome))
        return answers

    def fault_settled(self, number: int) -> None:
        """As ever."""
        GuestEnd.fault_settled(self, number)
        self.scene.settled.append(number)


def _overhear(end: GuestEnd, scene: Scene) -> GuestEnd:
    """The same session; what is outstanding counts as submitted now."""
    overheard = _OverheardEnd.__new__(_OverheardEnd)
    for field in fields(GuestEnd):
        setattr(overheard, field.name, getattr(end, field.name))
    overheard.scene = scene
    scene.events += [Event(issuer, command) for issuer, command in end.outstanding().items()]
    return overheard


class _Watch:
    """One world and its watchers. found: what they have said."""

    def __init__(self, world: SimWorld, oracles: Sequence[Oracle]) -> None:
        self._world = world
        self._oracles = oracles
        self._own_options = world.options
        self._own_violations = world.violations
        self._own_finished = world.finished
        self._found: list[str] = []
        self._begin()
        vars(world).update(options=self.options, violations=self.violations, finished=self.finished)

    def _begin(self) -> None:
        """Watch from here on."""
        world = self._world
        self._scene = Scene(world)
        world.guest_end = _overhear(world.guest_end, self._scene)
        self._watched = self._watchable()
        self._watchers = [(o.name, o.begin(self._scene)) for o in self._oracles]

    def _watchable(self) -> tuple[Kernel, int]:
        """The guest, and the host's incarnation: another one of either is watched from anew."""
        return self._world.kernel, self._world.incarnation

    def options(self) -> list[Option]:
        """The world's own, each of which tells when it is taken."""
        options = tuple(self._own_options())
        self._scene.offered = options
        return [
            Option(o.name, o.label, partial(_accesses, o), partial(self._take, o)) for o in options
        ]

    def _take(self, option: Option) -> None:
        self._scene.taken = option
        option.run()

    def violations(self) -> list[str]:
        """The world's own, or what the watchers have seen up to now."""
        own = self._own_violations()
        if own or self._found:
            return [*own, *self._found]
        if self._watched != self._watchable():
            self._begin()
        for name, watcher in self._watchers:
            self._say(name, watcher.look())
        self._scene.events.clear()
        self._scene.settled.clear()
        self._scene.taken = None
        return self._found

    def finished(self) -> list[str]:
        """The world's own; if it has nothing to say, what a watcher says at the end."""
        wrong = self._own_finished()
        for name, watcher in self._watchers:
            if wrong:
                break
            self._say(name, watcher.end())
            wrong = [*self._own_violations(), *self._found]
        return wrong

    def _say(self, name: str, found: Iterable[str]) -> None:
        self._found += [f"{name}: {what}" for what in found]


def _accesses(option: Option) -> tuple[Touch, ...]:
    return option.accesses


def watch(build: Callable[[], SimWorld], oracles: Sequence[Oracle] = ALL) -> Callable[[], SimWorld]:
    """The same worlds under the eyes of these oracles, asked in this order."""

    def built() -> SimWorld:
        world = build()
        _Watch(world, oracles)
        return world

    return built
