"""The logs of recorded runs, found and read: what `essa races replay DIRECTORY` makes again.

Rules:
- A run is all logs of the directories given: one of a host, and one of each guest that it opened.
- Logs are foreign input: what they say wrong ends in one line, which names the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from essa_cli.errors import CliError
from guest_agent.agent import load_plan
from guest_agent.config import PAGES_MAX, ConfigError, GuestConfig
from guest_agent.recording import trace_digest
from guest_agent.workload.events import TraceError
from guest_agent.workload.mixed import Mix
from guest_agent.workload.plan import Plan
from host_daemon.core.config import ISSUER_COUNT_MAX, HostConfig
from race_explorer.recorded.guest import RecordedGuest
from race_explorer.recorded.log import HostRun, LogError, guest_run, host_run, role_of
from race_explorer.recorded.rerun import Rerun
from shared.errors import InvalidRequestError
from shared.runlog.records import GUEST, HOST, SUFFIX
from shared.runlog.writer import RunLogError


@dataclass(frozen=True, slots=True)
class HostHeader:
    """The first line of a host's log."""

    incarnation: str
    config: HostConfig


@dataclass(frozen=True, slots=True)
class GuestHeader:
    """The first line of a guest's log. traces: (path, SHA-256)."""

    guest_id: int
    incarnation: str
    config: GuestConfig
    mix: Mix | None
    traces: tuple[tuple[str, str], ...]


def read_run(directories: Sequence[Path]) -> Rerun:
    """All logs of the directories as one run. Raises CliError."""
    paths = [path for one in directories for path in sorted(one.glob(f"*{SUFFIX}"))]
    hosts: list[tuple[Path, HostHeader, HostRun]] = []
    guests: list[tuple[Path, GuestHeader, RecordedGuest]] = []
    for path in paths:
        try:
            with path.open(encoding="utf-8") as file:
                lines = file.readlines()
            role, _ = role_of(lines)
            if role == HOST:
                run = host_run(lines)
                hosts.append((path, TypeAdapter(HostHeader).validate_python(run.header), run))
            elif role == GUEST:
                guests.append((path, *_guest(lines)))
            else:
                raise LogError(f"line 1: role is {role!r}; it must be {HOST!r} or {GUEST!r}")
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise CliError(f"{path}: line 1: {where}: {first['msg']}") from None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise CliError(f"cannot read {path}: {reason}") from None
        except (LogError, ConfigError, TraceError, RunLogError) as error:
            raise CliError(f"{path}: {error}") from None
    return _joined(directories, hosts, guests)


def _guest(lines: list[str]) -> tuple[GuestHeader, RecordedGuest]:
    run = guest_run(lines)
    header = TypeAdapter(GuestHeader).validate_python(run.header)
    config = header.config
    issuer_count = config.vcpu_count + config.device_count
    if (
        config.page_count > PAGES_MAX
        or not 0 <= config.device_count < issuer_count <= ISSUER_COUNT_MAX
    ):
        raise LogError("line 1: config is too large for a guest")
    guest = RecordedGuest(
        name=config.name,
        guest_id=header.guest_id,
        kernel=config.kernel(),
        issuer_count=issuer_count,
        plan=_plan(header),
        access=config.access,
        run=run,
    )
    return header, guest


def _plan(header: GuestHeader) -> Plan | Mix:
    """What the guest did. Traces are read again, and must be what they were."""
    if header.mix is not None:
        if header.mix.vcpu_count != header.config.vcpu_count:
            raise LogError("line 1: mix.vcpu_count is another than config.vcpu_count")
        return header.mix
    for path, digest in header.traces:
        if trace_digest(Path(path)) != digest:
            raise LogError(f"trace {path} is not what it was when the run was recorded")
    traces = tuple(Path(path) for path, _ in header.traces)
    return load_plan(replace(header.config, traces=traces))


def _joined(
    directories: Sequence[Path],
    hosts: list[tuple[Path, HostHeader, HostRun]],
    guests: list[tuple[Path, GuestHeader, RecordedGuest]],
) -> Rerun:
    if len(hosts) != 1:
        where = ", ".join(map(str, directories))
        found = "no log of a host" if not hosts else f"{len(hosts)} logs of hosts"
        raise CliError(f"{where}: {found}; a recorded run has one")
    ((path, host, run),) = hosts
    known: dict[int, Path] = {}
    for guest_path, header, _ in guests:
        if header.incarnation != host.incarnation:
            raise CliError(f"{guest_path}: its host is another than that of {path}")
        if (other := known.setdefault(header.guest_id, guest_path)) is not guest_path:
            raise CliError(f"{guest_path}: {other} is a log of guest {header.guest_id} too")
    try:
        return Rerun(host.config, run, [guest for _, _, guest in guests])
    except InvalidRequestError as error:
        raise CliError(f"{path}: line 1: {error}") from None
