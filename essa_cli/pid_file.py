"""Files that say which process a daemon is, so that others can end it and start it again.

Rules:
- A number alone may belong to another process by now; the time at which it started tells.
- The file stays when the process is gone: what it says is how to start it again.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from essa_cli.errors import CliError

_PREFIX = "ESSA_"


@dataclass(frozen=True, slots=True)
class Started:
    """How a process was started.

    start_time: clock ticks since the machine was booted, as in /proc. environment: what of
    it begins with ESSA_.
    """

    pid: int
    start_time: int
    argv: list[str]
    cwd: str
    environment: dict[str, str]


def start_time(pid: int) -> int | None:
    """When the process with this number started; None if there is none, or only its remains."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    values = text.rpartition(")")[2].split()  # the name before it may hold anything
    return None if values[0] in "ZX" else int(values[19])


def write_pid_file(path: Path) -> None:
    """Say that this process is the one. Raises CliError where that cannot be written."""
    started = Started(
        pid=os.getpid(),
        start_time=start_time(os.getpid()) or 0,
        argv=[sys.executable, *sys.orig_argv[1:]],
        cwd=str(Path.cwd()),
        environment={k: v for k, v in os.environ.items() if k.startswith(_PREFIX)},
    )
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        part.write_text(json.dumps(asdict(started), indent=2) + "\n")
        part.replace(path)
    except OSError as error:
        raise CliError(f"--pid-file {path}: {error.strerror}") from None


def read_pid_file(path: Path) -> Started:
    """What the file says. Raises CliError if it is no pid file."""
    try:
        data: Any = json.loads(path.read_text())
        started = Started(**data)
        good = all(isinstance(number, int) for number in (started.pid, started.start_time))
    except OSError as error:
        raise CliError(f"pid-file {path}: {error.strerror}") from None
    except (ValueError, TypeError):
        good = False
    if not good or started.pid <= 1 or not started.argv:
        raise CliError(f"pid-file {path}: nothing that --pid-file has written")
    return started
