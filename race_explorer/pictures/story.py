"""What a picture is of: the runs of one race, and what is known about it.

Rules:
- A story is plain values. What a recording does not hold, such as where interrupts began, is
  observed by running it again, once, when it becomes part of a story.
- Steps are numbered from 1 where people see them, and have places from 0 inside.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.guards import PRESETS
from race_explorer.case import FIXED_PRESET, Case
from race_explorer.catalogue import guards, lacks
from race_explorer.engine import DivergedError, Option, Path
from race_explorer.pictures.resources import Resource, names_of
from race_explorer.recording import Recording
from race_explorer.world import SimWorld
from shared.protection import Protection

STEPS_MAX: Final = 5_000
"""More no browser draws in good time, and nobody looks at."""
_VCPU: Final = re.compile(r"cpu(\d+)")


@dataclass(frozen=True, slots=True)
class Moment:
    """A step among interrupts.

    nested: it is an interrupt's. disabled: its vCPU had interrupts disabled when it stood before
    it. taken: it had no effect, because the interrupt came first; it is asked for again.
    """

    nested: bool = False
    disabled: bool = False
    taken: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """One run.

    in_race: whether it went wrong in its last step, or only when all was checked. names: of what
    steps touch, for people. left_out: how many steps came before those that are shown.
    """

    recording: Recording
    moments: tuple[Moment, ...]
    in_race: bool
    names: Mapping[Resource, str]
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Story:
    """One race.

    about: the scenario's docstring. off: the guards to name. lacking: how many others are off.
    failing: the run to show first. raw: as it was found. passing: the nearest run that holds.
    flip: places of two steps of `failing`, from 0; with the second one first it holds.
    """

    title: str
    races: tuple[str, ...]
    about: str
    preset: str
    off: tuple[Protection, ...]
    lacking: int
    failing: Shown
    raw: Shown | None = None
    passing: Shown | None = None
    flip: tuple[int, int] | None = None
    replay_command: str = ""
    token: str = ""

    @property
    def headline(self) -> str:
        """What happens, in the first sentence of the docstring."""
        return self.about.partition("\n")[0].strip()

    @property
    def violation(self) -> str:
        """What went wrong, in one line."""
        found = self.failing.recording.violations
        return found[0].partition("\n")[0] if found else "nothing went wrong"


def tell(
    case: Case,
    failing: Recording,
    *,
    raw: Recording | None = None,
    raw_case: Case | None = None,
    passing: Recording | None = None,
    flip: tuple[int, int] | None = None,
    replay_command: str = "",
    token: str = "",
) -> Story:
    """The story of a case. raw_case: of `raw`, if something was left out since.

    Raises DivergedError if a recording is not one of its case, ValueError for a flip of steps
    that there are not.
    """
    if flip is not None and not 0 <= flip[0] < flip[1] < len(failing.steps):
        raise ValueError(f"flip is {flip}; the run has {len(failing.steps)} steps")
    definition = case.definition
    off = _off(case)
    named = {*case.without, *(name for name in definition.guards if name in off)}
    return Story(
        title=case.scenario,
        races=definition.races,
        about=inspect.getdoc(inspect.getmodule(definition.build)) or "",
        preset=case.preset,
        off=tuple(guard for _, guard in guards() if guard.name in named),
        lacking=len(off - named),
        failing=show(case.build, failing),
        raw=None if raw is None else show((raw_case or case).build, raw),
        passing=None if passing is None else show(case.build, passing),
        flip=flip,
        replay_command=replay_command,
        token=token,
    )


def _off(case: Case) -> set[str]:
    preset = [] if case.preset == FIXED_PRESET else lacks(PRESETS[case.preset])
    return {*case.without, *preset}


def show(build: Callable[[], SimWorld], recording: Recording) -> Shown:
    """Run a recording again and note its interrupts. Raises DivergedError if it went otherwise."""
    world = build()
    path, moments, interrupted = Path(world), list[Moment](), set[int]()
    names = names_of(world.kernel)
    for step in recording.steps:
        options = world.options()
        offered = tuple((option.name, option.label) for option in options)
        if offered != step.enabled:
            raise DivergedError(f"step {step.index}: {offered} offered, {step.enabled} recorded")
        cpu = _vcpu(world.kernel.cpus, step.actor)
        if cpu is None:
            moments.append(Moment())
            path.step(options, step.choice)
            continue
        moment = _before(cpu, options[step.choice], interrupted)
        waiting = len(cpu.pending)
        path.step(options, step.choice)
        # A command lets interrupts in before it is sent, which ends the step before it.
        if moment.taken or len(cpu.pending) < waiting:
            interrupted.add(cpu.number)
        elif not cpu.irq_off:
            interrupted.discard(cpu.number)
        moments.append(moment)
    names |= names_of(world.kernel)
    return Shown(recording, tuple(moments), bool(path.violations), names)


def _vcpu(cpus: Sequence[Cpu], actor: str) -> Cpu | None:
    found = _VCPU.fullmatch(actor)
    return None if found is None or int(found[1]) >= len(cpus) else cpus[int(found[1])]


def _before(cpu: Cpu, option: Option, interrupted: set[int]) -> Moment:
    """A vCPU that is about to step. Only points let an interrupt come first, commands do not."""
    point = not any(access.resource == ("reply", cpu.number) for access in option.accesses)
    return Moment(
        nested=cpu.number in interrupted,
        disabled=cpu.irq_off > 0,
        taken=point and cpu.interruptible(),
    )


def cut(
    shown: Shown, flip: tuple[int, int] | None = None, steps_max: int = STEPS_MAX
) -> tuple[Shown, tuple[int, int] | None]:
    """The last steps of a run, and a flip's places in them; all if it is no longer than that."""
    steps = shown.recording.steps
    first = len(steps) - steps_max
    if first <= 0:
        return shown, flip
    kept = replace(shown.recording, before=steps[first - 1].pages, steps=steps[first:])
    part = replace(shown, recording=kept, moments=shown.moments[first:], left_out=first)
    if flip is None or min(flip) < first:
        return part, None
    return part, (flip[0] - first, flip[1] - first)
