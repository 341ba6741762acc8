"""`essa races`: what races there are, runs of them, and runs made again."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from essa_cli import races_hunt
from essa_cli.errors import CliError
from essa_cli.races_attend import ATTEND, attend
from essa_cli.races_matrix import EPILOG, kill_matrix
from essa_cli.races_outside import know_file
from essa_cli.races_replay import REPLAY, SHRINK, Json, Outside, replay, shrink
from essa_cli.races_search import searched
from essa_cli.races_told import show as show_run
from essa_cli.races_told import write
from race_explorer.campaign import STRATEGY_NAMES
from race_explorer.case import Case
from race_explorer.catalogue import guards
from race_explorer.checking import check_case
from race_explorer.exhaustive import NAME as EXHAUSTIVE
from race_explorer.faults import FaultKind
from race_explorer.replays.library import replay_for
from race_explorer.replays.policies import Policy, rerun
from race_explorer.replays.text import dumps
from race_explorer.replays.token import token_of
from race_explorer.scenarios import SCENARIOS
from race_explorer.scenarios.scenario import Scenario
from race_explorer.verdict import Outcome, judge

EXIT: Final = {Outcome.HOLDS: 0, Outcome.VIOLATED: 1, Outcome.INCONCLUSIVE: 3}
SCHEDULES: Final = 60_000
FAULTS: Final = f"What may fail, and how often, such as cut=1,tick=2: {', '.join(FaultKind)}."
CHECK: Final = "First hold what steps touch against what they declare."
CHECKED_SCHEDULES: Final = 40


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    races = typer.Typer(help="Races: find, shrink, replay and picture.", no_args_is_help=True)
    races.command("list", epilog="Example: essa races list --json")(list_all)
    races.command("show", epilog="Example: essa races show dirty-bit-in-transit")(show)
    races.command("run", epilog=_RUN)(run)
    races.command("replay", epilog=REPLAY)(replay)
    races.command("attend", epilog=ATTEND)(attend)
    races.command("shrink", epilog=SHRINK)(shrink)
    races.command("kill-matrix", epilog=EPILOG)(kill_matrix)
    races_hunt.register(races)
    app.add_typer(races, name="races")


_RUN = """Example: essa races run dirty-bit-in-transit --without stable_before_clear

Exit codes: 0 holds; 1 violated; 2 bad input; 3 inconclusive."""


def list_all(as_json: Json = False) -> int:
    """All scenarios, with the rows of the catalogue and the guards that they show."""
    rows = [_summary(scenario) for scenario in SCENARIOS.values()]
    if as_json:
        print(json.dumps(rows))
        return 0
    table = Table("scenario", "rows", "guards", "bound")
    for row in rows:
        bound = "all" if row["bound"] is None else f"{row['bound']:,}"
        table.add_row(row["name"], " ".join(row["races"]), ", ".join(row["guards"]), bound)
    Console().print(table)
    return 0


def _summary(scenario: Scenario) -> dict[str, Any]:
    return {
        "name": scenario.name,
        "races": list(scenario.races),
        "guards": list(scenario.guards),
        "pairs": [list(pair) for pair in scenario.pairs],
        "bound": scenario.bound,
    }


def show(name: Annotated[str, typer.Argument(help="Scenario.")], as_json: Json = False) -> int:
    """A scenario's story, its guards, and what goes wrong without them."""
    case_of(name)
    scenario = SCENARIOS[name]
    module = inspect.getmodule(scenario.build)
    found = {
        **_summary(scenario),
        "story": inspect.cleandoc((module and module.__doc__) or ""),
        "sometimes": list(scenario.sometimes),
        "damage": list(scenario.damage),
        "does": {g.name: [g.does, g.source] for _, g in guards() if g.name in scenario.guards},
    }
    if as_json:
        print(json.dumps(found))
        return 0
    print(f"{name}  {' '.join(scenario.races)}\n\n{found['story']}\n")
    for guard, (does, source) in found["does"].items():
        print(f"{guard}: {does} ({source})")
    print(f"must be reached: {', '.join(scenario.sometimes) or '-'}")
    for off, damage in scenario.removals():
        print(f"without {' and '.join(off)}: {damage}")
    return 0


def case_of(
    name: str, preset: str = "fixed", without: tuple[str, ...] = (), faults: str = ""
) -> Case:
    """The case. Raises CliError for what does not exist."""
    case = Case(name, preset=preset, without=without, faults=faults)
    try:
        case.check()
    except ValueError as error:
        raise CliError(str(error)) from None
    return case


def run(
    name: Annotated[str, typer.Argument(help="Scenario.")],
    scenarios: Outside = None,
    without: Annotated[list[str] | None, typer.Option(help="Guard to switch off.")] = None,
    preset: Annotated[str, typer.Option(help="seed or fixed.")] = "fixed",
    faults: Annotated[str, typer.Option(help=FAULTS)] = "",
    strategy: Annotated[str, typer.Option(help=" | ".join(STRATEGY_NAMES))] = EXHAUSTIVE,
    schedules: Annotated[int, typer.Option(min=1, help="Budget.")] = SCHEDULES,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 1,
    html_file: Annotated[Path | None, typer.Option("--html", help="Page to write.")] = None,
    save: Annotated[Path | None, typer.Option(help="Replay file to write.")] = None,
    check: Annotated[bool, typer.Option("--check", help=CHECK)] = False,
    as_json: Json = False,
) -> int:
    """Search a scenario, and say whether it holds."""
    if scenarios is not None:
        know_file(scenarios)
    case = case_of(name, preset, tuple(without or ()), faults)
    if strategy not in STRATEGY_NAMES:
        raise CliError(f"--strategy is {strategy!r}; it must be {' or '.join(STRATEGY_NAMES)}")
    if jobs > 1 and scenarios is not None:
        raise CliError("--jobs is for scenarios of the library")
    undeclared = _undeclared(case, seed) if check else []
    if undeclared:
        return _not_declared(case, undeclared, as_json=as_json)
    with Console(stderr=True).status(f"{name}: searching"):
        report = searched(case, strategy, schedules, seed, jobs)
    verdict = judge(case.definition, case, report)
    found = verdict.as_json()
    if not as_json:
        print("\n".join(verdict.lines()))
    if report.counterexample is not None and report.found is not None:
        with Console(stderr=True).status(f"{name}: shrinking"):
            small = replay_for(
                case,
                report.counterexample,
                strategy=strategy,
                schedule=report.found.number + 1,
                seed=-1 if strategy == EXHAUSTIVE else seed,
            )
        recording = rerun(small, Policy.STRICT).recording
        token = token_of(small.case, recording)
        command = f"essa races replay {save or token}"
        if scenarios is not None:
            command += f" --scenarios {scenarios}"
        if save:
            write(save, dumps(small))
        show_run(small.case, recording, command, html_file, quiet=as_json)
        found |= {"token": token, "replay": command}
    if as_json:
        print(json.dumps(found))
    return EXIT[verdict.outcome]


def _undeclared(case: Case, seed: int) -> list[str]:
    """What steps touch and do not declare, in some schedules as different as can be."""
    with Console(stderr=True).status(f"{case.scenario}: checking"):
        return check_case(case, CHECKED_SCHEDULES, seed)


def _not_declared(case: Case, undeclared: list[str], *, as_json: bool) -> int:
    """Nothing that a search says would mean anything: it rests on what is declared."""
    reason = f"{len(undeclared)} accesses were not declared"
    if as_json:
        told = {"scenario": case.scenario, "verdict": str(Outcome.VIOLATED), "reason": reason}
        print(json.dumps(told | {"undeclared": undeclared}))
    else:
        print("\n".join([f"{Outcome.VIOLATED}: {reason}", *(f"  {one}" for one in undeclared)]))
    return EXIT[Outcome.VIOLATED]
