"""Goal: the count of false alarms is one of schedules that were run, and an alarm is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.explorer import false_alarms
from race_explorer.case import Case
from race_explorer.scenarios import SCENARIOS


def test_every_scenario_gets_its_share_by_every_strategy() -> None:
    parts = list(false_alarms.parts(100_000))
    total = sum(part.schedules for part in parts)
    assert 100_000 <= total < 100_000 + len(SCENARIOS) * len(false_alarms.STRATEGIES)
    shares = {
        (scenario, strategy): sum(
            p.schedules for p in parts if (p.scenario, p.strategy) == (scenario, strategy)
        )
        for scenario in SCENARIOS
        for strategy in false_alarms.STRATEGIES
    }
    assert len(set(shares.values())) == 1
    assert len(set(parts)) == len(parts)


def test_nothing_is_violated_and_steps_are_counted() -> None:
    part = false_alarms.Part("dirty-bit-in-transit", "random", 0, 20)
    tally = false_alarms.run(part)
    assert (tally.schedules, tally.alarms) == (20, ())
    assert tally.steps > 20
    assert false_alarms.run(part) == tally
    assert tally + tally == false_alarms.Tally(40, 2 * tally.steps)


def test_what_is_violated_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        false_alarms, "Case", lambda name: replace(Case(name), without=("stable_before_clear",))
    )
    tally = false_alarms.run(false_alarms.Part("dirty-bit-in-transit", "random", 0, 200))
    assert tally.schedules == 200
    (alarm,) = tally.alarms
    assert "dirty-bit-in-transit" in alarm
    assert "discarded" in alarm
