"""Faults of whole processes: paused, resumed, terminated, killed, started again.

Rules:
- A process is signalled only if it is the one that its pid file was written for.
- A container is left to the docker command; what that says is passed on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from essa_cli.errors import CliError
from essa_cli.pid_file import Started, read_pid_file, start_time
from shared.faults import FaultSpec, Kind

END_SECONDS: Final = 30.0
"""For a process to end after SIGTERM: a host writes its checkpoint."""
START_SECONDS: Final = 60.0
"""For a process that was started again to say so in its pid file."""
DOCKER_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 0.02
_LAUNCHER: Final = """
import subprocess, sys
streams = {"stdin": subprocess.DEVNULL, "stdout": sys.stderr, "stderr": sys.stderr}
print(subprocess.Popen(sys.argv[1:], start_new_session=True, **streams).pid)
"""
"""Starts a process and ends, so that it is nobody's child and outlives the command."""


class Process(Protocol):
    """A process that faults can be brought upon. All methods raise CliError."""

    def pause(self) -> None:
        """Stop it where it is."""
        ...

    def resume(self) -> None:
        """Let it go on."""
        ...

    def terminate(self) -> None:
        """End it in good order, and wait for that."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...

    def start(self) -> None:
        """Start it again as it was started; it does not run."""
        ...

    def runs(self) -> bool:
        """Whether it runs."""
        ...


def process_of(spec: FaultSpec) -> Process:
    """The process that a fault names."""
    return Container(spec.container) if spec.container else LocalProcess(Path(spec.pid_file))


def strike(spec: FaultSpec, sleep: Callable[[float], None] = time.sleep) -> str:
    """Bring the fault about and wait until it is done; says what was done. Raises CliError."""
    process = process_of(spec)
    match spec.kind:
        case Kind.PAUSE:
            process.pause()
            if not spec.for_seconds:
                return f"{process} paused"
            sleep(spec.for_seconds)
            process.resume()
            return f"{process} paused for {spec.for_seconds:g} s"
        case Kind.RESUME:
            process.resume()
            return f"{process} resumed"
        case Kind.TERMINATE:
            process.terminate()
            return f"{process} terminated"
        case Kind.KILL:
            process.kill()
            return f"{process} killed"
        case _:
            if process.runs():
                process.terminate()
            sleep(spec.delay_seconds)
            process.start()
            return f"{process} started again"


class LocalProcess:
    """A process of this machine, by its pid file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return f"{self._path} (process {read_pid_file(self._path).pid})"

    def runs(self) -> bool:
        """Whether the very process runs. Raises CliError if its number is another's."""
        started = read_pid_file(self._path)
        found = start_time(started.pid)
        if found is not None and found != started.start_time:
            raise CliError(
                f"pid-file {self._path}: process {started.pid} is another one; "
                f"it started at {found}, not {started.start_time}"
            )
        return found is not None

    def pause(self) -> None:
        """See `Process`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """See `Process`."""
        self._signal(signal.SIGCONT)

    def terminate(self) -> None:
        """See `Process`; one that is paused is resumed."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """See `Process`."""
        self._end(signal.SIGKILL)

    def start(self) -> None:
        """See `Process`; what it prints is appended to the pid file's name with .log."""
        started = read_pid_file(self._path)
        log = self._path.with_name(f"{self._path.name}.log")
        try:
            with log.open("ab") as output:
                launched = subprocess.run(
                    [sys.executable, "-c", _LAUNCHER, *started.argv],
                    cwd=started.cwd,
                    env={**os.environ, **started.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    check=True,
                )
        except (OSError, subprocess.CalledProcessError) as error:
            raise CliError(f"pid-file {self._path}: cannot be started: {error}") from None
        pid = int(launched.stdout)
        self._wait(lambda: self._is_new(pid), START_SECONDS, "start")

    def _is_new(self, pid: int) -> bool:
        if start_time(pid) is None:
            raise CliError(
                f"pid-file {self._path}: started again, it ended at once; see {self._path}.log"
            )
        return read_pid_file(self._path).pid == pid

    def _signal(self, number: signal.Signals) -> Started:
        if not self.runs():
            raise CliError(f"pid-file {self._path}: the process does not run")
        started = read_pid_file(self._path)
        try:
            os.kill(started.pid, number)
        except ProcessLookupError:
            raise CliError(f"pid-file {self._path}: the process does not run") from None
        except PermissionError:
            raise CliError(f"pid-file {self._path}: the process is another user's") from None
        return started

    def _end(self, number: signal.Signals) -> None:
        started = self._signal(number)
        if number is signal.SIGTERM:
            with suppress(ProcessLookupError, PermissionError):  # it may have ended already
                os.kill(started.pid, signal.SIGCONT)
        self._wait(lambda: start_time(started.pid) != started.start_time, END_SECONDS, "end")

    def _wait(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise CliError(f"pid-file {self._path}: it did not {what} in {seconds:g} s")
            time.sleep(_LOOK_SECONDS)


class Container:
    """A container, by its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __str__(self) -> str:
        return f"container {self._name}"

    def runs(self) -> bool:
        """See `Process`."""
        return self._docker("inspect", "--format", "{{.State.Running}}") == "true"

    def pause(self) -> None:
        """See `Process`."""
        self._docker("pause")

    def resume(self) -> None:
        """See `Process`."""
        self._docker("unpause")

    def terminate(self) -> None:
        """See `Process`."""
        self._docker("stop", "--time", f"{END_SECONDS:.0f}")

    def kill(self) -> None:
        """See `Process`."""
        self._docker("kill")

    def start(self) -> None:
        """See `Process`."""
        self._docker("start")

    def _docker(self, *words: str) -> str:
        command = ["docker", *words, self._name]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=DOCKER_SECONDS
            )
        except FileNotFoundError:
            raise CliError(f"container {self._name}: there is no docker command here") from None
        except subprocess.TimeoutExpired:
            raise CliError(
                f"container {self._name}: docker did not answer in {DOCKER_SECONDS:g} s"
            ) from None
        if done.returncode:
            reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise CliError(f"container {self._name}: docker {words[0]}: {reason}")
        return done.stdout.strip()
