"""Stories for tests of pictures: of every scenario's counterexample, and of runs made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from guest_agent.kernel.ports import Access
from race_explorer.case import Case
from race_explorer.exhaustive import Reduction, explore
from race_explorer.pictures.story import Moment, Shown, Story, tell
from race_explorer.recording import PageSeen, RecordedStep, Recording, record
from race_explorer.recycling import recycled
from race_explorer.scenarios import SCENARIOS

SCHEDULES_MAX = 60_000
TOKEN = "ESSA1.ABCDEFGH"
REMOVALS = [
    (name, guards) for name, scenario in SCENARIOS.items() for guards, _ in scenario.removals()
]
R4 = ("dirty-bit-in-transit", ("stable_before_clear",))
R16 = ("fork-of-a-discarded-page", ("discard_keeps_mapping", "fork_checks_discarded"))
R17 = ("freed-while-fault-pending", ("grace_period",))
R22 = ("interrupted-holder", ("state_change_trylock",))
PAGE = PageSeen(7, "Pr", False, False, ("lru", "dirty"), 2, 1, "file 1[0]", 1)
GONE = replace(PAGE, state="Vz")


@cache
def story(name: str, guards: tuple[str, ...]) -> Story:
    """The first counterexample without these guards, as it was found."""
    case = Case(name, without=guards)
    run = explore(recycled(case.build), schedules_max=SCHEDULES_MAX).counterexample
    assert run is not None
    return tell(
        case,
        record(case.build, run.choices),
        replay_command=f"essa races replay {name}.essa-replay",
        token=TOKEN,
    )


@cache
def flipped() -> Story:
    """R4 in full: shrunk to msync and the host, and the run in which the host comes too late."""
    whole = Case(R4[0], without=R4[1])
    case = replace(whole, dropped=("cpu1",))
    found = explore(recycled(case.build), schedules_max=SCHEDULES_MAX).counterexample
    assert found is not None
    failing = record(case.build, found.choices)
    labels = [step.label for step in failing.steps]
    first, second = labels.index("commit"), labels.index("essa.set_stable_if_resident")
    swapped = failing.steps[first].enabled.index((failing.steps[second].actor, labels[second]))
    choices = (*failing.choices[:first], swapped)
    # Sleep sets come to a longer one first; there is something to shrink.
    raw = explore(
        recycled(whole.build), schedules_max=SCHEDULES_MAX, reduction=Reduction.SLEEP_SETS
    ).counterexample
    assert raw is not None
    return tell(
        case,
        failing,
        raw=record(whole.build, raw.choices),
        raw_case=whole,
        passing=record(case.build, choices),
        flip=(first, second),
        replay_command="essa races replay r4.essa-replay",
        token=TOKEN,
    )


def step(
    actor: str, label: str, *accesses: Access, page: PageSeen = PAGE, said: str = ""
) -> RecordedStep:
    """A step by hand; `by_hand` numbers it."""
    return RecordedStep(0, actor, label, 1, 0, ((actor, label),), accesses, said, (page,), "")


def by_hand(
    steps: Sequence[RecordedStep], *, violation: str = "it went wrong", title: str = "by hand"
) -> Story:
    """A story of one page and these steps, in which no interrupt comes."""
    numbered = tuple(replace(entry, index=i) for i, entry in enumerate(steps, 1))
    recording = Recording((PAGE.pfn,), (PAGE,), numbered, (violation,), frozenset())
    shown = Shown(recording, tuple(Moment() for _ in steps), True, {})
    return Story(title, ("R1",), f"{title} goes wrong.\n\nIt does.", "fixed", (), 0, shown)
