"""Worlds that are used again are the same as new ones, in everything that a run could tell."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import pytest

from race_explorer.actors import Step, always, stand
from race_explorer.case import Case
from race_explorer.draws import Draws
from race_explorer.engine import Option
from race_explorer.hunt.composition import COMPOSED
from race_explorer.oracles.watching import watch
from race_explorer.recording import Recording, record_with
from race_explorer.recycling import Beginning, CannotRecycleError, recycled
from race_explorer.scenarios import SCENARIOS
from race_explorer.world import SimWorld
from tests.races.graph import describe_graph

COMPOSITIONS = (
    "minor; evict=2; start=store.0 load.1; store.0 msync.0 | munmap.1 | read fsync",
    "grace=each; evict=1; start=store.2; fork.2 reclaim | store.2 | truncate",
)
FAULTS = ("tick=1,pause=1", "request_lost=1,duplicate=1", "power=1", "write_fails=1,checkpoint=1")
CASES = [
    *(Case(name, without=SCENARIOS[name].removals()[0][0]) for name in sorted(SCENARIOS)),
    *(Case(COMPOSED, workload=workload) for workload in COMPOSITIONS),
    *(Case("dirty-bit-in-transit", faults=faults) for faults in FAULTS),
    Case("second-discard-fault", dropped=("cpu1",)),
]
STEPS_BEFORE = 40


def at_random(seed: int) -> Callable[[list[Option]], int]:
    draws = Draws(seed)
    return lambda options: draws.below(len(options))


def recorded(build: Callable[[], SimWorld], seed: int) -> Recording:
    return record_with(build, at_random(seed))  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.scenario}-{case.faults}")
def test_a_run_of_a_world_that_was_used_is_that_of_a_new_one(case: Case) -> None:
    again = recycled(case.build)
    for seed in (1, 2, 1):
        assert recorded(again, seed) == recorded(case.build, seed)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.scenario}-{case.faults}")
def test_what_was_put_back_is_what_a_new_world_is_made_of(case: Case) -> None:
    again = recycled(case.build)
    used, choose = again(), at_random(3)
    for _ in range(STEPS_BEFORE):
        options = used.options()
        if options and not used.violations():
            options[choose(options)].run()
    assert describe_graph(again()) == describe_graph(case.build())


def test_a_world_is_used_again_also_after_it_has_come_to_its_end() -> None:
    again = recycled(Case("dirty-bit-in-transit").build)
    used = again()
    record_with(lambda: used, at_random(1))  # type: ignore[arg-type]
    assert again() is used
    assert describe_graph(used) == describe_graph(Case("dirty-bit-in-transit").build())


@pytest.mark.parametrize("name", ["dirty-bit-in-transit", "late-second-copy", "late-pte"])
def test_so_are_runs_under_the_eyes_of_oracles(name: str) -> None:
    case = Case(name, without=SCENARIOS[name].removals()[0][0])
    again = watch(recycled(case.build))
    for seed in (1, 2, 1):
        assert recorded(again, seed) == recorded(watch(case.build), seed)


def test_a_world_whose_program_stands_somewhere_is_built_anew() -> None:
    again = recycled(Case("enabled-too-early").build)
    assert again() is not again()


class _Plain:
    def __init__(self) -> None:
        self.number = 1
        self.later: dict[str, int] = {}


@dataclass(slots=True)
class _Slotted:
    values: list[int] = field(default_factory=lambda: [1, 2])
    lines: deque[int] = field(default_factory=lambda: deque([1, 2], maxlen=2))
    numbers: Counter[str] = field(default_factory=lambda: Counter(a=1))
    order: OrderedDict[int, int] = field(default_factory=lambda: OrderedDict({2: 0, 1: 0}))
    names: set[str] = field(default_factory=lambda: {"a"})
    raw: bytearray = field(default_factory=lambda: bytearray(b"abc"))
    cells: np.ndarray = field(default_factory=lambda: np.arange(3))
    plain: _Plain = field(default_factory=_Plain)


def test_every_kind_of_container_is_put_back_in_place() -> None:
    found = _Slotted()
    held = [getattr(found, name) for name in found.__slots__]
    view, before = memoryview(found.raw), describe_graph(_Slotted())
    beginning = Beginning(found)
    found.values.append(3)
    found.lines.append(3)
    found.numbers.update(a=5, b=1)
    found.order.move_to_end(2)
    found.names.add("b")
    view[0] = 0
    found.cells += 1
    found.plain.number = 2
    found.plain.later["a"] = 1
    found.plain.more = 1  # type: ignore[attr-defined]
    found.values, found.plain = [], _Plain()
    assert describe_graph(found) != before
    beginning.restore()
    assert describe_graph(found) == before
    now = [getattr(found, name) for name in found.__slots__]
    assert all(one is other for one, other in zip(held, now, strict=True))


def test_variables_of_functions_are_put_back() -> None:
    value, reads = 1, list[int]()

    def look() -> None:
        nonlocal value
        reads.append(value)
        value += 1

    beginning = Beginning(look)
    look()
    look()
    beginning.restore()
    assert (value, reads) == (1, [])


def test_what_cannot_be_put_back_is_refused() -> None:
    async def program() -> None:
        await stand(Step("step", tuple, always))

    standing: Coroutine[Any, None, None] = program()
    for found in (standing, count(), [iter(())], {"a": count()}):
        with pytest.raises(CannotRecycleError):
            Beginning(found)
    standing.close()
