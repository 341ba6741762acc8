"""Server processes of a run: started here, and ended by their ids."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

DEADLINE_SECONDS: Final = 30
_STATUS: Final = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)


class ServerError(Exception):
    """A server did not start."""


class Server:
    """A process that prints one line when it serves."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            _, errors = self._process.communicate(timeout=DEADLINE_SECONDS)
            raise ServerError(f"{' '.join(command[:3])} did not start: {errors.strip()}")

    def resident_bytes(self) -> int:
        """The process's resident set."""
        found = _STATUS.search(Path(f"/proc/{self._process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) << 10

    def stop(self) -> None:
        """End it, first kindly."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


@contextmanager
def echo_server(address: str) -> Iterator[Server]:
    """The baseline."""
    server = Server(sys.executable, "-m", "bench.echo", address)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def host_server(listen: str, control: str, *options: str) -> Iterator[Server]:
    """A host daemon, as `essa host` starts it."""
    essa = str(Path(sys.executable).with_name("essa"))
    quiet = ("--log-level", "warning")
    server = Server(essa, "host", "--listen", listen, "--control", control, *quiet, *options)
    try:
        yield server
    finally:
        server.stop()
