"""`essa experiment`: what hinting costs, measured on the guest's kernel."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from essa_cli.errors import CliError
from essa_cli.guest import guards_of
from guest_agent.kernel.cpu import KernelBug
from guest_agent.kernel.guards import PRESETS
from guest_agent.kernel.kernel import Hints
from race_explorer.essa_cost import PAGES, PAGES_MAX, PATHS, VARIANTS, Cost, measure
from shared.arch import Orc

experiment_app = typer.Typer(
    name="experiment",
    help="Measure what hinting costs and saves.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_SHOWN: Final = [v for v in VARIANTS if v.hints is Hints.VOLATILE or not v.minor_faults]
"""Without volatile hints patch 4/6 changes nothing; JSON has those columns too."""
_ORCS: Final = (
    Orc.SET_STABLE,
    Orc.SET_UNUSED,
    Orc.SET_VOLATILE,
    Orc.SET_POTENTIAL_VOLATILE,
    Orc.SET_STABLE_IF_RESIDENT,
)


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.add_typer(experiment_app)


@experiment_app.callback()
def experiment() -> None:
    """Measure what hinting costs and saves."""


@experiment_app.command("essa-cost", epilog="Example: essa experiment essa-cost --preset seed")
def essa_cost(
    pages: Annotated[int, typer.Option(help="Pages that go along each path.")] = PAGES,
    preset: Annotated[
        str, typer.Option(help="The guest's guards.", metavar="|".join(PRESETS))
    ] = "fixed",
    without: Annotated[
        list[str] | None,
        typer.Option(help="Switch one guard off; repeatable.", metavar="GUARD"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> int:
    """Count the ESSAs of every path, per page, without and with hints and patch 4/6.

    Each path runs on the guest's kernel and the host's core, in this process, while the host
    evicts nothing. 4/6 is the minor-fault patch: a page that is in the cache is mapped
    without a change of its state. Exit codes: 0 done; 1 the kernel found a bug, as it may
    with guards off; 2 bad input.
    """
    if not 1 <= pages <= PAGES_MAX:
        raise CliError(f"--pages is {pages}; it must be 1 to {PAGES_MAX}")
    guards = guards_of(preset, without or [])
    try:
        costs = [[measure(path, variant, guards, pages) for variant in VARIANTS] for path in PATHS]
    except KernelBug as bug:
        print(f"essa: {str(bug).splitlines()[0]}", file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps(_plain(costs, pages, preset, without or []), indent=2))
        return 0
    console = Console(soft_wrap=True, highlight=False)
    console.print(_table(costs))
    console.print("A number is ESSAs per page; the ORCs behind it are those of one page, in order:")
    console.print(", ".join(f"{orc.value} {_words(orc)}" for orc in _ORCS) + ".")
    console.print("Patch n/6: page host virtual assist, 2005-12-16; 4/6 is its minor-fault patch.")
    return 0


def _words(orc: Orc) -> str:
    return orc.name.lower().replace("_", " ")


def _cell(cost: Cost) -> str:
    number = f"{cost.per_page:.2f}".rstrip("0").rstrip(".")
    orcs = cost.sequence if cost.sequence is not None else tuple(cost.by_orc)
    return f"{number}: {' '.join(map(str, orcs))}" if orcs else number


def _table(costs: list[list[Cost]]) -> Table:
    table = Table(
        title="ESSAs per page, and what the patches promise",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("path", style="bold", no_wrap=True)
    for variant in _SHOWN:
        table.add_column(variant.name.replace(", ", "\n"), no_wrap=True)
    table.add_column("promised")
    for path, row in zip(PATHS, costs, strict=True):
        shown = [_cell(row[VARIANTS.index(variant)]) for variant in _SHOWN]
        table.add_row(path.name, *shown, path.promised or "-")
    return table


def _plain(costs: list[list[Cost]], pages: int, preset: str, without: list[str]) -> dict[str, Any]:
    return {
        "pages": pages,
        "preset": preset,
        "without": without,
        "paths": [
            {
                "path": path.name,
                "promised": path.promised,
                "essa_per_page": {
                    variant.name: {
                        "total": cost.per_page,
                        "by_orc": {
                            Orc(orc).name.lower(): count / cost.pages
                            for orc, count in cost.by_orc.items()
                        },
                        "sequence": cost.sequence,
                    }
                    for variant, cost in zip(VARIANTS, row, strict=True)
                },
            }
            for path, row in zip(PATHS, costs, strict=True)
        ],
    }
