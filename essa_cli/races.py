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
from essa_cli.races_matrix import EPILOG, kill_matrix
from essa_cli.races_search import searched
from essa_cli.races_told import EXPORTS, picture, told, write
from race_explorer.campaign import STRATEGY_NAMES
from race_explorer.case import Case
from race_explorer.catalogue import guards
from race_explorer.faults import FaultKind
from race_explorer.pictures.html import html
from race_explorer.recording import Recording
from race_explorer.replays.library import replay_for
from race_explorer.replays.policies import Divergence, Policy, rerun
from race_explorer.replays.replay import Replay
from race_explorer.replays.text import dumps, load
from race_explorer.replays.token import PREFIX, decode, follow, token_of
from race_explorer.scenarios import SCENARIOS
from race_explorer.scenarios.scenario import Scenario
from race_explorer.shrinking import shrink as shrunk_of
from race_explorer.verdict import Outcome, judge

EXIT: Final = {Outcome.HOLDS: 0, Outcome.VIOLATED: 1, Outcome.INCONCLUSIVE: 3}
SCHEDULES: Final = 60_000
FAULTS: Final = f"What may fail, and how often, such as cut=1,tick=2: {', '.join(FaultKind)}."
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    races = typer.Typer(help="Races: find, shrink, replay and picture.", no_args_is_help=True)
    races.command("list", epilog="Example: essa races list --json")(list_all)
    races.command("show", epilog="Example: essa races show dirty-bit-in-transit")(show)
    races.command("run", epilog=_RUN)(run)
    races.command("replay", epilog=_REPLAY)(replay)
    races.command("shrink", epilog="Example: essa races shrink a.essa-replay -o b.essa-replay")(
        shrink
    )
    races.command("kill-matrix", epilog=EPILOG)(kill_matrix)
    races_hunt.register(races)
    app.add_typer(races, name="races")


_RUN = """Example: essa races run dirty-bit-in-transit --without stable_before_clear

Exit codes: 0 holds; 1 violated; 2 bad input; 3 inconclusive."""
_REPLAY = """Example: essa races replay tests/replays/grace_period.essa-replay

Exit codes: 0 every one reproduced; 1 one was not; 2 bad input."""


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
    without: Annotated[list[str] | None, typer.Option(help="Guard to switch off.")] = None,
    preset: Annotated[str, typer.Option(help="seed or fixed.")] = "fixed",
    faults: Annotated[str, typer.Option(help=FAULTS)] = "",
    strategy: Annotated[str, typer.Option(help=" | ".join(STRATEGY_NAMES))] = "exhaustive",
    schedules: Annotated[int, typer.Option(min=1, help="Budget.")] = SCHEDULES,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 1,
    html_file: Annotated[Path | None, typer.Option("--html", help="Page to write.")] = None,
    save: Annotated[Path | None, typer.Option(help="Replay file to write.")] = None,
    as_json: Json = False,
) -> int:
    """Search a scenario, and say whether it holds."""
    case = case_of(name, preset, tuple(without or ()), faults)
    if strategy not in STRATEGY_NAMES:
        raise CliError(f"--strategy is {strategy!r}; it must be {' or '.join(STRATEGY_NAMES)}")
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
                seed=-1 if strategy == "exhaustive" else seed,
            )
        recording = rerun(small, Policy.STRICT).recording
        token = token_of(small.case, recording)
        command = f"essa races replay {save or token}"
        if save:
            write(save, dumps(small))
        _tell(small.case, recording, command, html_file, quiet=as_json)
        found |= {"token": token, "replay": command}
        if not as_json:
            print(f"replay: {command}\ntoken: {token}")
    if as_json:
        print(json.dumps(found))
    return EXIT[verdict.outcome]


def _tell(
    case: Case, recording: Recording, command: str, page: Path | None, *, quiet: bool
) -> None:
    if quiet and page is None:
        return
    story = told(case, recording, command)
    if not quiet:
        print(picture(story))
    if page is not None:
        write(page, html(story))


def replay(
    files: Annotated[list[str], typer.Argument(help="Files, or a token.")],
    policy: Annotated[Policy, typer.Option()] = Policy.STRICT,
    with_picture: Annotated[bool, typer.Option("--picture", help="Lanes of each.")] = False,
    html_file: Annotated[Path | None, typer.Option("--html", help="Page; one file only.")] = None,
    export: Annotated[str | None, typer.Option(help=" | ".join(EXPORTS))] = None,
    output: Annotated[Path | None, typer.Option(help="Where --export goes.")] = None,
    as_json: Json = False,
) -> int:
    """Make recorded runs again; each must end as it did."""
    if export is not None and export not in EXPORTS:
        raise CliError(f"--export is {export!r}; it must be {' or '.join(EXPORTS)}")
    if len(files) > 1 and (html_file or export):
        raise CliError("--html and --export are for one file")
    rows: list[dict[str, Any]] = []
    for name in files:
        case, recording, divergence, good = _again(name, policy)
        violation = recording.violations[0].partition("\n")[0] if recording.violations else ""
        row = {"file": name, "reproduced": good, "violation": violation}
        row["divergence"] = divergence.describe() if divergence else None
        rows.append(row)
        if not as_json:
            print(f"{'reproduced' if good else 'NOT REPRODUCED'}: {name}: {violation or 'holds'}")
            if divergence and not good:
                print(divergence.describe())
        quiet = as_json or bool(export) or not (with_picture or len(files) == 1)
        _tell(case, recording, f"essa races replay {name}", html_file, quiet=quiet)
        if export:
            text = EXPORTS[export](told(case, recording, f"essa races replay {name}"))
            write(output, text) if output else print(text)
    if as_json:
        print(json.dumps(rows))
    return 0 if all(row["reproduced"] for row in rows) else 1


def _again(name: str, policy: Policy) -> tuple[Case, Recording, Divergence | None, bool]:
    try:
        if name.upper().startswith(PREFIX):
            token = decode(name)
            return token.case, follow(token), None, True
        saved = load(Path(name))
        outcome = rerun(saved, policy)
    except ValueError as error:
        raise CliError(str(error)) from None
    return saved.case, outcome.recording, outcome.divergence, outcome.reproduced


def shrink(
    file: Annotated[Path, typer.Argument(help="Replay file.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Else printed.")] = None,
) -> int:
    """Make a replay as small as it gets."""
    small = _smaller(file)
    write(output, dumps(small)) if output else print(dumps(small), end="")
    return 0


def _smaller(file: Path) -> Replay:
    try:
        saved = load(file)
        failing = rerun(saved, Policy.BEST_EFFORT).recording
        shrunk = shrunk_of(saved.case, failing.choices)
        by = saved.found_by
        return replay_for(
            shrunk.case, shrunk.run, strategy=by.strategy, schedule=by.schedule, seed=by.seed
        )
    except ValueError as error:
        raise CliError(f"{file}: {error}" if str(file) not in str(error) else str(error)) from None
