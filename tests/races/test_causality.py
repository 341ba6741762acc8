"""Happens-before and races equal what their definitions say, on random sequences of steps.

Method: hypothesis draws actors and accesses; the closure is computed by brute force.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from guest_agent.kernel.ports import Access
from race_explorer.causality import clocks, cone, precedes, races
from race_explorer.engine import ANY, dependent


@dataclass(frozen=True, slots=True)
class _Step:
    actor: str
    accesses: tuple[Access, ...]


_ACCESS = st.builds(
    Access,
    st.tuples(st.sampled_from(("flags", "host")), st.sampled_from((ANY, 1, 2))),
    st.booleans(),
)
_STEP = st.builds(
    _Step, st.sampled_from("abcd"), st.lists(_ACCESS, max_size=2).map(tuple[Access, ...])
)
_STEPS = st.lists(_STEP, max_size=10)


def _ordered(steps: list[_Step]) -> set[tuple[int, int]]:
    """The transitive closure of program order and dependence."""
    order = {
        (i, j)
        for j, second in enumerate(steps)
        for i, first in enumerate(steps[:j])
        if first.actor == second.actor or dependent(first.accesses, second.accesses)
    }
    for k in range(len(steps)):
        before = [i for i in range(k) if (i, k) in order]
        order |= {(i, j) for i in before for j in range(k, len(steps)) if (k, j) in order}
    return order


@given(_STEPS)
def test_clocks_say_what_came_before(steps: list[_Step]) -> None:
    found, order = clocks(steps), _ordered(steps)
    pairs = [(i, j) for i in range(len(steps)) for j in range(len(steps))]
    assert {pair for pair in pairs if precedes(found, steps, *pair)} == order
    for last in range(len(steps)):
        assert cone(steps, last) == {i for i, j in order if j == last} | {last}


@given(_STEPS)
def test_races_are_the_pairs_that_nothing_else_orders(steps: list[_Step]) -> None:
    order = _ordered(steps)
    assert races(steps) == sorted(
        (i, j)
        for i, j in order
        if steps[i].actor != steps[j].actor
        and not any((i, k) in order and (k, j) in order for k in range(i + 1, j))
    )
