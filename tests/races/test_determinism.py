"""A run is the same twice, under other hash seeds and other Pythons; and where it is not, it shows.

Method: runs of committed replays are digested in processes of their own; a world is planted that
is not deterministic.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from race_explorer.case import Case
from race_explorer.determinism import check_twice, compare, standing_at
from race_explorer.engine import Option
from race_explorer.recording import record, record_with
from race_explorer.replays.guides import Anchored, Guided
from race_explorer.replays.text import load
from race_explorer.scenarios import SCENARIOS
from race_explorer.world import SimWorld

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests" / "replays").glob("*.essa-replay"))
SAMPLE = FILES[::6]
DIGESTS = """
import sys
from pathlib import Path
from race_explorer.recording import record_with
from race_explorer.replays.guides import Anchored, Guided
from race_explorer.replays.text import load
for name in sys.argv[1:]:
    replay = load(Path(name))
    print(record_with(replay.case.build, Guided(Anchored(replay.schedule))).digest)
"""
HERE = [
    record_with(replay.case.build, Guided(Anchored(replay.schedule))).digest
    for replay in map(load, SAMPLE)
]


def _pythons() -> list[str]:
    """This Python, and 3.13 if it is there with what we need (numpy is all that runs need)."""
    found = shutil.which("python3.13")
    if found is None:
        return [sys.executable]
    asked = subprocess.run(
        [found, "-c", "import race_explorer.case"], cwd=ROOT, capture_output=True, check=False
    )
    return [sys.executable] if asked.returncode else [sys.executable, found]


@pytest.mark.parametrize("hash_seed", ["0", "1"])
@pytest.mark.parametrize("python", _pythons())
def test_digests_are_equal_under_every_hash_seed_and_python(python: str, hash_seed: str) -> None:
    ran = subprocess.run(
        [python, "-c", DIGESTS, *map(str, SAMPLE)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == HERE


@pytest.mark.parametrize("name", list(SCENARIOS)[::7])
def test_scenarios_are_the_same_twice(name: str) -> None:
    case = Case(name)
    assert check_twice(case, ()) is None
    assert check_twice(case, [1] * 20) is None


class _Moody(SimWorld):
    """A world that gets other options at its fifth step when it is built for the second time."""

    built = 0

    @classmethod
    def of(cls, case: Case) -> SimWorld:
        world = case.build()
        world.__class__ = cls
        cls.built += 1
        world.mood = cls.built  # type: ignore[attr-defined]
        world.asked = 0  # type: ignore[attr-defined]
        return world

    def options(self) -> list[Option]:
        self.asked = self.asked + 1  # type: ignore[has-type]
        options = super().options()
        turned = self.mood == 2 and self.asked == 5  # type: ignore[attr-defined]
        return options[::-1] if turned else options


def test_the_first_difference_is_told_with_both_sides_and_where_everybody_stood() -> None:
    case = Case("make-stable-overtakes")
    _Moody.built = 0
    found = compare(lambda: _Moody.of(case), ())
    assert found is not None
    assert found.step == 5
    assert found.first is not None
    assert found.second is not None
    plain = record(case.build, ())
    assert (found.first.actor, found.first.label) == (plain.steps[4].actor, plain.steps[4].label)
    assert found.second.actor == plain.steps[4].enabled[-1][0]
    told = found.describe()
    assert told.startswith(f"step 5: {found.first.actor} {found.first.label} in the first run")
    assert "could have run" in told
    places = re.findall(r"cpu0 stood at (\S+):(\d+) in (\w+) in the (first|second)", told)
    assert [place[3] for place in places] == ["first", "second"]
    for file, line, function, _ in places:
        source = (ROOT / file).read_text().splitlines()
        assert "await" in source[int(line) - 1], f"{function} waits there"


def test_a_run_that_is_over_earlier_differs_there() -> None:
    long = Case("make-stable-overtakes")
    short = Case("make-stable-overtakes", dropped=("host.evict.1",))
    worlds = [long.build, short.build]
    choices = record(long.build, ()).choices
    found = compare(lambda: worlds.pop(0)(), choices)
    assert found is not None
    assert found.second is not None
    assert "host.evict.1" in found.describe()


def test_a_program_stands_in_its_own_code_not_in_the_plumbing() -> None:
    world = Case("dirty-bit-in-transit").build()
    standing = {actor.name: standing_at(actor.program) for actor in world.standing()}
    assert set(standing) == {"cpu0", "cpu1"}
    assert all(re.fullmatch(r"\S+\.py:\d+ in \w+", place) for place in standing.values())
    assert standing["cpu1"].startswith("guest_agent/kernel/page_hva.py:")
