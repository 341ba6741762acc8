"""A real `essa host` process for tests."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import TracebackType
from unittest import mock

from essa_cli.main import main

ESSA = (str(Path(sys.executable).with_name("essa")),)
DEADLINE_SECONDS = 30


class HostProcess:
    """Runs until it is told otherwise; `ready` is the line that it prints when it is.

    Its standard error goes to a file: a pipe that nobody reads would hold up a host that logs much.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.listen = f"unix:{directory / 'e'}"
        self.control = f"unix:{directory / 'c'}"
        command = [*ESSA, "host", "--listen", self.listen, "--control", self.control, *options]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open as long as the host)
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        assert self._process.stdout is not None
        self.ready = self._process.stdout.readline()
        if not self.ready:
            raise AssertionError(f"the host did not start: {self._ended()}")

    @property
    def process_id(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def values(self) -> dict[str, str]:
        """What the ready line says."""
        return dict(re.findall(r"(\w+)=(\S+)", self.ready))

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and wait: exit code, standard error."""
        self._process.send_signal(number)
        errors = self._ended()
        return self._process.returncode, errors

    def _ended(self) -> str:
        """Standard error of the process, which is about to end."""
        self._process.communicate(timeout=DEADLINE_SECONDS)
        self._errors.seek(0)
        with self._errors as errors:
            return errors.read()

    def __enter__(self) -> HostProcess:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self.stop(signal.SIGKILL)
        self._errors.close()


def essa_here(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, inside this process, which saves its start."""
    out, errors = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        mock.patch.object(sys, "argv", ["essa", *arguments]),
        redirect_stdout(out),
        redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())
