"""The step engine itself, on toy worlds whose schedules can be counted by hand.

Method: two counters with separate loads and stores; known numbers of schedules; reductions
against plain depth-first search.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guest_agent.kernel.page import reads, writes
from guest_agent.kernel.ports import Access
from race_explorer.engine import ANY, DivergedError, Option, dependent, replay
from race_explorer.exhaustive import Reduction, explore

Plan = dict[str, list[tuple[str, Access]]]


class Counters:
    """Actors that load a cell and store the loaded value plus one; or touch a private cell."""

    def __init__(self, plan: Plan) -> None:
        self.plan = {name: list(steps) for name, steps in plan.items()}
        self.cells = {0: 0, 1: 0, 2: 0}
        self.loaded = dict.fromkeys(plan, 0)

    def options(self) -> list[Option]:
        return [
            Option(name, steps[0][0], (steps[0][1],), lambda name=name: self._run(name))  # type: ignore[misc]
            for name, steps in self.plan.items()
            if steps
        ]

    def waiting(self) -> list[Option]:
        return []

    def _run(self, name: str) -> None:
        label, access = self.plan[name].pop(0)
        cell = access.resource[1]
        if label == "load":
            self.loaded[name] = self.cells[cell]
        else:
            self.cells[cell] = self.loaded[name] + 1

    def violations(self) -> list[str]:
        return []

    def finished(self) -> list[str]:
        done = not any(self.plan.values())
        return ["an update is lost"] if done and self.cells[0] < self.expected() else []

    def expected(self) -> int:
        return 2

    def reached(self) -> set[str]:
        return {f"cell {self.cells[0]}"}


def increment(cell: int) -> list[tuple[str, Access]]:
    return [("load", reads("cell", cell)), ("store", writes("cell", cell))]


def test_a_lost_update_is_found_and_replays() -> None:
    plan = {"a": increment(0), "b": increment(0)}
    report = explore(lambda: Counters(plan), schedules_max=100)
    found = report.counterexample
    assert found is not None
    assert found.violations == ("an update is lost",)
    assert replay(lambda: Counters(plan), found.choices) == found


def test_plain_search_counts_every_order() -> None:
    plan = {"a": increment(0), "b": increment(0)}
    report = explore(
        lambda: Counters(plan), schedules_max=100, reduction=Reduction.NONE, stop_at_first=False
    )
    assert report.exhausted
    assert report.schedules == 6  # C(4, 2)
    assert report.reached == {"cell 2": 2, "cell 1": 4}


def test_independent_actors_need_one_schedule() -> None:
    plan = {"a": increment(1), "b": increment(2)}
    report = explore(lambda: Counters(plan), schedules_max=100, stop_at_first=False)
    assert report.exhausted
    assert report.schedules == 1


def test_a_budget_is_no_exhaustion() -> None:
    plan = {"a": increment(0), "b": increment(0)}
    report = explore(
        lambda: Counters(plan), schedules_max=3, reduction=Reduction.NONE, stop_at_first=False
    )
    assert not report.exhausted


def test_a_choice_that_is_not_offered_is_refused() -> None:
    with pytest.raises(DivergedError, match="choice 7 of 2"):
        replay(lambda: Counters({"a": increment(0), "b": increment(0)}), [7])


def test_dependence_is_a_shared_resource_that_one_side_writes() -> None:
    assert not dependent([reads("x", 1)], [reads("x", 1)])
    assert dependent([reads("x", 1)], [writes("x", 1)])
    assert not dependent([writes("x", 1)], [writes("x", 2)])
    assert not dependent([writes("x", 1)], [writes("y", 1)])
    assert dependent([reads("x", ANY)], [writes("x", 2)])


STEPS = st.builds(
    lambda store, cell: ("store", writes("cell", cell)) if store else ("load", reads("cell", cell)),
    st.booleans(),
    st.integers(0, 2),
)


@given(st.lists(st.lists(STEPS, min_size=1, max_size=3), min_size=2, max_size=3))
@settings(max_examples=60, deadline=None)
def test_reductions_reach_the_outcomes_of_plain_search(
    steps: list[list[tuple[str, Access]]],
) -> None:
    """Random small programs end in the same set of memories either way."""
    plan = dict(zip("abc", steps, strict=False))
    plain, sleeping, source = (
        explore(
            lambda: Memories(plan), schedules_max=5_000, reduction=reduction, stop_at_first=False
        )
        for reduction in Reduction
    )
    assert plain.exhausted
    assert sleeping.exhausted
    assert source.exhausted
    assert set(plain.reached) == set(sleeping.reached) == set(source.reached)
    assert source.schedules == sleeping.schedules <= plain.schedules
    assert source.pruned <= sleeping.pruned


class Memories(Counters):
    """Counters whose outcome is the whole memory and what each actor loaded."""

    def finished(self) -> list[str]:
        return []

    def reached(self) -> set[str]:
        return {f"{self.cells} {self.loaded}"}
