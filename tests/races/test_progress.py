"""Liveness is judged on fair stretches and nowhere else.

Method: worlds that never come to an end, each for another reason, run to the engine's bound under
schedules that are fair, and that are not. Beside them stand worlds that only take their time.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.discard import storage_access
from guest_agent.kernel.page import reads, writes
from race_explorer.engine import Chooser, Option, Run, replay, run
from race_explorer.oracles import ORACLES, fairly, watch
from race_explorer.oracles.progress import (
    ANSWER_STEPS_MAX,
    PASSED_OVER_MAX,
    PROGRAM_STEPS_MAX,
)
from race_explorer.scenarios import SCENARIOS
from race_explorer.scenarios.scenario import Protections
from race_explorer.world import SimWorld
from shared.arch import Orc
from shared.commands import Essa, Load, Store
from tests.races.planted import (
    PAGE,
    A,
    NeverDelivers,
    NeverResumes,
    Program,
    first,
    host_first,
    issue,
    small,
)

NO_END = "no end after 20000 steps"
LOAD = Load(PAGE, 0, 32)
STORE = Store(PAGE, 0, A, 128)


def under_oracle(build_programs: Sequence[Program], choose: Chooser, **options: type) -> Run:
    """One run under the eyes of the oracle of progress."""
    return run(watch(small(*build_programs, **options), [ORACLES["progress"]]), choose)


def at_random(seed: int) -> Chooser:
    """A chooser that draws."""
    random = Random(seed)
    return lambda options: random.randrange(len(options))


def turns(mine: int) -> Program:
    """Two vCPUs that hand a flag to and fro, and wait for each other, for ever."""

    async def program(cpu: Cpu) -> None:
        flag = cpu.kernel.mem_map[2]
        while True:
            await cpu.wait_until(lambda: flag.index == mine, "turn", writes("flag"))
            flag.index = 1 - mine

    return program


async def spin(cpu: Cpu) -> None:
    """Never wait, never end."""
    while True:
        await cpu.point("spin")


async def starve(cpu: Cpu) -> None:
    """Wait for what nobody does."""
    await cpu.wait_until(lambda: cpu.kernel.mem_map[2].index == 9, "starve", reads("flag"))


def takes(steps: int) -> Program:
    """A program that ends after so many steps."""

    async def program(cpu: Cpu) -> None:
        for _ in range(steps):
            await cpu.point("work")

    return program


async def fault(cpu: Cpu) -> None:
    """Touch a page that is gone."""
    await issue(STORE, Essa(Orc.SET_VOLATILE, PAGE), "evict", "Vz")(cpu)
    await storage_access(cpu, LOAD)


def said(found: Run) -> str:
    """The oracle's only violation, without its name."""
    (violation,) = found.violations
    name, _, text = violation.partition(": ")
    assert name == "progress", found.violations
    return text


@pytest.mark.parametrize("choose", [at_random(1), fairly(first, 0)], ids=["at random", "fairly"])
def test_a_livelock_is_found(choose: Chooser) -> None:
    assert said(under_oracle([turns(0), turns(1)], choose)) == (
        f"no progress in {PROGRAM_STEPS_MAX + 1} fair steps: "
        "cpu0 has not finished, cpu1 has not finished"
    )


def test_so_is_an_actor_that_starves_meanwhile() -> None:
    text = said(under_oracle([spin, starve], fairly(first, 0)))
    assert "cpu1 has not finished" in text


def test_a_command_that_is_never_answered_is_found_by_name() -> None:
    parked = issue(STORE, "evict", "Sp", LOAD)
    found = under_oracle([parked, spin], fairly(first, 0), host=NeverResumes)
    assert "load of issuer 0 is not answered" in said(found)
    assert len(found.steps) < ANSWER_STEPS_MAX + 100


def test_a_discard_fault_that_nobody_handles_is_found_by_name() -> None:
    found = under_oracle([fault, spin], fairly(first, 0), host=NeverDelivers)
    assert "discard fault 1 of vcpu 0 is not settled" in said(found)
    assert len(found.steps) < ANSWER_STEPS_MAX + 100


def test_on_an_unfair_schedule_nothing_is_judged() -> None:
    """The first vCPU spins and nobody else ever runs: that is the scheduler's doing."""
    for programs in ([spin, takes(3)], [spin, issue(STORE)]):
        assert under_oracle(programs, first).violations == (NO_END,)


def test_what_an_unfair_stretch_has_cost_is_nobodys_fault() -> None:
    """The tail is fair, and long enough for what is left to do."""
    programs = [takes(PROGRAM_STEPS_MAX + 500), takes(3), issue(STORE, "evict", "Sp", LOAD)]
    assert not under_oracle(programs, fairly(first, PROGRAM_STEPS_MAX)).violations


def test_a_fair_tail_finds_what_an_unfair_schedule_hides() -> None:
    found = under_oracle([spin, starve, takes(3)], fairly(first, 2_000))
    assert "cpu1 has not finished" in said(found)
    assert "cpu2" not in said(found)
    assert len(found.steps) <= 2_000 + PASSED_OVER_MAX + PROGRAM_STEPS_MAX + 10


def test_what_takes_its_time_is_no_livelock() -> None:
    slow = [takes(PROGRAM_STEPS_MAX // 2 - 100), takes(PROGRAM_STEPS_MAX // 2 - 100)]
    assert not under_oracle(slow, fairly(first, 0)).violations
    parked = issue(STORE, "evict", "Sp", LOAD)
    later = takes(2 * ANSWER_STEPS_MAX)  # what was answered long ago is not waited for
    assert not under_oracle([parked, later], fairly(host_first, 20)).violations
    assert not under_oracle([fault, later], at_random(4)).violations


def test_a_daemon_need_not_finish() -> None:
    def build() -> SimWorld:
        world = small(takes(3))()
        world.spawn("daemon", takes(PROGRAM_STEPS_MAX + 500)(world.kernel.cpus[0]), daemon=True)
        return world

    found = run(watch(build, [ORACLES["progress"]]), fairly(first, 0))
    assert not found.violations
    assert len(found.steps) > PROGRAM_STEPS_MAX


def test_an_eviction_is_nobodys_due() -> None:
    """A schedule on which the host never evicts is fair, if everybody else goes on."""

    def build() -> SimWorld:
        world = small(turns(0), turns(1))()
        world.evictions.append(PAGE)
        return world

    def never(options: Sequence[Option]) -> int:
        return fair([option for option in options if not option.name.startswith("host.evict.")])

    fair = fairly(first, 0)
    found = run(watch(build, [ORACLES["progress"]]), never)
    assert said(found).startswith("no progress in")


def test_where_everything_stands_still_it_is_a_deadlock() -> None:
    found = under_oracle([starve], first)
    assert found.violations == ("deadlock: cpu0 at starve",)


@pytest.mark.parametrize("after", [0, 10, 1_000])
def test_a_fair_tail_ends_every_scenario_and_replays(after: int) -> None:
    for name in ("dirty-bit-in-transit", "freed-while-fault-pending", "idle-vcpu-never-ticks"):
        build = watch(
            lambda name=name: SCENARIOS[name].build(Protections()),  # type: ignore[misc]
            [ORACLES["progress"]],
        )
        found = run(build, fairly(at_random(after), after))
        assert not found.violations
        assert replay(build, found.choices) == found


def test_the_tail_takes_whoever_has_waited_longest() -> None:
    build = small(takes(4), takes(4), takes(4))
    names = [name for name, label in run(build, fairly(first, 2)).steps if label == "work"]
    assert names == ["cpu0"] * 2 + ["cpu1", "cpu2", "cpu0"] * 2 + ["cpu1", "cpu2"] * 2
