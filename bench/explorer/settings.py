"""How much of the race explorer is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from race_explorer.case import Case

STRATEGIES: Final = ("random", "pct", "pos", "urw", "delay")
"""Whose schedules to find are counted. Delay bounding draws nothing: one search says all."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Sizes of one run; the defaults are what `python -m bench.explorer` does.

    rounds: of everything whose speed is measured, in turn. speed: scenarios, and how many random
    schedules of each in a round. toy_schedules: of the toy in a round; other_schedules: of the
    same in frontrun, which is slower. guards: by the name of their replay, none for all.
    seeds: searches for each guard and strategy. schedules_max: of each search.
    exhaustive: what is exhausted with each reduction; runs_max: of each, abandoned ones included.
    """

    rounds: int = 5
    speed: tuple[tuple[str, int], ...] = (
        ("dirty-bit-in-transit", 200),
        ("writable-pte-unannounced", 100),
        ("fault-holds-the-page-lock", 50),
    )
    toy_schedules: int = 3_000
    other_schedules: int = 50
    guards: tuple[str, ...] = (
        "flags_after_counts",
        "stable_before_clear",
        "counts_in_one_load",
        "dismiss_duplicate_faults",
        "state_change",
        "unlock_before_discard",
    )
    seeds: int = 8
    schedules_max: int = 200
    exhaustive: tuple[Case, ...] = (
        Case("change-bit-read-early"),
        Case("free-page-resurrected"),
        Case("second-discard-fault"),
        Case("borrowed-reference"),
    )
    runs_max: int = 500


FULL: Final = Settings(
    rounds=9,
    guards=(),
    seeds=20,
    schedules_max=1_000,
    exhaustive=(
        *Settings().exhaustive,
        Case("inverted-loop"),
        Case("copy-source-discarded"),
        Case("make-stable-overtakes"),
    ),
    runs_max=5_000,
)
"""Every guard. Most of its time, an hour or more, goes where a strategy finds nothing."""
TINY: Final = Settings(
    rounds=2,
    speed=(("enabled-too-early", 2), ("second-discard-fault", 1)),
    toy_schedules=5,
    other_schedules=2,
    guards=("unlock_before_discard", "state_change"),
    seeds=2,
    schedules_max=5,
    exhaustive=(Case("enabled-too-early"), Case("free-page-resurrected")),
    runs_max=50,
)
"""Shows that everything works, and nothing about speed."""
