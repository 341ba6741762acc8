"""The replays in docs/FINDINGS.md do what the page says.

Method: every "Replay NAME in PRESET", with or without a guard, is parsed and replayed choice by
choice.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from guest_agent.kernel.guards import PRESETS
from race_explorer.engine import replay
from race_explorer.scenarios import SCENARIOS
from race_explorer.scenarios.scenario import Protections

PAGE = (Path(__file__).parents[2] / "docs" / "FINDINGS.md").read_text()
REPLAYS = re.findall(
    r"Replay `([\w-]+)` in `(\w+)`(?: without `(\w+)`)?:\n\n((?: {4}[\d ]+\n)+)", PAGE
)


def test_every_finding_has_a_replay() -> None:
    assert len(REPLAYS) == len(re.findall(r"^## ", PAGE, re.MULTILINE))


@pytest.mark.parametrize(
    ("name", "preset", "guard", "choices"), REPLAYS, ids=[r[0] for r in REPLAYS]
)
def test_the_replay_ends_in_the_violation(name: str, preset: str, guard: str, choices: str) -> None:
    numbers = [int(n) for n in choices.split()]
    protections = Protections(PRESETS[preset]).without(*guard.split())
    run = replay(lambda: SCENARIOS[name].build(protections), numbers)
    assert run.violations
    assert len(run.choices) == len(numbers)
