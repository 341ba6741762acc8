"""Every oracle says what it has to say, and nothing else.

Method: bugs are planted, one at a time, in the host, the session and the guest, and the oracle
whose promise they break is asked alone; beside each stands what looks like it and is right. Then
every scenario runs under all oracles with all guards on, at random: nobody may say a word.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pytest

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.discard import storage_access
from guest_agent.kernel.filemap import kernel_load
from guest_agent.kernel.grace import CallFunction, Grace
from guest_agent.kernel.page import Page, PG_discarded, writes
from guest_agent.kernel.page_alloc import alloc_page, put_page
from guest_agent.kernel.page_cache import find_get_page, find_get_page_nodiscard
from guest_agent.kernel.page_hva import make_volatile
from guest_agent.kernel.swap_cache import get_swap_page
from guest_agent.kernel.syscalls import sys_read
from host_daemon.core.config import HostGuards
from host_daemon.core.host import Host
from race_explorer.engine import Chooser, Run, replay, run
from race_explorer.faults import FaultBudget, FaultKind, allow_faults
from race_explorer.oracles import ALL, ORACLES, Oracle, Scene, watch
from race_explorer.recycling import recycled
from race_explorer.scenarios import SCENARIOS
from race_explorer.scenarios.pieces import allocate, discard_and_hold, give_back, new_world
from race_explorer.scenarios.scenario import Protections
from race_explorer.world import GUEST, SimWorld
from shared.arch import Orc
from shared.commands import Essa, EssaArray, Iske, Load, Rrbe, Sske, Store
from tests.races import planted
from tests.races.planted import (
    PAGE,
    A,
    B,
    ForgetsKeys,
    Program,
    first,
    host_first,
    issue,
    small,
    watched,
)
from tests.races.test_random_schedules import SWAPPING
from tests.support.random_guest import Shape, random_guest

ROOT = Path(__file__).parents[2]
DIGEST = "from tests.races.test_oracles import *; print(digest_of_violations())"
SCHEDULES = 12
"""Random schedules of each scenario under all oracles."""
FAULTY = (
    "copy-source-discarded",
    "dirty-bit-in-transit",
    "freed-while-fault-pending",
    "idle-vcpu-never-ticks",
    "pinned-for-a-device",
    "release-entry-outlived",
)
FAULTY_SCHEDULES = 4

OP = {orc: Essa(int(orc), PAGE) for orc in Orc}
STABLE, VOLATILE, UNUSED = OP[Orc.SET_STABLE], OP[Orc.SET_VOLATILE], OP[Orc.SET_UNUSED]
GET, IF_RESIDENT = OP[Orc.GET_STATE], OP[Orc.SET_STABLE_IF_RESIDENT]
MAKE_RESIDENT = OP[Orc.SET_STABLE_MAKE_RESIDENT]
POTENTIAL = OP[Orc.SET_POTENTIAL_VOLATILE]
STORE_A, STORE_B, LOAD = Store(PAGE, 0, A, 128), Store(PAGE, 0, B, 128), Load(PAGE, 0, 32)
NOWHERE = EssaArray.of(np.array([1, 3], np.uint8), np.array([99, PAGE], np.uint32))
OUT_AND_IN = issue(STORE_A, "evict", "Sp", LOAD, GET, Iske(PAGE))
GONE = issue(STORE_A, VOLATILE, "evict", "Vz", Iske(PAGE), IF_RESIDENT, STABLE, LOAD)


def at_random(seed: int) -> Chooser:
    """A chooser that draws."""
    random = Random(seed)
    return lambda options: random.randrange(len(options))


def digest_of_violations() -> str:
    """Of what all oracles say of some removals."""
    digest = hashlib.sha256()
    for name, guard in (
        ("late-second-copy", "answer_repeats"),
        ("make-stable-overtakes", "state_change"),
        ("change-bit-read-early", "remove_access_before_read"),
        ("free-page-resurrected", "reference_if_present"),
    ):
        scenario, protections = SCENARIOS[name], Protections().without(guard)
        build = watch(recycled(partial(scenario.build, protections)))
        for seed in range(12):
            digest.update(repr(run(build, at_random(seed)).violations).encode())
    return digest.hexdigest()


def said(found: Run, oracle: str) -> str:
    """The first violation, which must be the oracle's; without its name."""
    assert found.violations, f"{oracle} has seen nothing in {found.steps}"
    name, _, text = found.violations[0].partition(": ")
    assert name == oracle, found.violations
    return text


# The memory of a guest: answers, and what is behind them.

BUGS: dict[str, tuple[type[Host], Program, str, str]] = {
    "a command executed twice": (
        planted.Twice,
        issue(VOLATILE, STABLE, GET),
        "is told by essa.get_state: was Vz",
        "Sz has become Vz",
    ),
    "a store lost on its way in": (
        planted.LosesStore,
        OUT_AND_IN,
        "is told by load",
        "the content of a page in Sr has changed",
    ),
    "a stable page discarded": (
        planted.DiscardsStable,
        issue(STORE_A, "evict", "Vz", GET),
        "is told by essa.get_state: was Vz",
        "Sr is stable, and the host has discarded it: Vz",
    ),
    "the new state answered": (
        planted.AnswersNewState,
        issue(STORE_A, VOLATILE),
        "is told by essa.set_volatile: was Vr",
        "is told by essa.set_volatile: was Vr",
    ),
    "C set on a discarded page": (
        planted.ReportsChanged,
        GONE,
        "is told by iske: C=1",
        "is told by iske: C=1",
    ),
    "a load of what was": (
        planted.StaleLoad,
        issue(STORE_A, LOAD, STORE_B, LOAD),
        "is told by load",
        "is told by load",
    ),
    "a volatile page made stable": (
        planted.ForgetsVolatile,
        issue(STORE_A, VOLATILE, "evict", "Sp", GET),
        "is told by essa.get_state: was Sp",
        "Vr has become Sr",
    ),
    "a key lost on its way in": (
        planted.LosesKey,
        OUT_AND_IN,
        "is told by iske: C=0",
        "storage key 0x06 is 0x00",
    ),
}
"""Bug: the host, what the guest does, and what the two oracles of its memory say."""


@pytest.mark.parametrize(("host", "program", "told", "_seen"), BUGS.values(), ids=BUGS.keys())
def test_what_no_order_explains_is_told(
    host: type[Host], program: Program, told: str, _seen: str
) -> None:
    build = small(program, host=host)
    text = said(watched(build, ORACLES["linearizability"]), "linearizability")
    assert text.startswith(f"page {PAGE}: nothing explains that vcpu 0 {told}")
    assert text.splitlines()[-1].strip().startswith(f"vcpu 0 {told}")


@pytest.mark.parametrize(("host", "program", "_told", "seen"), BUGS.values(), ids=BUGS.keys())
def test_a_change_that_nothing_makes_is_seen_when_it_comes(
    host: type[Host], program: Program, _told: str, seen: str
) -> None:
    build = small(program, host=host)
    found = watched(build, ORACLES["transitions"])
    assert seen in said(found, "transitions")
    asked = watched(build, ORACLES["linearizability"])
    assert len(found.steps) <= len(asked.steps)


def test_a_change_bit_that_outlives_its_page_is_seen_although_nobody_asks() -> None:
    silent = issue(STORE_A, VOLATILE, "evict", "Vz")
    guards = HostGuards(discard_clears_change_bit=False)
    text = said(watched(small(silent, guards=guards), ORACLES["transitions"]), "transitions")
    assert "storage key 0x00 is 0x06" in text
    assert not watched(small(silent, guards=guards), ORACLES["linearizability"]).violations


def test_content_that_was_away_at_first_is_known_from_its_return() -> None:
    """Page 2 is on the paging device when watching begins."""

    def build() -> SimWorld:
        bring_in_and_store = issue(Load(2, 0, 32), STORE_A, STORE_B, Load(2, 0, 32))
        world = small(bring_in_and_store, host=planted.StoresTwice)()
        world.host.execute(GUEST, 0, Store(2, 0, A, 128))
        world.evict_now(2)
        assert world.host.content(GUEST, 2) is None
        return world

    text = said(watched(build, ORACLES["transitions"]), "transitions")
    assert text.startswith("page 2: the content of a page in Sr has changed")


def test_a_store_into_the_neighbour_is_seen() -> None:
    program = issue(Store(2, 0, A, 128), STORE_A, STORE_B)
    text = said(
        watched(small(program, host=planted.StoresTwice), ORACLES["transitions"]), "transitions"
    )
    assert text.startswith("page 2: the content of a page in Sr has changed")


def test_a_stale_answer_of_the_session_is_told() -> None:
    program = issue(STORE_A, VOLATILE, GET)
    for name in ("linearizability", "transitions"):
        found = watched(small(program, world=planted.StaleAnswers), ORACLES[name])
        assert "is told by essa.get_state: was Sr" in said(found, name)


RIGHT: dict[str, tuple[Program, ...]] = {
    "a page that is not there": (issue(NOWHERE, GET),),
    "out and in": (OUT_AND_IN,),
    "discarded, and all that comes of it": (GONE,),
    "made stable while it goes": (issue(STORE_A, VOLATILE, "evict", IF_RESIDENT, LOAD, GET),),
    "given up while it comes": (
        issue(STORE_A, "evict", "Sp", LOAD, GET),
        issue(GET, UNUSED, GET, STABLE, GET),
    ),
    "brought in by op 5": (
        issue(STORE_A, "evict", "Sp", MAKE_RESIDENT, LOAD),
        issue(GET, GET, VOLATILE, STABLE),
    ),
    "changed and potential volatile": (issue(STORE_A, POTENTIAL, "evict", "Sp", GET, LOAD),),
    "clean and potential volatile": (
        issue(STORE_A, Sske(PAGE, 0), POTENTIAL, "evict", "Vz", GET, IF_RESIDENT, Iske(PAGE)),
    ),
    "preserved and offered": (
        issue(STORE_A, "evict", "Sp", POTENTIAL, GET),
        issue(Sske(PAGE, 0), Rrbe(PAGE), Iske(PAGE)),
    ),
    "everybody at once": (
        issue(STORE_A, VOLATILE, "evict", GET, STABLE, LOAD),
        issue(GET, STORE_B, UNUSED, "evict", STABLE, GET, LOAD, Iske(PAGE)),
        issue(Rrbe(PAGE), "evict", POTENTIAL, Sske(PAGE, 2), MAKE_RESIDENT, LOAD),
    ),
}


@pytest.mark.parametrize("programs", RIGHT.values(), ids=RIGHT.keys())
def test_nothing_is_said_of_what_is_right(programs: Sequence[Program]) -> None:
    build = small(*programs)
    memory = [ORACLES[name] for name in ("linearizability", "transitions", "ownership")]
    ended = 0
    for choose in (first, host_first, *map(at_random, range(60))):
        found = run(watch(build, memory), choose)
        own = [v for v in found.violations if v.partition(": ")[0] in ORACLES]
        assert not own, own
        ended += not found.violations
    assert ended or len(programs) > 1


# Books of the host.


@pytest.mark.parametrize(
    ("host", "program", "what", "label"),
    [
        (planted.LeaksSlot, OUT_AND_IN, "a slot is held by nobody", "page_in"),
        (
            planted.LeaksWhenDraining,
            issue(STORE_A, "evict", "Sp", UNUSED, GET, GET),
            "a slot is held by nobody",
            "drain_release_list",
        ),
        (planted.SharesFrame, issue(STORE_A, Store(2, 0, B), GET, GET), "do not agree", "store"),
    ],
)
def test_books_that_do_not_agree_are_found_at_once(
    host: type[Host], program: Program, what: str, label: str
) -> None:
    found = watched(small(program, host=host), ORACLES["ownership"])
    assert what in said(found, "ownership")
    assert found.steps[-1][1] == label


# The guest's kernel.


def kernel_world(*programs: Program, without: tuple[str, ...] = ()) -> SimWorld:
    """A booted guest with one page of a file in its cache, and a program on each vCPU."""
    protections = Protections().without(*without)
    world = new_world(protections, vcpu_count=len(programs), page_count=6, swap_pages=4)
    kernel = world.kernel

    async def prepare() -> None:
        await kernel.boot(kernel.cpus[0])
        await sys_read(kernel.cpus[0], kernel.open_file(1, disk=1, first_block=0), 0, 1)

    world.prepare(prepare())
    for vcpu, program in enumerate(programs):
        world.run_vcpu(vcpu, program)
    return world


def the_page(cpu: Cpu) -> Page:
    """The page in the cache."""
    return cpu.kernel.mappings[1].pages[0]


async def nothing(_cpu: Cpu) -> None:
    """Idle at once."""


async def leave_discarded_bit(cpu: Cpu) -> None:
    """Mark a page discarded that is not, and keep it."""
    await cpu.set_flag(await alloc_page(cpu), PG_discarded)


async def leak_reference(cpu: Cpu) -> None:
    """Look a page up and forget it."""
    await find_get_page(cpu, cpu.kernel.mappings[1], 0)


async def leak_swap_slot(cpu: Cpu) -> None:
    """Take a slot for nothing."""
    await get_swap_page(cpu)


async def free_twice(cpu: Cpu) -> None:
    """Put a page on the free list that is there already."""
    await cpu.point("free_list.push", writes("free_list"))
    cpu.kernel.free_list.append(cpu.kernel.free_list[0])


GUESTS: dict[str, tuple[Program, str, str]] = {
    "a discarded bit": (leave_discarded_bit, "kernel", "PG_discarded outside the discarded list"),
    "a discarded bit at the end": (leave_discarded_bit, "leftovers", "PG_discarded is set"),
    "a reference": (leak_reference, "kernel", "1 references to a page are known"),
    "a swap slot": (leak_swap_slot, "kernel", "swap slot 1 counts 1 users and has 0"),
    "a page freed twice": (free_twice, "kernel", "a page is free twice"),
}


@pytest.mark.parametrize(("program", "oracle", "what"), GUESTS.values(), ids=GUESTS.keys())
def test_what_a_guest_leaves_is_found(program: Program, oracle: str, what: str) -> None:
    found = watched(lambda: kernel_world(program), ORACLES[oracle])
    assert what in "\n".join(found.violations)
    said(found, oracle)


def test_what_is_given_back_is_not_left() -> None:
    def build() -> SimWorld:
        async def keep(cpu: Cpu) -> None:
            found = await find_get_page(cpu, cpu.kernel.mappings[1], 0)
            assert found is not None
            give_back(world, found)
            await allocate(world, cpu)

        world = kernel_world(keep, nothing)
        return world

    assert not run(watch(build), first).violations


def test_a_fault_that_is_not_acknowledged_is_left() -> None:
    program = issue(STORE_A, VOLATILE, "evict", "Vz")

    async def touch(cpu: Cpu) -> None:
        await program(cpu)
        assert await storage_access(cpu, LOAD) is None

    def build() -> SimWorld:
        world = small(touch, world=planted.NeverAcknowledges)()
        world.kernel.mem_map[PAGE].count = 0
        return world

    found = watched(build, ORACLES["leftovers"])
    assert said(found, "leftovers") == "1 discard faults are not acknowledged"


@pytest.mark.parametrize("grace", list(Grace))
def test_pages_on_the_discarded_list_are_no_leftovers(grace: Grace) -> None:
    def build() -> SimWorld:
        world = new_world(Protections(), vcpu_count=2, grace=grace)
        (page,) = discard_and_hold(world, world.kernel.open_file(1, disk=1, first_block=0), 1)

        async def put(cpu: Cpu) -> None:
            await put_page(cpu, page)

        world.run_vcpu(0, put)
        world.run_vcpu(1, nothing)
        return world

    assert not watched(build, ORACLES["leftovers"]).violations


def test_a_page_that_is_never_freed_is_left() -> None:
    class Never(CallFunction):
        async def reclaim(self, cpu: Cpu) -> int:
            return 0

    def build() -> SimWorld:
        world = new_world(Protections(), vcpu_count=1)
        world.kernel.grace = Never(1)
        (page,) = discard_and_hold(world, world.kernel.open_file(1, disk=1, first_block=0), 1)

        async def put(cpu: Cpu) -> None:
            await put_page(cpu, page)

        world.run_vcpu(0, put)
        return world

    found = watched(build, ORACLES["leftovers"])
    assert said(found, "leftovers").startswith("a page waits for its grace period for ever")


def test_the_list_of_the_series_is_no_double_free() -> None:
    """A pagevec's pages are on the list before they are out of the pagevec."""
    scenario = SCENARIOS["last-put-in-an-interrupt"]
    protections = Protections().without("discard_list_irq_safe")
    labels: set[str] = set()
    for seed in range(20):
        found = run(watch(lambda: scenario.build(protections)), at_random(seed))
        labels |= {label for _, label in found.steps}
        assert not any("free twice" in violation for violation in found.violations)
    assert "pagevec.reinit" in labels


# Who holds a page stable.


async def hold(cpu: Cpu) -> None:
    """Look the page up, which makes it stable, look at it, and give it back."""
    page = await find_get_page(cpu, cpu.kernel.mappings[1], 0)
    if page is not None:
        await kernel_load(cpu, page, cpu.kernel.mappings[1], 0, tags=1)
        await put_page(cpu, page)


async def offer_blindly(cpu: Cpu) -> None:
    """Make the page volatile whoever has it."""
    await cpu.essa(Orc.SET_VOLATILE, the_page(cpu))


async def offer_with_care(cpu: Cpu) -> None:
    """Make the page volatile if nobody has it."""
    await make_volatile(cpu, the_page(cpu), 1)


async def offer_while_holding(cpu: Cpu) -> None:
    """Offer a page that we hold ourselves, and then give it back."""
    page = await find_get_page(cpu, cpu.kernel.mappings[1], 0)
    assert page is not None
    await cpu.essa(Orc.SET_VOLATILE, page)
    await cpu.put_page_testzero(page)


async def hand_over(cpu: Cpu) -> None:
    """A reference whose page was never made stable."""
    page = await find_get_page_nodiscard(cpu, cpu.kernel.mappings[1], 0)
    assert page is not None
    await cpu.point("pause")
    await cpu.put_page_testzero(page)


def holders(*programs: Program, schedules: int = 50) -> set[str]:
    """All that the oracle says on so many schedules."""
    build = watch(lambda: kernel_world(*programs), [ORACLES["holders"]])
    return {v for seed in range(schedules) for v in run(build, at_random(seed)).violations}


def test_a_page_offered_under_its_holder_is_seen() -> None:
    assert "holders: vcpu 0 holds page 1 stable, and it is Vr" in holders(hold, offer_blindly)


@pytest.mark.parametrize(
    "programs",
    [
        (hold, offer_with_care),
        (offer_while_holding, offer_with_care),
        (hand_over, offer_blindly),
        (hold, hold, offer_with_care),
    ],
    ids=lambda programs: " ".join(program.__name__ for program in programs),
)
def test_whoever_may_offer_is_left_alone(programs: tuple[Program, ...]) -> None:
    assert not holders(*programs)


def in_turns(*turns: tuple[int, Program]) -> list[Program]:
    """Programs of two vCPUs that do these things one after the other."""

    def program(mine: int) -> Program:
        async def run_turns(cpu: Cpu) -> None:
            clock = cpu.kernel.mem_map[5]  # a page that nobody uses: its index counts turns
            for i in (i for i, (vcpu, _) in enumerate(turns) if vcpu == mine):
                await cpu.wait_until(lambda i=i: clock.index == i, "turn", writes("turns"))  # type: ignore[misc]
                await turns[i][1](cpu)
                clock.index += 1

        return run_turns

    return [program(0), program(1)]


async def make_page_stable(cpu: Cpu) -> None:
    """With no reference of our own."""
    await cpu.essa(Orc.SET_STABLE_IF_RESIDENT, the_page(cpu))


async def take(cpu: Cpu) -> None:
    """A reference, and nothing else."""
    await cpu.get_page(the_page(cpu))


async def put(cpu: Cpu) -> None:
    """Give it back; the page stays what it is."""
    await cpu.put_page_testzero(the_page(cpu))


@pytest.mark.parametrize(
    ("turns", "held"),
    [
        ([(0, take), (0, make_page_stable), (1, offer_blindly), (0, put)], True),
        ([(0, make_page_stable), (0, take), (1, offer_blindly), (0, put)], True),
        ([(0, make_page_stable), (1, offer_blindly), (0, take), (0, put)], False),
        ([(0, take), (0, make_page_stable), (0, put), (0, take), (1, offer_blindly)], False),
        ([(0, take), (1, offer_blindly), (0, put), (0, make_page_stable)], False),
        ([(0, take), (0, make_page_stable), (0, offer_blindly), (1, offer_blindly)], False),
    ],
)
def test_to_hold_takes_a_reference_and_a_stable_page(
    turns: list[tuple[int, Program]], held: bool
) -> None:
    seen = {"holders: vcpu 0 holds page 1 stable, and it is Vr"} if held else set()
    assert holders(*in_turns(*turns), schedules=5) == seen


# Watching.


def test_every_scenario_is_clean_under_all_oracles() -> None:
    """No false alarm; and what is found here with all guards on is a finding."""
    said_of: dict[str, tuple[str, ...]] = {}
    for name, scenario in SCENARIOS.items():
        build = watch(recycled(partial(scenario.build, Protections())))
        for seed in range(SCHEDULES):
            found = run(build, at_random(seed))
            if found.violations:
                said_of[f"{name} {found.choices}"] = found.violations
    assert not said_of


def test_a_whole_guest_is_clean_too() -> None:
    """Programs run for thousands of steps: nobody promises that they end soon."""
    oracles = [oracle for oracle in ALL if oracle.name != "progress"]
    for seed, shape in ((1, Shape(operations=12)), (2, replace(SWAPPING, operations=12))):
        guest = random_guest(seed, shape=shape)
        watch(lambda guest=guest: guest.world, oracles)()  # type: ignore[misc]
        assert not guest.run()


@pytest.mark.parametrize("name", ["dirty-bit-in-transit", "late-second-copy", "late-pte"])
def test_watching_changes_no_choice(name: str) -> None:
    scenario = SCENARIOS[name]
    for seed in range(20):
        plain = run(lambda: scenario.build(Protections()), at_random(seed))
        under = replay(watch(lambda: scenario.build(Protections())), plain.choices)
        assert (under.steps, under.reached) == (plain.steps, plain.reached)


def test_what_the_world_says_comes_first_and_ends_the_run() -> None:
    async def crash(cpu: Cpu) -> None:
        await cpu.point("crash")
        raise KernelBug("BUG_ON(true)")

    found = run(watch(lambda: kernel_world(crash, hold)), first)
    assert found.violations == ("cpu0: BUG_ON(true)",)
    assert found.steps[-1] == ("cpu0", "crash")


def test_watchers_see_every_step_of_the_race_and_know_what_is_none() -> None:
    seen: list[tuple[str, str] | None] = []

    class Spy:
        def __init__(self, scene: Scene) -> None:
            self._scene = scene

        def look(self) -> list[str]:
            taken = self._scene.taken
            seen.append(None if taken is None else (taken.name, taken.label))
            return []

        def end(self) -> list[str]:
            return []

    found = run(watch(lambda: kernel_world(hold), [Oracle("spy", "nothing", Spy)]), first)
    assert tuple(seen[: len(found.steps)]) == found.steps
    after = seen[len(found.steps) :]
    assert after
    assert set(after) == {None}


def test_a_command_that_is_parked_when_watching_begins_is_known() -> None:
    def build() -> SimWorld:
        world = small(issue(STORE_A, "evict", "Sp", STORE_B, LOAD))()
        while not world.guest_end.outstanding():
            options = world.options()
            options[host_first(options)].run()
        return world

    memory = [ORACLES[name] for name in ("linearizability", "transitions")]
    assert not run(watch(build, memory), host_first).violations


def test_violations_are_the_same_text_every_time() -> None:
    scenario = SCENARIOS["late-second-copy"]
    build = watch(lambda: scenario.build(Protections().without("answer_repeats")))
    runs = [run(build, at_random(seed)) for seed in range(40)]
    again = [replay(build, found.choices) for found in runs]
    assert [found.violations for found in again] == [found.violations for found in runs]
    assert any(v.startswith("transitions: ") for found in runs for v in found.violations)


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_so_they_are_under_every_hash_seed(hash_seed: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", DIGEST],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == digest_of_violations()


def with_faults(build: Callable[[], SimWorld], budget: str) -> Callable[[], SimWorld]:
    """The same worlds, in which something may fail."""

    def built() -> SimWorld:
        world = build()
        allow_faults(world, FaultBudget.parse(budget))
        return world

    return built


@pytest.mark.parametrize("kind", [kind.value for kind in FaultKind])
def test_what_fails_is_no_violation(kind: str) -> None:
    """Messages lost and repeated, hosts resumed and begun anew, damaged pages: all happens."""
    happened = 0
    for name in FAULTY:
        build = partial(SCENARIOS[name].build, Protections())
        watched_build = watch(recycled(with_faults(build, f"{kind}=2")))
        for seed in range(FAULTY_SCHEDULES):
            found = run(watched_build, at_random(seed))
            assert not found.violations, (name, found.choices)
            happened += kind in found.reached
    assert happened


def test_after_a_power_failure_memory_is_what_it_was_at_first() -> None:
    """A host that has forgotten everything is right; one that has forgotten a key is not."""
    program = issue(STORE_A, "evict", "Sp", LOAD, Iske(PAGE), Iske(PAGE))
    oracles = [ORACLES["transitions"], ORACLES["linearizability"]]
    seen = set[str]()
    for budget, host in (("power=1", Host), ("checkpoint=1", Host), ("checkpoint=1", ForgetsKeys)):
        build = watch(with_faults(small(program, host=host), budget), oracles)
        for seed in range(60):
            found = run(build, at_random(seed))
            own = [v.partition("\n")[0] for v in found.violations if v.startswith("transitions")]
            assert host is ForgetsKeys or not own, own
            seen |= {f"{budget} {v}" for v in own} | set(found.reached)
    assert (
        "checkpoint=1 transitions: page 1: storage key 0x06 is 0x00, and nothing makes it so"
        in seen
    )
    assert {"power", "checkpoint"} <= seen


def test_every_oracle_has_a_name_of_its_own_and_a_promise() -> None:
    assert [oracle.name for oracle in ALL] == list(ORACLES)
    assert all(oracle.promise and oracle.promise[-1] != "." for oracle in ALL)
