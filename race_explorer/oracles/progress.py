"""Does everything that has begun come to its end, in a bounded number of fair steps?

Obligations: a program that has not finished (and does not idle), a command that the host has
parked, a discard fault that its vCPU has not settled.

Rules:
- A stretch of a run is fair while nothing has been passed over more than PASSED_OVER_MAX times
  since it was last taken: whoever can go on does. On any other stretch nothing is judged, and
  what was not done on it is not held against anybody.
- That the host evicts, or that something fails, is nobody's due: it counts as taken.
- Who makes schedules lets them end fairly (`fairly`); a random one is fair by itself.
- Where nobody can go on at all, the world says so: a dead-lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from race_explorer.engine import Chooser, Option
from race_explorer.naming import command_label
from race_explorer.oracles.oracle import Oracle, Scene
from shared.commands import FaultPending

PASSED_OVER_MAX: Final = 200
"""At random, with six to choose from, it takes 10**15 steps to pass somebody over so often."""
ANSWER_STEPS_MAX: Final = 1_000
"""Fair steps from a fault, or from when a command was parked, to its end."""
PROGRAM_STEPS_MAX: Final = 4_000
"""Fair steps of a whole race, all programs together."""
_FREE: Final = ("host.evict.", "fault.")
_DUE_AFTER_ALL: Final = ("fault.resume.", "fault.reboot")
"""What must come of a fault that has happened."""


@dataclass(frozen=True, slots=True)
class _Obligation:
    """Something that has to come to an end. name: stays the same until then."""

    name: str
    steps_max: int


class _Progress:
    """since: the fair step from which on each obligation has been open. passed: by name, how
    often an option was offered and not taken since it was last taken. open: of the guest's
    commands and faults, by issuer and by number."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._steps = 0
        self._since: dict[_Obligation, int] = {}
        self._passed: dict[str, int] = {}
        self._commands: dict[int, _Obligation] = {}
        self._faults: dict[int, _Obligation] = {}

    def look(self) -> Iterator[str]:
        """What has been open for too long, with everything else that is open."""
        scene = self._scene
        self._hear()
        if scene.taken is None:
            return
        if not self._fair(scene.taken.name, scene.offered):
            self._since.clear()
        self._steps += 1
        before, now = self._since, self._steps
        self._since = since = {what: before.get(what, now) for what in self._open()}
        if any(now - begun > what.steps_max for what, begun in since.items()):
            longest = now - min(since.values())
            names = ", ".join(what.name for what in since)
            yield f"no progress in {longest} fair steps: {names}"

    def end(self) -> Iterator[str]:
        """Nothing: nobody can go on, and the world has asked why."""
        return iter(())

    def _hear(self) -> None:
        for event in self._scene.events:
            if event.outcome is None:
                name = f"{command_label(event.command)} of issuer {event.issuer} is not answered"
                self._commands[event.issuer] = _Obligation(name, ANSWER_STEPS_MAX)
                continue
            self._commands.pop(event.issuer, None)
            if isinstance(event.outcome, FaultPending):
                number = event.outcome.fault
                name = f"discard fault {number} of vcpu {event.issuer} is not settled"
                self._faults[number] = _Obligation(name, ANSWER_STEPS_MAX)
        for number in self._scene.settled:
            self._faults.pop(number, None)

    def _fair(self, taken: str, offered: Sequence[Option]) -> bool:
        """Whether nobody has been passed over too often; those who were, are counted anew."""
        passed, fair = self._passed, True
        for option in offered:
            name = option.name
            due = name != taken and _is_due(name)
            passed[name] = count = passed.get(name, 0) + 1 if due else 0
            fair = fair and count <= PASSED_OVER_MAX
        return fair

    def _open(self) -> Iterator[_Obligation]:
        for actor in self._scene.world.standing():
            if not actor.daemon and actor.step is not None and actor.step.label != "idle":
                yield _Obligation(f"{actor.name} has not finished", PROGRAM_STEPS_MAX)
        yield from self._commands.values()
        yield from self._faults.values()


def _is_due(name: str) -> bool:
    """Whether a fair schedule takes this option at last."""
    return not name.startswith(_FREE) or name.startswith(_DUE_AFTER_ALL)


PROGRESS = Oracle(
    "progress",
    f"on a fair schedule every command is answered and every discard fault is settled within "
    f"{ANSWER_STEPS_MAX} steps, and every program ends within {PROGRAM_STEPS_MAX}",
    _Progress,
)


def fairly(choose: Chooser, after: int) -> Chooser:
    """So many choices of `choose`, then fair ones: whoever has waited longest goes on.

    Longest: since it was last taken; who was never taken comes first, in the order of the options.
    """
    taken: dict[str, int] = {}
    count = 0

    def chosen(options: Sequence[Option]) -> int:
        nonlocal count
        count += 1
        if count <= after:
            choice = choose(options)
        else:
            choice = min(range(len(options)), key=lambda i: taken.get(options[i].name, 0))
        taken[options[choice].name] = count
        return choice

    return chosen
