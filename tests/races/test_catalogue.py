"""Goal: docs/RACES.md says what the code does, and leaves no race and no guard out.

Method: the document is generated anew and compared; rows are held against the guards that name
them, guards against the functions they claim to stand in and the scenarios that miss them.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

from guest_agent.kernel.guards import PRESETS, SEED
from race_explorer.catalogue import (
    GROUPS,
    SEED_HAS,
    Group,
    answered_by,
    document,
    guards,
    lacks,
    scenarios_of,
)
from race_explorer.race_rows import ROWS, Race
from race_explorer.scenarios import SCENARIOS
from shared.protection import Protection

RACES = Path(__file__).parents[2] / "docs" / "RACES.md"
EVERY_GUARD = guards()
NAMES = [guard.name for _, guard in EVERY_GUARD]

WITHOUT_SCENARIO: set[str] = set()
"""Guards that no scenario names yet. Nothing may be added; what gains a scenario goes."""


def _places(package: str, path: str) -> list[object]:
    """What a guard's path may mean: a name of a module, or a method of one of its classes."""
    module_path, _, name = path.rpartition(".")
    module = importlib.import_module(f"{package}.{module_path}")
    if hasattr(module, name):
        return [getattr(module, name)]
    classes = [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__
    ]
    return [vars(kind)[name] for kind in classes if name in vars(kind)]


def test_the_document_is_fresh() -> None:
    assert RACES.read_text(encoding="utf-8") == document(), "run `make docs`"


def test_it_holds_every_row_guard_and_scenario() -> None:
    lines = document().splitlines()
    rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    for race in ROWS:
        assert race.story in rows[race.name]
    for guard in NAMES:
        assert f"`{guard}`" in rows
    for name in SCENARIOS:
        assert any(f"`{name}`" in line for line in lines), f"{name} is nowhere"


def test_the_rows_are_r1_to_r54() -> None:
    assert sorted(race.name for race in ROWS) == sorted(f"R{n}" for n in range(1, 55))


@pytest.mark.parametrize("race", ROWS, ids=lambda race: race.name)
def test_a_row_is_answered_or_outside_and_never_both(race: Race) -> None:
    assert bool(answered_by(race)) != bool(race.outside)


@pytest.mark.parametrize(("group", "guard"), EVERY_GUARD, ids=NAMES)
def test_a_guard_answers_rows_and_stands_in_a_function_that_exist(
    group: Group, guard: Protection
) -> None:
    assert set(guard.races) <= {race.name for race in ROWS}
    assert len(_places(group.package, guard.path)) == 1, guard.path
    assert guard.source
    assert guard.does


@pytest.mark.parametrize(("group", "guard"), EVERY_GUARD, ids=NAMES)
def test_a_guard_is_read_in_the_module_where_it_stands(group: Group, guard: Protection) -> None:
    (place,) = _places(group.package, guard.path)
    module = inspect.getmodule(place)
    assert module is not None
    assert f"guards.{guard.name}" in inspect.getsource(module)


def test_no_two_guards_have_one_name() -> None:
    assert len(NAMES) == len(set(NAMES))
    assert len(GROUPS) == 3


def test_scenarios_name_guards_and_rows_that_exist() -> None:
    for scenario in SCENARIOS.values():
        assert set(scenario.guards) <= set(NAMES), scenario.name
        assert set(scenario.races) <= {race.name for race in ROWS}, scenario.name


def test_every_guard_is_missed_by_a_scenario() -> None:
    found = {guard for guard in NAMES if not scenarios_of(guard)}
    assert not found - WITHOUT_SCENARIO, "no scenario misses these guards"
    assert not WITHOUT_SCENARIO - found, "these have a scenario now: take them off the list"


def test_the_presets_say_what_they_lack() -> None:
    assert lacks(PRESETS["fixed"]) == []
    assert set(lacks(SEED)) == set(SEED_HAS), "SEED_HAS must name what `seed` lacks, and no more"
