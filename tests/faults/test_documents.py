"""docs/FAULTS.md names every kind of fault, in the table's order, with tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

from essa_cli.fault_plan import COUNTERS, load_plan, shipped
from shared.faults import Kind

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "FAULTS.md").read_text()


def test_the_table_has_every_kind_once() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \|", TEXT, re.MULTILINE) == list(Kind)


def test_the_tests_that_it_names_are_there() -> None:
    for name in set(re.findall(r"`((?:tests/\w+/)?test_\w+\.py)`", TEXT)):
        place = ROOT / name if "/" in name else ROOT / "tests" / "faults" / name
        assert place.is_file(), name


def test_plans_and_triggers_are_named() -> None:
    for name in (*shipped(), *COUNTERS):
        assert f"`{name}`" in TEXT, name


def test_the_plan_shown_is_a_plan(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    path = tmp_path / "plan.toml"
    path.write_text(example)
    assert len(load_plan(str(path)).entries) == 3
