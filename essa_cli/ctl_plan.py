"""`essa ctl plan`: check a fault plan, run it, and say what each of its faults has done."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from essa_cli.control import Control, Json, Method, ask, print_json
from essa_cli.errors import CliError
from essa_cli.fault_plan import Entry, FaultPlan, load_plan, shipped
from essa_cli.plan_run import Course, PlanRun
from shared.faults import values_of
from shared.rpc.channel import DEFAULT_CONTROL

STRETCH_MIN, STRETCH_MAX = 0.01, 100.0

_EPILOG = """Example: essa ctl plan flaky-network   or   essa ctl plan my.toml --check

Exit codes: 0 every fault has come and gone, 1 one failed or never began, 2 bad input."""


def register(ctl: typer.Typer) -> None:
    """Add this module's command to `ctl`."""
    ctl.command("plan", epilog=_EPILOG)(plan)


def plan(
    file: Annotated[
        str | None,
        typer.Argument(
            help="A TOML file, or the name of a plan that ships; without it they are listed.",
            metavar="[FILE]",
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check it, and show it.")] = False,
    process: Annotated[
        list[str] | None,
        typer.Option(
            help="Which process one of the plan's is: a pid file, or container:NAME. Repeatable.",
            metavar="NAME=PROCESS",
        ),
    ] = None,
    stretch: Annotated[
        float, typer.Option(help="Multiply all times by this.", metavar="FACTOR")
    ] = 1.0,
    control: Control = DEFAULT_CONTROL,
    as_json: Json = False,
) -> int:
    """Run a plan of faults: times and triggers, seeded, checked whole before anything begins."""
    if file is None:
        _list(as_json)
        return 0
    if not STRETCH_MIN <= stretch <= STRETCH_MAX:
        raise CliError(f"--stretch is {stretch:g}; it must be {STRETCH_MIN:g} to {STRETCH_MAX:g}")
    loaded = load_plan(file, _processes(process or [])).stretched(stretch)
    if check:
        _show(loaded, as_json)
        return 0
    courses = ask(control, lambda method: _run(loaded, method))
    if as_json:
        print_json({"plan": loaded.name, "seed": loaded.seed, "faults": list(map(_plain, courses))})
    else:
        Console().print(_summary(courses))
    return 0 if all(course.state == "over" for course in courses) else 1


async def _run(loaded: FaultPlan, method: Method) -> list[Course]:
    run = PlanRun(loaded, method, lambda line: print(line, file=sys.stderr, flush=True))
    await run.run()
    return run.courses


def _processes(texts: list[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise CliError(f"--process is {text!r}; it must be NAME=PIDFILE or NAME=container:NAME")
        found[name] = value
    return found


def _list(as_json: bool) -> None:
    plans = [load_plan(name) for name in shipped()]
    if as_json:
        print_json([{"name": one.name, "about": one.about} for one in plans])
        return
    for one in plans:
        print(f"{one.name}: {' '.join(one.about.split())}")


def _when(entry: Entry) -> str:
    return f"at {entry.at:.2f} s" if entry.when is None else f"when {entry.when}"


def _fields(entry: Entry) -> str:
    return " ".join(f"{key}={text}" for key, text in values_of(entry.spec).items())


def _show(loaded: FaultPlan, as_json: bool) -> None:
    if as_json:
        entries = [
            {
                "name": entry.name,
                "kind": str(entry.spec.kind),
                "begins": _when(entry),
                "fields": values_of(entry.spec),
            }
            for entry in loaded.entries
        ]
        print_json({"plan": loaded.name, "seed": loaded.seed, "faults": entries})
        return
    print(f"{loaded.name}: {len(loaded.entries)} faults, seed {loaded.seed}")
    table = Table("name", "kind", "begins", "fields", box=None, header_style="bold")
    for entry in loaded.entries:
        table.add_row(entry.name, str(entry.spec.kind), _when(entry), _fields(entry))
    Console().print(table)


def _plain(course: Course) -> dict[str, Any]:
    return {
        "name": course.entry.name,
        "kind": str(course.entry.spec.kind),
        "state": course.state,
        "begun_seconds": course.begun_at,
        "matched": course.matched,
        "struck": course.struck,
        "told": course.told,
    }


def _summary(courses: list[Course]) -> Table:
    table = Table("name", "kind", "begun", box=None, header_style="bold")
    table.add_column("matched", justify="right")
    table.add_column("struck", justify="right")
    table.add_column("")
    for course in courses:
        table.add_row(
            course.entry.name,
            str(course.entry.spec.kind),
            "" if course.begun_at is None else f"{course.begun_at:.2f} s",
            f"{course.matched:,}",
            f"{course.struck:,}",
            course.told if course.told and course.state != "over" else course.state,
        )
    return table
