"""Schedules and steps per second of one core, in alternating rounds.

Rules:
- Seconds are processor seconds of this process: what else the machine does counts as little as
  can be. Everything that a schedule costs counts: putting the world back, and its end.
- Each round makes other schedules, the same on every machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.rounds import spread
from race_explorer.campaign import search
from race_explorer.engine import World

STRATEGY = "random"


@dataclass(slots=True)
class Speed:
    """What the rounds gave for one kind of world. steps, schedules: of all rounds."""

    name: str
    build: Callable[[], World]
    per_round: int
    schedules: int = 0
    steps: int = 0
    schedule_rates: list[float] = field(default_factory=list)
    step_rates: list[float] = field(default_factory=list)

    def round(self, number: int) -> None:
        """Make that round's schedules by random walk."""
        begun = time.process_time()
        report = search(
            self.build,
            STRATEGY,
            self.per_round,
            seed=number,
            stop_at_first=False,
            classify_every=0,
        )
        seconds = max(time.process_time() - begun, time.get_clock_info("process_time").resolution)
        self.schedules += report.schedules
        self.steps += report.steps
        self.schedule_rates.append(report.schedules / seconds)
        self.step_rates.append(report.steps / seconds)

    @property
    def length(self) -> float:
        """Steps of a schedule, on average."""
        return self.steps / self.schedules

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "steps_per_schedule": self.length,
            "schedules_measured": self.schedules,
            "schedules_per_second": spread(self.schedule_rates).as_json(),
            "steps_per_second": spread(self.step_rates).as_json(),
        }
