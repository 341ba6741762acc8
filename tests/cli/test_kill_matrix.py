"""The kill matrix: what is searched, what is made of it, and how the command ends."""

from __future__ import annotations

import json

import pytest

from essa_cli.races_matrix import exit_code
from race_explorer.catalogue import guards
from race_explorer.kill_matrix import FAST, FULL, Cell, cells, examine, summary, table
from race_explorer.scenarios import SCENARIOS
from race_explorer.series_defects import MUST_BE_FOUND, sight
from race_explorer.series_defects import summary as series
from tests.cli.command import Essa

GUARD = "stable_first"
WHERE = "cleared-before-stable"


@pytest.mark.parametrize("effort", [FAST, FULL])
def test_every_guard_is_tried_in_every_scenario_and_where_it_is_named_first(effort: object) -> None:
    asked = cells([], effort)  # type: ignore[arg-type]
    tried = {(cell.scenario, guard) for cell in asked for guard in cell.off}
    assert tried == {(name, guard.name) for name in SCENARIOS for _, guard in guards()}
    assert {cell.scenario for cell in asked if not cell.off} == set(SCENARIOS)
    order = [cell.named for cell in asked]
    assert order == sorted(order, reverse=True)


def test_the_median_is_over_the_seeds_and_goes_on_depth_first_where_drawing_was_in_vain() -> None:
    found: dict[Cell, int | None] = {
        Cell(WHERE, (GUARD,), 60_000): 7,
        Cell(WHERE, (GUARD,), 25, "portfolio", 0): 3,
        Cell(WHERE, (GUARD,), 25, "portfolio", 1): None,
        Cell(WHERE, (GUARD,), 25, "portfolio", 2): 20,
        Cell("late-pte", (GUARD,), 1, "portfolio", named=False): None,
        Cell(WHERE, (), 10): None,
        Cell("late-pte", (), 10): 4,
    }
    told = summary([GUARD], found)
    assert told["guards"][GUARD]["killed_by"] == [WHERE]
    assert told["guards"][GUARD]["schedules_median"] == 20, "of 3, 20 and 25 + 7"
    assert told["guards"][GUARD]["samples"] == told["seeds"] == 3
    assert told["false_alarms"] == ["late-pte"]
    assert table([GUARD], found) == {GUARD: {WHERE: 20, "late-pte": None}}


def test_a_search_counts_up_to_its_violation() -> None:
    assert examine(Cell(WHERE, (GUARD,), 100)) == 1
    assert examine(Cell(WHERE, (), 20)) is None


def test_the_end_says_what_is_certain() -> None:
    killed = {"guards": {GUARD: {"killed_by": [WHERE]}}, "false_alarms": []}
    alive = {"guards": {GUARD: {"killed_by": []}}, "false_alarms": []}
    left = [Cell("late-pte", (GUARD,), 1)]
    assert exit_code(killed, []) == 0
    assert exit_code(killed, left) == 3
    assert exit_code(alive, left) == 3, "somebody may still find it"
    assert exit_code(alive, []) == 1
    assert exit_code({**killed, "false_alarms": ["late-pte"]}, left) == 1


def test_defects_of_the_series_are_found_and_each_is_closed_by_its_guard() -> None:
    names = ("volatile-after-put", "last-put-in-an-interrupt", "stale-change-bit")
    told = series({name: sight(name) for name in names})
    found = {row for defect in told["defects"] if defect["found_by"] for row in defect["rows"]}
    assert {"R20", "R50", "R51"} <= found
    assert told["missing_rows"] == [row for row in MUST_BE_FOUND if row not in found]


@pytest.mark.process
def test_the_series_is_missed_in_nothing_that_is_known(essa: Essa) -> None:
    ended = essa("races", "kill-matrix", "--preset", "seed", "--json")
    assert ended.code == 0, ended.out + ended.err
    told = json.loads(ended.out)
    assert told["missing_rows"] == []
    rows = {row: d["found_by"] for d in told["defects"] for row in d["rows"] if d["found_by"]}
    for row in MUST_BE_FOUND:
        assert all(sighting["replay"] and sighting["schedules"] for sighting in rows[row])


def test_wrong_words_are_one_line(essa: Essa) -> None:
    for words in (("--guard", "no"), ("--preset", "no"), ("--preset", "seed", "--guard", GUARD)):
        ended = essa("races", "kill-matrix", *words)
        assert (ended.code, ended.err.count("\n")) == (2, 1)
