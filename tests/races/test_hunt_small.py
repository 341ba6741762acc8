"""Small compositions, all of whose schedules are tried: what is counted, and what is found."""

from __future__ import annotations

import pytest

from essa_cli import races_exhaust
from race_explorer.case import Case
from race_explorer.exhaustive import Reduction, explore
from race_explorer.hunt.composition import COMPOSED, parse
from race_explorer.hunt.small import SMALL, exhaust

TINY = "evict=1; start=store.0; readonly.0 | look"
LOST = "evict=1; start=store.0; msync.0 | readonly.0"


@pytest.mark.parametrize("text", SMALL)
def test_each_has_three_actors_and_one_page(text: str) -> None:
    composition = parse(text)
    assert str(composition) == text
    assert len(composition.programs) >= 2
    assert composition.evictions


def test_every_schedule_is_tried_and_none_goes_wrong() -> None:
    found = exhaust(TINY, "fixed", ())
    assert (found.complete, found.violation, found.choices) == (True, "", ())
    case = Case(COMPOSED, workload=TINY)
    asleep = explore(case.build, schedules_max=10_000, reduction=Reduction.SLEEP_SETS)
    assert found.schedules == asleep.schedules > 5


def test_where_the_bound_comes_first_nothing_is_promised() -> None:
    found = exhaust(LOST, "fixed", (), bound=20)
    assert not found.complete
    assert not found.violation
    assert found.schedules + found.abandoned == 20
    assert [one["verdict"] for one in races_exhaust.summary([found])["compositions"]] == [
        "inconclusive: the bound"
    ]


def test_what_goes_wrong_is_cut_down() -> None:
    found = exhaust(LOST, "fixed", ("stable_before_clear",))
    assert "discarded" in found.violation
    assert found.choices
    (hole,) = races_exhaust.holes([found, found], "fixed", ("stable_before_clear",))
    assert (hole["seen"], hole["composition"]) == (2, LOST)
    assert hole["signature"] == found.signature
    assert len(hole["choices"]) == hole["steps"]
