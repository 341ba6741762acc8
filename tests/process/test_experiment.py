"""Goal: `essa experiment essa-cost` says what hinting costs, and it costs what the patches say.

Method: the command, run in this process. The numbers of 1/6 and 4/6 are held exactly; what lies
between them is held by the orcs that one page sees, in order.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from race_explorer.essa_cost import PATHS, VARIANTS
from shared.arch import Orc
from tests.process.host_process import essa_here

STABLE, UNUSED, VOLATILE, POTENTIAL, IF_RESIDENT = 1, 2, 3, 4, 6


@cache
def report(*options: str) -> dict[str, Any]:
    done = essa_here("experiment", "essa-cost", "--json", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {path["path"]: path["essa_per_page"] for path in found["paths"]}


@pytest.mark.parametrize("variant", ["none", "none, 4/6"])
def test_without_hints_no_path_costs_anything(variant: str) -> None:
    assert {path: cost[variant]["total"] for path, cost in report().items()} == dict.fromkeys(
        (path.name for path in PATHS), 0
    )


@pytest.mark.parametrize("variant", ["unused", "unused, 4/6"])
def test_hints_for_unused_pages_cost_one_per_allocation_and_one_per_free(variant: str) -> None:
    orcs = {path: cost[variant]["sequence"] for path, cost in report().items()}
    allocating = {"major fault", "read, miss", "write, miss"}
    assert orcs.pop("allocation and free") == [STABLE, UNUSED]
    assert {path for path, sequence in orcs.items() if sequence} == allocating
    assert all(orcs[path] == [STABLE] for path in allocating)


@pytest.mark.parametrize(
    ("path", "without", "with_it"),
    [
        ("minor fault, load", 2, 0),
        ("unmap, clean", 1, 0),
        # The first writable pte is 3/6's, and 4/6 leaves it.
        ("minor fault, store", 3, 1),
    ],
)
def test_minor_faults_and_unmaps_cost_what_the_patches_say(
    path: str, without: int, with_it: int
) -> None:
    cost = report()[path]
    assert (cost["volatile"]["total"], cost["volatile, 4/6"]["total"]) == (without, with_it)


@pytest.mark.parametrize(
    ("path", "sequence"),
    [
        ("major fault", [STABLE, VOLATILE]),
        ("unmap, changed", [IF_RESIDENT]),
        ("read, hit", [IF_RESIDENT, VOLATILE]),
        ("read, miss", [STABLE, VOLATILE]),
        ("write, hit", [IF_RESIDENT]),
        ("write, miss", [STABLE]),
        # The check of 3/6 makes stable what it cannot make potential volatile.
        ("allocation and free", [STABLE, IF_RESIDENT, UNUSED]),
    ],
)
@pytest.mark.parametrize("variant", ["volatile", "volatile, 4/6"])
def test_other_paths_do_what_they_must_with_and_without_the_minor_fault_patch(
    path: str, sequence: list[int], variant: str
) -> None:
    assert report()[path][variant]["sequence"] == sequence


@pytest.mark.parametrize("variant", ["volatile", "volatile, 4/6"])
def test_what_was_written_back_is_offered_again(variant: str) -> None:
    assert report()["fsync, dirty page"][variant]["sequence"][-1] == VOLATILE
    assert report()["msync, changed page"][variant]["sequence"][-1] == POTENTIAL


def test_json_is_complete_and_adds_up() -> None:
    costs = report("--pages", "3")
    assert [*costs] == [path.name for path in PATHS]
    for cost in costs.values():
        assert [*cost] == [variant.name for variant in VARIANTS]
        for figures in cost.values():
            assert sum(figures["by_orc"].values()) == pytest.approx(figures["total"])
            assert len(figures["sequence"]) == figures["total"]
            assert set(figures["by_orc"]) == {Orc(o).name.lower() for o in figures["sequence"]}


def test_a_page_costs_the_same_however_many_there_are() -> None:
    assert report("--pages", "3") == report("--pages", "12")


def test_the_series_as_written_offers_pages_after_the_put() -> None:
    assert essa_here("experiment", "essa-cost", "--preset", "seed", "--pages", "2").returncode == 0


def test_the_table_names_every_path_and_promise() -> None:
    done = essa_here("experiment", "essa-cost")
    assert (done.returncode, done.stderr) == (0, "")
    for path in PATHS:
        assert path.name in done.stdout
    assert "promised" in done.stdout
    assert "6 set stable if resident" in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--pages", "0"), "--pages is 0; it must be 1 to 512"),
        (("--pages", "513"), "--pages is 513; it must be 1 to 512"),
        (("--preset", "best"), "--preset is best; it must be seed or fixed"),
        (("--without", "doors"), "--without doors: no such guard"),
    ],
)
def test_bad_input_is_one_line(options: tuple[str, ...], said: str) -> None:
    done = essa_here("experiment", "essa-cost", *options)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_a_bug_that_a_guard_would_have_kept_away_is_one_line() -> None:
    done = essa_here("experiment", "essa-cost", "--without", "stable_first")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "addressing exception" in done.stderr


def test_help_has_an_example() -> None:
    done = essa_here("experiment", "essa-cost", "--help")
    assert "Example: essa experiment essa-cost" in done.stdout
