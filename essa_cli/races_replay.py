"""`essa races replay` and `shrink`: runs from files and tokens, made again and made smaller.

Rules:
- What a file says is foreign input: whatever it makes impossible ends in one line, and 2.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from essa_cli.errors import CliError
from essa_cli.races_cluster import TIMEOUT_SECONDS, replay_on_cluster
from essa_cli.races_outside import know_file
from essa_cli.races_recorded import replay_recorded
from essa_cli.races_told import EXPORTS, show, told, write
from essa_cli.security import Insecure, TlsDirectory
from race_explorer.case import Case
from race_explorer.recording import Recording
from race_explorer.replays.library import replay_for
from race_explorer.replays.policies import Divergence, Outcome, Policy, rerun
from race_explorer.replays.replay import Replay
from race_explorer.replays.text import dumps, load
from race_explorer.replays.token import PREFIX, decode, follow
from race_explorer.shrinking import shrink as shrunk_of
from shared.identity import Role
from shared.rpc.channel import check_reach, parse_address
from shared.rpc.tls_option import tls_option

REPLAY: Final = """Example: essa races replay tests/replays/grace_period.essa-replay

With --cluster a host and a guest, two processes that talk gRPC, take the steps that the file's
schedule releases; they must be those of the explorer, and come to the same end. --listen waits
there for an "essa races attend host" and an "essa races attend guest" of yours instead; --tls
is then an operator's certificate with the name under which they call the gate.

Exit codes: 0 every one reproduced; 1 one was not; 2 bad input; 3 one is inconclusive."""
SHRINK: Final = """Example: essa races shrink a.essa-replay -o b.essa-replay

Exit codes: 0 done; 2 bad input, or a run that does not fail."""
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Outside = Annotated[
    Path | None,
    typer.Option("--scenarios", help="File with scenarios of your own, such as a test."),
]
Result = TypeVar("Result")


def replay(
    files: Annotated[
        list[str], typer.Argument(help="Files, a token, or the directories of a recorded run.")
    ],
    scenarios: Outside = None,
    policy: Annotated[Policy, typer.Option()] = Policy.STRICT,
    with_picture: Annotated[bool, typer.Option("--picture", help="Lanes of each.")] = False,
    html_file: Annotated[Path | None, typer.Option("--html", help="Page; one file only.")] = None,
    export: Annotated[str | None, typer.Option(help=" | ".join(EXPORTS))] = None,
    output: Annotated[Path | None, typer.Option(help="Where --export goes.")] = None,
    on_cluster: Annotated[
        bool, typer.Option("--cluster", help="On a real host and guest.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(help="With --cluster: seconds for a report.", min=0.1)
    ] = TIMEOUT_SECONDS,
    listen: Annotated[
        str | None, typer.Option(help="With --cluster: who waits where.", metavar="ADDRESS")
    ] = None,
    tls: TlsDirectory = None,
    insecure: Insecure = False,
    as_json: Json = False,
) -> int:
    """Make recorded runs again; each must end as it did.

    A directory is a run of real processes that were started with --record: it is made again in one
    process, step for step, and the first step that is another is told.
    """
    if any(map(_is_directory, files)):
        others = scenarios, html_file, export, output, listen
        if not all(map(_is_directory, files)) or with_picture or on_cluster or any(others):
            raise CliError("the directories of a recorded run go alone, with --json at most")
        return replay_recorded([Path(name) for name in files], as_json=as_json)
    if on_cluster:
        if with_picture or html_file or export or output or scenarios:
            text = "--timeout, --listen, --tls, --insecure and --json"
            raise CliError(f"--cluster goes with {text} alone")
        return _on_cluster(files, timeout, listen, tls, insecure=insecure, as_json=as_json)
    if listen is not None:
        raise CliError("--listen is for --cluster")
    if export is not None and export not in EXPORTS:
        raise CliError(f"--export is {export!r}; it must be {' or '.join(EXPORTS)}")
    if output is not None and export is None:
        raise CliError("--output is for --export")
    if len(files) > 1 and (html_file or export):
        raise CliError("--html and --export are for one file")
    if scenarios is not None:
        know_file(scenarios)
    rows: list[dict[str, Any]] = []
    for name in files:
        case, recording, divergence, good = again(name, policy)
        violation = recording.violations[0].partition("\n")[0] if recording.violations else ""
        row = {"file": name, "reproduced": good, "violation": violation}
        row["divergence"] = divergence.describe() if divergence else None
        rows.append(row)
        alone = as_json or (export is not None and output is None)
        if not alone:
            print(f"{'reproduced' if good else 'NOT REPRODUCED'}: {name}: {violation or 'holds'}")
            if divergence and not good:
                print(divergence.describe())
        command = f"essa races replay {name}" + (f" --scenarios {scenarios}" if scenarios else "")
        quiet = as_json or bool(export) or not (with_picture or len(files) == 1)
        show(case, recording, command, html_file, quiet=quiet)
        if export:
            text = EXPORTS[export](told(case, recording, command))
            write(output, text) if output else print(text, end="" if text.endswith("\n") else "\n")
    if as_json:
        print(json.dumps(rows))
    return 0 if all(row["reproduced"] for row in rows) else 1


def _on_cluster(
    files: list[str],
    timeout: float,
    listen: str | None,
    directory: Path | None,
    *,
    insecure: bool,
    as_json: bool,
) -> int:
    """What is started here comes over a Unix socket, and is shown nothing."""
    where, tls = None, None
    if listen:
        where = parse_address(listen, "--listen")
        tls = tls_option(directory, insecure=insecure, roles=(Role.OPERATOR,))
        check_reach(where, "--listen", protected=tls is not None or insecure)
    return replay_on_cluster(
        files, _explored, timeout_seconds=timeout, listen=where, tls=tls, as_json=as_json
    )


def _is_directory(name: str) -> bool:
    return os.path.isdir(name)  # of a token, which is too long for a name, too


def again(name: str, policy: Policy) -> tuple[Case, Recording, Divergence | None, bool]:
    """Run a file, or a token. Raises CliError, with one line, for one that cannot be run."""
    if name.upper().startswith(PREFIX):
        token = _tried("token", lambda: decode(name))
        return token.case, _tried("token", lambda: follow(token)), None, True
    saved = _loaded(Path(name))
    outcome = _tried(name, lambda: rerun(saved, policy))
    return saved.case, outcome.recording, outcome.divergence, outcome.reproduced


def _explored(name: str) -> tuple[Replay, Outcome]:
    """A file, and what the explorer makes of it. Raises CliError."""
    if name.upper().startswith(PREFIX):
        raise CliError("--cluster takes files; save a token's run as one first")
    saved = _loaded(Path(name))
    return saved, _tried(name, lambda: rerun(saved, Policy.STRICT))


def shrink(
    file: Annotated[Path, typer.Argument(help="Replay file.")],
    scenarios: Outside = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Else printed.")] = None,
    as_json: Json = False,
) -> int:
    """Make a replay as small as it gets."""
    if scenarios is not None:
        know_file(scenarios)
    saved = _loaded(file)
    small = _tried(str(file), lambda: _smaller(saved))
    text = dumps(small)
    if output is not None:
        write(output, text)
    if as_json:
        print(json.dumps({**_size("before", saved), **_size("after", small), "replay": text}))
    elif output is None:
        print(text, end="")
    else:
        before, after = len(saved.schedule), len(small.schedule)
        print(f"{output}: {after} deviations for {before}, {small.expect.steps} steps")
    return 0


def _size(when: str, replay: Replay) -> dict[str, dict[str, Any]]:
    return {
        when: {
            "deviations": len(replay.schedule),
            "steps": replay.expect.steps,
            "dropped": list(replay.case.dropped),
        }
    }


def _smaller(saved: Replay) -> Replay:
    failing = rerun(saved, Policy.BEST_EFFORT).recording
    shrunk = shrunk_of(saved.case, failing.choices)
    by = saved.found_by
    return replay_for(
        shrunk.case, shrunk.run, strategy=by.strategy, schedule=by.schedule, seed=by.seed
    )


def _loaded(file: Path) -> Replay:
    """The replay of a file whose world can be built."""
    saved = _tried(str(file), lambda: load(file))
    _tried(f"{file}: {saved.case.scenario} cannot be built so", saved.case.build)
    return saved


def _tried(what: str, work: Callable[[], Result]) -> Result:
    """Do what a file asks for. Raises CliError for whatever comes of it.

    A world that a file describes may trip over itself in any way: a workload whose programs do
    not fit together, a guard without which the preparation fails.
    """
    try:
        return work()
    except ValueError as error:
        text = str(error)
        raise CliError(text if text.startswith(what) else f"{what}: {text}") from None
    except Exception as error:
        raise CliError(f"{what}: {type(error).__name__}: {error}") from None
