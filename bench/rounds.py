"""Alternating rounds: two sides measured in turn, so that a machine's moods hit both."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Side = Callable[[], Awaitable[float]]
"""Measures once; returns a rate, greater is better."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What the rounds gave: median, quartiles, extremes."""

    median: float
    lower_quartile: float
    upper_quartile: float
    minimum: float
    maximum: float

    def as_json(self) -> dict[str, float]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


def spread(values: Sequence[float]) -> Spread:
    """Summarise at least two values."""
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, lower, upper, min(values), max(values))


@dataclass(slots=True)
class Comparison:
    """Rates of two sides, round by round. Names say what was measured and divided by what."""

    name: str
    ours: str
    baseline: str
    unit: str
    our_rates: list[float] = field(default_factory=list)
    baseline_rates: list[float] = field(default_factory=list)

    async def round(self, number: int, our_side: Side, baseline_side: Side) -> None:
        """Measure both sides; who goes first alternates too."""
        if number % 2:
            baseline = await baseline_side()
            ours = await our_side()
        else:
            ours = await our_side()
            baseline = await baseline_side()
        self.our_rates.append(ours)
        self.baseline_rates.append(baseline)

    @property
    def ratios(self) -> list[float]:
        """Ours by the baseline's, of each round."""
        return [a / b for a, b in zip(self.our_rates, self.baseline_rates, strict=True)]

    @property
    def ratio(self) -> Spread:
        """Of the rounds' ratios."""
        return spread(self.ratios)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "ours": self.ours,
            "baseline": self.baseline,
            "unit": self.unit,
            "rounds": len(self.our_rates),
            "ratio": self.ratio.as_json(),
            "our_rate": spread(self.our_rates).as_json(),
            "baseline_rate": spread(self.baseline_rates).as_json(),
        }
