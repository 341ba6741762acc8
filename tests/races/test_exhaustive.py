"""Reductions lose nothing: what they skip differs from what they try by order alone.

An outcome is how a run ends. Of a run that ends in order or in a deadlock: the kind of violation,
the situations that the scenario marks, and the state: of every page what the host and the guest
hold of it, the ptes, and the blocks on the disks. Of a run that is cut off by a violation: that
violation.

Method: outcomes, and classes of equivalent schedules. Plain depth-first search is the judge: on
random programs with locks, waits, steps that others take away, interrupts and actors that appear
late, and on scenarios that are small enough for it. Where they are not, the two reductions, which
find their schedules in different ways, must meet the same outcomes and classes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings

from race_explorer.case import Case
from race_explorer.classes import trace_class
from race_explorer.engine import Option, Touch, World
from race_explorer.exhaustive import Reduction, Report, explore
from race_explorer.signature import signature
from race_explorer.world import GUEST, SimWorld
from tests.races.machines import PLANS, Machine, Op, Plan, plan
from tests.races.toys import BUGS, Toy, private


class Witness:
    """A world of which each run says its class and its outcome, as situations that it reached."""

    def __init__(self, world: World, state: Callable[[], object]) -> None:
        self._world, self._state = world, state
        self._steps: list[tuple[str, str]] = []
        self._taken: list[tuple[Touch, ...]] = []
        self._end = ""

    def options(self) -> list[Option]:
        return [
            Option(o.name, o.label, o.accesses, partial(self._take, o))
            for o in self._world.options()
        ]

    def _take(self, option: Option) -> None:
        self._steps.append((option.name, option.label))
        self._taken.append(option.accesses)
        option.run()

    def waiting(self) -> list[Option]:
        return self._world.waiting()

    def violations(self) -> list[str]:
        return self._world.violations()

    def finished(self) -> list[str]:
        """What is tidied up behind a run is not looked at."""
        state = self._state()
        violations = self._world.finished()
        self._end = f"{signature(violations)} {sorted(self._world.reached())} {state}"
        return violations

    def reached(self) -> set[str]:
        if not self._end:
            # Who else had come how far when it went wrong is a matter of order alone.
            return {f"outcome: {self._world.violations()[0]}"}
        found = trace_class(self._steps, self._taken)
        return {f"class {found}", f"outcome: {self._end}"}


def _of(build: Callable[[], SimWorld]) -> Callable[[], Witness]:
    """Witnesses of a scenario's worlds: host and guest state of every page, ptes, and disks."""

    def state(world: SimWorld) -> object:
        kernel = world.kernel
        return [
            [world.host.page_details(GUEST, page.pfn) for page in kernel.mem_map],
            [
                (page.flags, page.count, page.mapcount, page.index, page.mapping is None)
                for page in kernel.mem_map
            ],
            [
                [(start, pte.page and pte.page.pfn) for start, pte in sorted(mm.ptes.items())]
                for mm in kernel.mms
            ],
            sorted(world.store.blocks.items()),
        ]

    def witness() -> Witness:
        world = build()
        return Witness(world, partial(state, world))

    return witness


def _search(build: Callable[[], World], reduction: Reduction, schedules_max: int) -> Report:
    report = explore(build, schedules_max=schedules_max, reduction=reduction, stop_at_first=False)
    assert report.exhausted, f"{report.schedules} schedules"
    return report


def _classes(report: Report) -> dict[str, int]:
    return {name: n for name, n in report.reached.items() if name.startswith("class")}


def _compare(programs: Plan, schedules_max: int) -> list[Report] | None:
    """Search a plan in all ways; None if there are too many schedules for plain search."""

    def build() -> Witness:
        machine = Machine(programs)
        return Witness(machine, machine.state)

    plain = explore(
        build, schedules_max=schedules_max, reduction=Reduction.NONE, stop_at_first=False
    )
    if not plain.exhausted:
        return None
    rest = [
        _search(build, reduction, schedules_max)
        for reduction in (Reduction.SLEEP_SETS, Reduction.SOURCE_SETS)
    ]
    for report in rest:
        assert set(report.reached) == set(plain.reached)
        assert set(_classes(report).values()) <= {1}
    return [plain, *rest]


@given(PLANS)
@settings(max_examples=150, deadline=None)
def test_on_random_programs_every_class_is_met_exactly_once(programs: Plan) -> None:
    _compare(programs, 400)


# What a search that is nearly right would miss.

REGRESSIONS = {
    "a lock that is taken first by whoever comes last": plan(
        a=(Op("lock", 0), Op("write", 1), Op("unlock", 0)),
        b=(Op("read", 0), Op("lock", 0), Op("write", 1), Op("unlock", 0)),
    ),
    "a wait that nobody will end": plan(
        a=(Op("set", 0), Op("clear", 0)), b=(Op("write", 1), Op("wait", 0, 1))
    ),
    "a stage that is cancelled before anybody races with it": plan(
        a=(Op("begin", 0), Op("read", 1)), b=(Op("cancel", 0),), c=(Op("write", 0), Op("write", 1))
    ),
    "an interrupt that comes before the step": plan(
        a=(Op("open", 0, 1),), b=(Op("write", 1), Op("raise", 0)), c=(Op("read", 1),)
    ),
    "a third one that must come first, where the second sleeps": plan(
        a=(Op("write", 1),), b=(Op("copy", 0, 1),), c=(Op("write", 0),)
    ),
    "a wait that was in the way of others, and somebody else first": plan(
        a=(Op("set", 1), Op("clear", 1)),
        b=(Op("wait", 1, 0),),
        c=(Op("write", 0), Op("write", 0)),
        d=(Op("wait", 1, 0),),
    ),
    "an interrupt that comes instead of a wait, and what would have ended the wait": plan(
        a=(Op("clear", 1), Op("halt", 1, 1)),
        b=(Op("raise", 1),),
        c=(Op("write", 1), Op("clear", 1)),
        d=(Op("set", 1),),
    ),
    "an end that comes too early for others": plan(
        a=(Op("begin_late", 0),), b=(Op("assert", 1), Op("set", 0)), c=(Op("sweep"),)
    ),
    "steps between two that race, of which one needs another": plan(
        a=(Op("write", 0), Op("set", 0)), b=(Op("begin_late", 0), Op("set", 0))
    ),
    "a step that races and needs another that does not": plan(
        a=(Op("sweep"),), b=(Op("begin", 0), Op("set", 0), Op("begin_late", 1))
    ),
    "an actor that begins in the middle": plan(
        a=(Op("begin_late", 0), Op("write", 1)), b=(Op("sweep"), Op("begin_late", 1))
    ),
}


@pytest.mark.parametrize("programs", list(REGRESSIONS.values()), ids=list(REGRESSIONS))
def test_nothing_is_missed_where_steps_prevent_one_another(programs: Plan) -> None:
    reports = _compare(programs, 20_000)
    assert reports is not None
    plain, _, source = reports
    assert source.schedules < plain.schedules


def test_who_touches_nothing_of_others_is_never_tried_first_in_vain() -> None:
    """Sleep sets alone try it at every state and find out at the end; here no race calls for it."""
    programs = {name: private(name, 4) for name in "abcd"}
    for reduction, pruned in ((Reduction.SLEEP_SETS, True), (Reduction.SOURCE_SETS, False)):
        report = _search(lambda: Toy(programs), reduction, 2_000)
        assert report.schedules == 1
        assert bool(report.pruned) is pruned


@pytest.mark.parametrize("bug", list(BUGS))
def test_a_violation_is_found_whatever_is_skipped(bug: str) -> None:
    for reduction in Reduction:
        report = explore(
            lambda: Toy(BUGS[bug]), schedules_max=5_000, reduction=reduction, stop_at_first=True
        )
        assert report.counterexample is not None


# Scenarios.

SMALL = [
    Case("change-bit-read-early"),
    Case("changed-and-gone"),
    Case("enabled-too-early"),
    Case("fault-holds-the-page-lock"),
    Case("free-page-resurrected"),
    Case("interrupted-holder"),
    Case("last-put-in-an-interrupt"),
    Case("mlock-of-a-discarded-page"),
    Case("second-discard-fault"),
    Case("borrowed-reference", dropped=("host.evict.1",)),
    Case("inverted-loop", dropped=("cpu1",)),
    Case("late-second-copy", dropped=("cpu0",)),
    Case("release-entry-outlived", dropped=("host.evict.2",)),
]
"""Few enough schedules for plain search: nine whole scenarios, and of four more the smallest case
that still has a race, one actor left out."""
FAILING = [
    Case("cleared-after-unused", faults="checkpoint=1"),
    Case("cleared-after-unused", faults="power=1"),
    Case("cleared-before-stable", faults="cut=1"),
    Case("last-put-in-an-interrupt", faults="pause=1"),
    Case("list-of-the-caller", faults="reply_lost=1"),
]
"""The same where something may fail, or may not."""
BROKEN = [
    Case("answered-before-the-splice", dropped=("cpu2",)),
    Case("change-bit-read-early", without=("remove_access_before_read",)),
    Case("enabled-too-early", without=("fault_irqs_off",)),
    Case("fault-holds-the-page-lock", without=("unlock_before_discard",)),
    Case("free-page-resurrected", dropped=("cpu1",)),
    Case("idle-vcpu-never-ticks", dropped=("cpu1",)),
    Case("second-discard-fault", without=("dismiss_duplicate_faults",)),
]
"""Some or all of whose schedules end in a violation."""
LARGER = [
    Case(name)
    for name in (
        "borrowed-reference",
        "counts-cross",
        "fork-of-a-discarded-page",
        "gang-lookup",
        "idle-vcpu-never-ticks",
        "inverted-loop",
        "late-pte",
        "pinned-for-a-device",
        "test-then-set",
        "volatile-page-found",
    )
]


def _id(case: Case) -> str:
    return "-".join((case.scenario, *case.without, *case.dropped, case.faults)).rstrip("-")


@pytest.mark.parametrize("case", [*SMALL, *FAILING], ids=_id)
def test_outcomes_of_a_scenario_are_those_of_plain_search(case: Case) -> None:
    plain, sleeping, source = (_search(_of(case.build), each, 2_000) for each in Reduction)
    assert set(sleeping.reached) == set(plain.reached)
    assert set(source.reached) == set(plain.reached)
    assert set(_classes(source).values()) == {1}
    assert not plain.violated
    assert source.schedules == sleeping.schedules <= plain.schedules


@pytest.mark.parametrize("case", BROKEN, ids=_id)
def test_violations_of_a_scenario_are_those_of_plain_search(case: Case) -> None:
    plain, sleeping, source = (_search(_of(case.build), each, 2_000) for each in Reduction)
    assert plain.violated
    assert set(sleeping.reached) == set(plain.reached)
    assert set(source.reached) == set(plain.reached)


@pytest.mark.parametrize("case", LARGER, ids=_id)
def test_reductions_agree_on_a_scenario_that_is_too_large_for_plain_search(case: Case) -> None:
    sleeping, source = (
        _search(_of(case.build), each, 4_000)
        for each in (Reduction.SLEEP_SETS, Reduction.SOURCE_SETS)
    )
    assert set(source.reached) == set(sleeping.reached)
    assert source.schedules == sleeping.schedules == len(_classes(source))
    assert source.pruned < sleeping.pruned
