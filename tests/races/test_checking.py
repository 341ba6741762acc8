"""Check mode catches what a step touches and has not declared; the shipped code declares it all.

Method: planted accesses in a small world, one of each sort; then every scenario, with its guards
and without, and whole guests in which every operation of the kernel is mixed. What is looked at
is counted against the labels that stand in the kernel's source.
"""

from __future__ import annotations

import ast
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import pytest

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.grace import Grace
from guest_agent.kernel.guards import FIXED
from guest_agent.kernel.lru import LruKind
from guest_agent.kernel.mm import Mm, Pte
from guest_agent.kernel.page import ANY, Mapping, Page, reads, writes
from guest_agent.kernel.page_alloc import (
    alloc_compound,
    put_page,
    release_reserved_page,
    reserve_page,
)
from guest_agent.kernel.ports import Access
from guest_agent.kernel.syscalls import sys_mmap, sys_read, user_load
from guest_agent.workload.mixed import operations
from host_daemon.core.compiled import ESSA_PASS
from race_explorer.case import Case
from race_explorer.checking import CheckedWorld, check_case, checked
from race_explorer.checking.sampling import schedule_of
from race_explorer.engine import Option, run
from race_explorer.hunt.composition import COMPOSED
from race_explorer.scenarios import SCENARIOS
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections
from race_explorer.world import GUEST, SimWorld
from shared.arch import Orc
from shared.commands import EssaArray, Iske, Load, Sske
from tests.races.test_random_schedules import SWAPPING
from tests.support.random_guest import RandomGuest, Shape

SCHEDULES = 40
"""Of every scenario with all guards on."""
SCHEDULES_OFF = 6
"""Of every scenario in preset `seed`, and with each of its guards off."""
KERNEL = Path(__file__).parents[2] / "guest_agent" / "kernel"

# Planted accesses.


class Planted:
    """One mapped page of a file, and programs that stand before one planted step each."""

    def __init__(self, *programs: Callable[[Planted, Cpu], Awaitable[None]]) -> None:
        self._programs = programs
        self.world: SimWorld
        self.file: Mapping
        self.mm: Mm

    @property
    def page(self) -> Page:
        return self.file.pages[0]

    @property
    def pte(self) -> Pte:
        return next(iter(self.mm.ptes.values()))

    def build(self) -> SimWorld:
        self.world = new_world(Protections(), vcpu_count=2, page_count=40)
        kernel = self.world.kernel
        self.file = kernel.open_file(1, disk=1, first_block=0)
        self.mm = kernel.new_mm()

        async def prepare() -> None:
            await kernel.boot(kernel.cpus[0])
            vma = await sys_mmap(kernel.cpus[0], self.mm, self.file, 0, 1, writable=False)
            await user_load(kernel.cpus[0], self.mm, vma.start)

        self.world.prepare(prepare())
        for vcpu, program in enumerate(self._programs):
            self.world.run_vcpu(vcpu, partial(program, self))  # type: ignore[arg-type]
        return self.world

    def undeclared(self) -> list[str]:
        """What is found when every vCPU goes as far as it can before the next one begins."""
        world = checked(self.build)()
        run(lambda: world, lambda _: 0)
        return [line.removeprefix("undeclared: ") for line in world.undeclared]


def step(
    act: Callable[[Planted], object], *declared: Access, label: str = "planted"
) -> Callable[[Planted, Cpu], Awaitable[None]]:
    """A program of one step that does this and declares that."""

    async def program(planted: Planted, cpu: Cpu) -> None:
        page, pte = planted.page, planted.pte  # looked up before the race begins
        assert page is not None
        assert pte is not None
        await cpu.point(label, *declared)
        act(planted)

    return program


def write_private(planted: Planted) -> None:
    planted.world.kernel.mem_map[5].private = 7


def read_count(planted: Planted) -> None:
    assert planted.world.kernel.mem_map[5].count == 0


def on_the_host(planted: Planted, command: Iske | Sske | EssaArray | Load) -> None:
    planted.world.host.execute(GUEST, 0, command)


@pytest.mark.parametrize(
    ("act", "found"),
    [
        (write_private, "wrote private 5"),
        (read_count, "read count 5"),
        (lambda p: p.world.kernel.free_list.pop(), "wrote free_list 0"),
        (lambda p: p.mm.next_address, "read sem 1"),
        (lambda p: p.world.kernel.cpus[1].pending.clear(), "read irq 1"),
        (lambda p: p.world.kernel.ledger.lost((1, 0)), "wrote content 1099511627776"),
        (lambda p: on_the_host(p, Sske(5, 4)), "wrote host 5"),
        (lambda p: on_the_host(p, Iske(5)), "read host 5"),
        (lambda p: p.world.host.begin_eviction(GUEST, 1), "wrote host 1"),
        (lambda p: p.world.replies.get(1), "read reply 1"),
        (lambda p: p.world.store.blocks.get((1, 0)), "read disk 1099511627776"),
    ],
)
def test_an_undeclared_access_is_caught_with_actor_label_and_resource(
    act: Callable[[Planted], object], found: str
) -> None:
    lines = Planted(step(act, reads("flags", 1))).undeclared()
    assert f"cpu0 at planted {found} (declared: reads flags 1, reads irq 0)" in lines


def test_a_load_that_brings_its_page_in_needs_frames() -> None:
    lines = Planted(step(lambda p: on_the_host(p, Load(5, 0, 32)), reads("host", 5))).undeclared()
    assert not [line for line in lines if "host 5" in line.split(" (declared")[0]]
    lines = Planted(step(lambda p: p.world.host._machine.frames.take(1, 5))).undeclared()
    assert "cpu0 at planted wrote frames 0 (declared: reads irq 0)" in lines


def test_what_is_declared_may_be_done_or_left() -> None:
    declared = (writes("private", 5), writes("mms"), reads("host", ANY))
    assert Planted(step(write_private, *declared)).undeclared() == []


def test_a_write_covers_reads_and_any_covers_every_number() -> None:
    assert Planted(step(read_count, writes("count", 5))).undeclared() == []
    assert Planted(step(read_count, reads("count", ANY))).undeclared() == []
    lines = Planted(step(write_private, reads("private", ANY))).undeclared()
    assert [line.split(" (")[0] for line in lines] == ["cpu0 at planted wrote private 5"]


def test_to_store_what_is_there_is_a_look() -> None:
    def store_again(planted: Planted) -> None:
        planted.world.kernel.mem_map[5].private = 0

    assert Planted(step(store_again, reads("private", 5))).undeclared() == []


@pytest.mark.skipif(ESSA_PASS is None, reason="one by one, elements touch their own pages alone")
def test_arrays_touch_any_page() -> None:
    orcs, pfns = np.full(30, Orc.SET_UNUSED, np.uint8), np.arange(5, 35, dtype=np.uint32)

    def array(planted: Planted) -> None:
        on_the_host(planted, EssaArray.of(orcs, pfns))

    assert Planted(step(array, writes("host", ANY), writes("frames"))).undeclared() == []
    lines = Planted(step(array, *(writes("host", pfn) for pfn in range(40)))).undeclared()
    assert any(line.startswith("cpu0 at planted wrote host any") for line in lines)


def test_what_a_program_waits_for_is_declared() -> None:
    async def wait(planted: Planted, cpu: Cpu) -> None:
        page = planted.page
        await cpu.wait_until(lambda: page.count > 0, "planted", reads("flags", 1))

    lines = Planted(wait).undeclared()
    assert lines[0] == (
        "cpu0 waiting at planted read count 39 (declared: reads flags 1, reads irq 0)"
    ).replace("39", lines[0].split("count ")[1].split(" ")[0])


def test_a_step_that_takes_another_one_away_depends_on_it() -> None:
    """Variables that programs share by being nested are not recorded; what they do shows."""
    possible = [True]

    async def wait(_planted: Planted, cpu: Cpu) -> None:
        await cpu.wait_until(lambda: bool(possible), "hoping", reads("flags", 2))

    lines = Planted(step(lambda _: possible.clear()), wait).undeclared()
    assert lines == ["cpu0 at planted changed what cpu1 could do at hoping"]


def test_a_step_that_ends_in_a_violation_is_left_in_peace() -> None:
    def bug(planted: Planted) -> None:
        read_count(planted)
        raise KernelBug("planted")

    world = checked(Planted(step(bug)).build)()
    assert run(lambda: world, lambda _: 0).violations == ("cpu0: planted",)


def test_what_is_said_never_to_change_may_not() -> None:
    def move(planted: Planted) -> None:
        planted.world.kernel.mem_map[5].pfn = 6

    assert (
        Planted(step(move))
        .undeclared()[0]
        .startswith("cpu0 at planted changed Page.pfn, which is said never to change")
    )


def test_an_attribute_that_is_not_known_is_refused() -> None:
    planted = Planted()
    world = planted.build()
    world.kernel.surprise = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"does not know Kernel\.surprise"):
        checked(lambda: world)()


# Locks.


async def look_under_the_lock(planted: Planted, cpu: Cpu) -> None:
    lock, pte = planted.mm.page_table_lock, planted.pte
    await cpu.spin_lock(lock, "ptl")
    await cpu.point("planted")
    assert pte.writable is not None
    await cpu.spin_unlock(lock, "ptl_unlock")


def make_writable(planted: Planted) -> None:
    planted.pte.writable = True


def test_who_holds_the_lock_looks_without_saying_so() -> None:
    assert Planted(look_under_the_lock).undeclared() == []


def test_who_writes_without_it_is_caught() -> None:
    number = (1 << 40) | 0x1000
    write = step(make_writable, writes("pte", number), reads("pte", ANY))
    assert Planted(write).undeclared() == [], "nobody trusts in the lock"
    (line,) = Planted(look_under_the_lock, write).undeclared()
    assert line.startswith(f"cpu1 at planted wrote pte {number} without its lock")
    (line,) = Planted(write, look_under_the_lock).undeclared()
    assert line.startswith(
        f"cpu1 at planted read pte {number}, which others write without its lock"
    )


# The shipped code.


def cases_of(name: str) -> list[tuple[Case, int]]:
    """A scenario with all guards on, as the series was written, and with each guard off."""
    scenario = SCENARIOS[name]
    removals = [guards for guards, _ in scenario.removals()]
    removals += [(guard,) for guard in scenario.guards]
    off = [Case(name, "seed"), *(Case(name, without=guards) for guards in removals)]
    return [(Case(name), SCHEDULES), *((case, SCHEDULES_OFF) for case in dict.fromkeys(off))]


@cache
def look(case: Case, schedules: int) -> tuple[list[str], set[str]]:
    """What is not declared, and the labels of the steps that were looked at."""
    labels: set[str] = set()
    return check_case(case, schedules, 1, labels), labels


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_every_step_declares_what_it_touches_guards_on_or_off(name: str) -> None:
    assert [line for case, schedules in cases_of(name) for line in look(case, schedules)[0]] == []


@pytest.mark.parametrize(
    "workload",
    [
        "minor; evict=2; start=store.0 load.1; store.0 msync.0 | munmap.1 | read fsync",
        "evict=2; start=load.0; readonly.0 writable.0 | store.1 | write",
        "evict=1; start=store.2; fork.2 | store.2 | reclaim grace",
        "evict=1; mlock.0 | truncate | dma_in.1 dma_out.0",
    ],
)
def test_programs_put_together_declare_what_they_touch(workload: str) -> None:
    assert check_case(Case(COMPOSED, workload=workload), SCHEDULES, seed=1) == []


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_a_checked_run_takes_the_same_choices_and_ends_the_same(name: str) -> None:
    case = Case(name)
    for schedule in range(3):
        plain = run(case.build, schedule_of(3, schedule))
        assert run(checked(case.build), schedule_of(3, schedule)) == plain


def test_a_case_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no scenario"):
        check_case(Case("no-such"), 1, seed=1)


GUESTS = [
    (0, Shape()),
    (3, Shape(grace=Grace.EACH, minor_faults=True)),
    (4, Shape(grace=Grace.SIGN_OFF)),
    (10, SWAPPING),
    (13, replace(SWAPPING, minor_faults=True)),
]


@pytest.mark.parametrize(("seed", "shape"), GUESTS)
def test_every_operation_of_the_kernel_declares_what_it_touches(seed: int, shape: Shape) -> None:
    world = mixed(seed, shape)
    assert world.undeclared == []
    assert world.world.violations() == []


@cache
def mixed(seed: int, shape: Shape) -> CheckedWorld:
    """A whole guest under a random schedule, until its programs have ended."""
    programs = [
        list(islice(operations(seed, vcpu, shape.weights, shape.program), shape.operations))
        for vcpu in range(shape.vcpus)
    ]
    guest = RandomGuest(shape, FIXED, programs, seed)
    guest._running = -1  # what it looks at in the end is no step of the kernel's
    world, random = checked(lambda: guest.world)(), Random(seed)
    while options := world.options() or _make_room(world):
        random.choice(options).run()
        if random.randrange(10) == 0 and len(guest.world.evictions) < 2:
            guest.world.evictions.append(random.randrange(1, shape.pages))
        if random.randrange(40) == 0:
            guest.kernel.tick(random.randrange(shape.vcpus))
            world.between_steps()
        if world.violations():
            break
    return world


def _make_room(world: CheckedWorld) -> Sequence[Option]:
    """What the host does by itself when everybody waits for a frame."""
    if not (world.world.waits_for_frames() and world.world.reclaim_one()):
        return ()
    world.between_steps()
    return world.options()


@cache
def rarely_done() -> CheckedWorld:
    """What no operation of a program does: compound pages, reserved ones, the plain LRU list."""
    world = new_world(Protections(), vcpu_count=1, page_count=8, lru=LruKind.PLAIN, cache_limit=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)

    async def program(cpu: Cpu) -> None:
        await sys_read(cpu, file, 0, 4)
        await sys_read(cpu, file, 3, 1)
        head = await alloc_compound(cpu, 1)
        assert head is not None
        await put_page(cpu, head)
        await release_reserved_page(cpu, await reserve_page(cpu))

    world.prepare(kernel.boot(kernel.cpus[0]))
    world.run_vcpu(0, program)
    watched = checked(lambda: world)()
    run(lambda: watched, lambda _: 0)
    return watched


def test_so_does_what_is_rarely_done() -> None:
    assert rarely_done().violations() == []
    assert len(rarely_done().world.kernel.free_list) == 5, "all but the lowcore and two cached"


# What is looked at.

STANDS = {
    "point": 0,
    "wait_until": 1,
    "wait_or_interrupt": 1,
    "locked_step": 1,
    "spin_lock": 1,
    "spin_unlock": 1,
    "wait_flag_clear": 2,
    "wait_and_set_flag": 2,
    "_map_step": 1,
}
"""Where the label stands among a call's arguments."""
NEVER = {"invariants.transfer"}
"""Who looks from outside stands there."""


def labels_in_the_source() -> Iterator[str]:
    for path in sorted(KERNEL.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else ""
            name = function.id if isinstance(function, ast.Name) else name
            label = node.args[STANDS[name]] if name in STANDS else None
            if isinstance(label, ast.Constant) and isinstance(label.value, str):
                yield label.value


def test_every_label_of_the_kernel_is_looked_at() -> None:
    seen: set[str] = set()
    for name in SCENARIOS:
        for case, schedules in cases_of(name):
            seen |= look(case, schedules)[1]
    for seed, shape in GUESTS:
        seen |= mixed(seed, shape).labels
    seen |= rarely_done().labels
    assert sorted(set(labels_in_the_source()) - seen - NEVER) == []
