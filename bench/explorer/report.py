"""The tables for people, and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.table import Table

from bench.explorer.finding import Finding
from bench.explorer.frontrun_side import Frontrun
from bench.explorer.reductions import Exhausted
from bench.explorer.shrunk import AIM, Shrunk
from bench.explorer.speed import STRATEGY, Speed
from bench.explorer.toy import STEPS


@dataclass(slots=True)
class Results:
    """Everything that a run measured.

    frontrun: None if it is not there, or does not work, which the note then says.
    load: of the machine over one minute, before and after.
    """

    speeds: list[Speed]
    toy: Speed
    frontrun: Frontrun | None = None
    findings: list[Finding] = field(default_factory=list)
    shrunk: list[Shrunk] = field(default_factory=list)
    exhausted: list[Exhausted] = field(default_factory=list)
    load: tuple[float, float] = (0.0, 0.0)
    seconds: float = 0.0
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        finding = dict[str, dict[str, Any]]()
        for one in self.findings:
            finding.setdefault(one.guard, {})[one.strategy] = one.as_json()
        return {
            "speed": [speed.as_json() for speed in self.speeds],
            "lost_update": {
                "ours": self.toy.as_json(),
                "frontrun": None if self.frontrun is None else self.frontrun.as_json(),
            },
            "finding": finding,
            "shrunk": [one.as_json() for one in self.shrunk],
            "exhaustive": [one.as_json() for one in self.exhausted],
            "load": list(self.load),
            "seconds": self.seconds,
        }


def tables(results: Results) -> Iterator[Table]:
    """One for each question."""
    yield _speed(results)
    yield _finding(results.findings)
    yield _exhausted(results.exhausted)
    yield _shrunk(results.shrunk)


def _table(title: str, *columns: str) -> Table:
    view = Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        view.add_column(name, justify="right" if number else "left")
    return view


def _speed(results: Results) -> Table:
    rounds = len(results.toy.schedule_rates)
    view = _table(
        f"speed: medians of {rounds} alternating rounds, per processor second",
        *("what", "steps a schedule", "schedules/s", "steps/s"),
    )
    for speed in results.speeds:
        _add_speed(view, f"{speed.name}, {STRATEGY}", speed)
    _add_speed(view, f"lost update, {STRATEGY}", results.toy)
    if results.frontrun is not None:
        for name, rates in results.frontrun.rates.items():
            view.add_row(
                f"the same in frontrun, {name}", str(STEPS), f"{median(rates):,.0f}", "opcodes"
            )
    before, after = results.load
    view.caption = f"load of the machine {before:.1f} before, {after:.1f} after"
    return view


def _add_speed(view: Table, name: str, speed: Speed) -> None:
    rates = speed.schedule_rates, speed.step_rates
    view.add_row(name, f"{speed.length:.0f}", *(f"{median(each):,.0f}" for each in rates))


def _finding(findings: list[Finding]) -> Table:
    strategies = list(dict.fromkeys(one.strategy for one in findings))
    view = _table("schedules to find what a guard is there for: median / p95", "guard", *strategies)
    rows = dict[str, list[str]]()
    for one in findings:
        middle, most = (_count(one.quantile(share), one.schedules_max) for share in (0.5, 0.95))
        drawn = f"{middle} / {most}" if len(one.counts) > 1 else middle
        rows.setdefault(one.guard, []).append(drawn)
    for guard, cells in rows.items():
        view.add_row(guard, *cells)
    if findings:
        seeds = max(len(one.counts) for one in findings)
        view.caption = f"{seeds} seeds each; a strategy that draws nothing has one number"
    return view


def _count(count: int | None, most: int) -> str:
    return f">{most:,}" if count is None else f"{count:,}"


def _exhausted(exhausted: list[Exhausted]) -> Table:
    view = _table(
        "exhaustive search: complete + abandoned runs, processor seconds",
        *("scenario", "reduction", "complete", "abandoned", "seconds", "done"),
    )
    for one in exhausted:
        view.add_row(
            one.scenario,
            one.reduction.value,
            f"{one.schedules:,}",
            f"{one.pruned:,}",
            f"{one.seconds:.2f}",
            "yes" if one.exhausted else "no",
        )
    return view


def _shrunk(shrunk: list[Shrunk]) -> Table:
    view = _table(
        "committed replays",
        *("replay", "deviations", "of", "steps", "of", "runs to shrink"),
    )
    for one in shrunk:
        counts = (one.deviations, one.deviations_before, one.steps, one.steps_before, one.replays)
        view.add_row(one.name, *(f"{count:,}" for count in counts))
    if shrunk:
        found = [one.deviations for one in shrunk]
        over = sum(count > AIM for count in found)
        view.caption = (
            f"{len(shrunk)} replays, median {median(found):g} deviations, most {max(found)}; "
            f"more than {AIM}: {over}"
        )
    return view
