"""The table for people, and the same as JSON."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from bench.memory import MemoryResult
from bench.rounds import Comparison, spread
from bench.settings import GATHERED_VCPUS, TARGETS


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that a run measured.

    unary: by commands in flight, one first. alone: rates with one command in flight, beside
    gathered. slots_held: pages on the paging device at the beginning of each round of arrays.
    refused: the same arrays in problem state; it has no target.
    """

    unary: tuple[Comparison, Comparison]
    arrays: Comparison
    slots_held: list[int]
    refused: Comparison
    gathered: Comparison
    alone: list[float]
    memory: MemoryResult
    seconds: float

    @property
    def headline(self) -> dict[str, float]:
        """One number for each target. Of the two unary ratios, the worse."""
        return {
            "unary_essa_vs_echo": min(c.ratio.median for c in self.unary),
            "array_essa_vs_echo": self.arrays.ratio.median,
            "gathered_vs_single": self.gathered.ratio.median,
            "array_essas_per_second": statistics.median(self.arrays.our_rates),
            "host_bytes_per_page": self.memory.bytes_per_page,
        }

    def met(self, name: str) -> bool:
        """Whether a target is met."""
        value, target = self.headline[name], TARGETS[name]
        return value <= target if name == "host_bytes_per_page" else value >= target

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        headline = self.headline
        single, several = self.unary
        return {
            "ratios": {
                name: headline[name]
                for name in ("unary_essa_vs_echo", "array_essa_vs_echo", "gathered_vs_single")
            },
            "array_essas_per_second": headline["array_essas_per_second"],
            "host_bytes_per_page": headline["host_bytes_per_page"],
            "targets": TARGETS,
            "met": {name: self.met(name) for name in TARGETS},
            "unary_one_in_flight": single.as_json(),
            "unary_several_in_flight": several.as_json(),
            "array": self.arrays.as_json() | {"slots_held": self.slots_held},
            "array_refused": self.refused.as_json(),
            "gathered": self.gathered.as_json(),
            "one_in_flight_per_second": spread(self.alone).as_json(),
            "memory": self.memory.as_json(),
            "seconds": self.seconds,
        }


def table(results: Results) -> Table:
    """What was measured, and what each ratio was divided by."""
    view = Table(title="bench: medians of alternating rounds", title_justify="left")
    for name in ("measure", "ours", "divided by", "ratio", "quartiles", "min to max", "target"):
        view.add_column(name, justify="left" if name == "measure" else "right", overflow="fold")
    for comparison in results.unary:
        _add(view, comparison, "unary_essa_vs_echo")
    _add(view, results.arrays, "array_essa_vs_echo")
    rate = spread(results.arrays.our_rates)
    view.add_row(
        "array ESSAs per second",
        f"{rate.median / 1e6:.1f} M",
        "",
        "",
        _range(rate.lower_quartile / 1e6, rate.upper_quartile / 1e6, 1),
        _range(rate.minimum / 1e6, rate.maximum / 1e6, 1),
        _target(results, "array_essas_per_second", ">= 10 M"),
    )
    _add(view, results.refused)
    _add(view, results.gathered, "gathered_vs_single")
    alone = spread(results.alone)
    view.add_row(
        f"(one command in flight, not {GATHERED_VCPUS})", _rate(alone.median, "commands/s")
    )
    memory = results.memory
    view.add_row(
        f"host bytes per page, {memory.page_count:,} pages",
        f"{memory.essas_growth / (1 << 20):.1f} MiB",
        "the guest's pages",
        f"{memory.bytes_per_page:.2f}",
        "",
        "",
        _target(results, "host_bytes_per_page", "<= 8"),
    )
    view.add_row(
        "(with all arrays resident)",
        f"{(memory.arrays_growth + memory.generations) / (1 << 20):.1f} MiB",
        "the guest's pages",
        f"{memory.bytes_per_page_all_arrays:.2f}",
    )
    view.caption = f"all rates are medians; {results.seconds:.0f} seconds in all"
    return view


def _add(view: Table, comparison: Comparison, target: str | None = None) -> None:
    ratio = comparison.ratio
    bound = TARGETS[target] if target else None
    view.add_row(
        f"{comparison.name}: {comparison.ours}",
        _rate(statistics.median(comparison.our_rates), comparison.unit),
        f"{comparison.baseline}: "
        + _rate(statistics.median(comparison.baseline_rates), comparison.unit),
        f"{ratio.median:.2f}",
        _range(ratio.lower_quartile, ratio.upper_quartile, 2),
        _range(ratio.minimum, ratio.maximum, 2),
        "" if bound is None else _verdict(ratio.median >= bound, f">= {bound:g}"),
    )


def _rate(value: float, unit: str) -> str:
    return f"{value / 1e6:.1f} M {unit}" if value >= 1e6 else f"{value:,.0f} {unit}"


def _range(low: float, high: float, digits: int) -> str:
    return f"{low:.{digits}f} to {high:.{digits}f}"


def _target(results: Results, name: str, text: str) -> str:
    return _verdict(results.met(name), text)


def _verdict(met: bool, text: str) -> str:
    return f"{text} [green]met[/green]" if met else f"{text} [red]missed[/red]"
