"""Compositions and the hunt: text and back, cutting down, the holes of 2005 found and closed.

Method: the seed series under a few compositions of a fixed hunt; all guards under the same.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from race_explorer.campaign import search
from race_explorer.case import Case
from race_explorer.draws import Draws
from race_explorer.engine import replay
from race_explorer.hunt.composition import COMPOSED, parse
from race_explorer.hunt.drawing import draw
from race_explorer.hunt.hunt import Hunted, closing_guards, hunt
from race_explorer.shrinking import shrink

LOCKED = "evict=1; start=load.1; mlock.1"


@given(st.integers(0, 1 << 32))
@settings(max_examples=200, deadline=None)
def test_a_composition_is_its_text(seed: int) -> None:
    composition = draw(Draws(seed).below)
    assert parse(str(composition)) == composition
    assert all(parse(str(smaller)) == smaller for smaller in composition.smaller())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("read |", "is empty"),
        ("jump", "'jump' is no operation"),
        ("load", "'load' is no operation"),
        ("load.3", "'load.3' is no operation"),
        ("read.0", "'read.0' is no operation"),
        ("evict=10; read", "'evict=10' is no setting"),
        ("grace=none; read", "'grace=none' is no setting"),
        ("minor=1; read", "'minor=1' is no setting"),
        (" | ".join(["read"] * 7), "7 programs"),
        (" ".join(["read"] * 9), "9 operations"),
    ],
)
def test_a_text_that_is_none_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Case(COMPOSED, workload=text).check()


def test_only_a_composition_has_a_workload() -> None:
    with pytest.raises(ValueError, match="only 'composed'"):
        Case("make-stable-overtakes", workload="read").check()


def test_all_guards_survive_and_the_series_as_written_does_not() -> None:
    numbers = (6, 33)
    fixed = hunt("fixed", (), seed=0, numbers=numbers)
    assert not fixed.holes
    assert fixed.schedules == 20 * len(numbers)
    seed = hunt("seed", (), seed=0, numbers=numbers)
    assert list(seed.holes) == ["bad page freed", "BUG: SWAP_FAIL in unmap_all"]


def test_ranges_put_together_are_one_hunt() -> None:
    whole = hunt("seed", (), seed=0, numbers=range(5, 9))
    parts = Hunted()
    for first in (5, 7):
        parts.add(hunt("seed", (), seed=0, numbers=range(first, first + 2)))
    assert whole.holes
    assert parts == whole


def test_a_hole_is_cut_down_replays_and_names_what_closes_it() -> None:
    wide = Case(
        COMPOSED, preset="seed", workload="evict=2; start=load.1 load.0; mlock.1 load.1 | read"
    )
    found = hunt_until(wide)
    shrunk = shrink(wide, found)
    assert shrunk.case.workload == LOCKED
    assert replay(shrunk.case.build, shrunk.run.choices).violations
    assert closing_guards(shrunk.case, "BUG: SWAP_FAIL in unmap_all", 100) == [
        "unmap_ignores_locked"
    ]


def hunt_until(case: Case) -> tuple[int, ...]:
    """The choices of a run of this case that goes wrong."""
    run = search(case.build, "portfolio", 400).counterexample
    assert run is not None
    return run.choices
