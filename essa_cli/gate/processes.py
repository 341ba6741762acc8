"""The processes of a race: a gate, and a host and a guest that attend it, on this machine or not.

Rules:
- Those on this machine are children of this one; they go when the gate closes, and are ended by
  their ids if they do not. Others are waited for.
- They outlive a race, and take part in one after the other. After one that was inconclusive
  nobody knows where they stand, and others take their places.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from essa_cli.gate.race import INCONCLUSIVE, Enforced, enforce
from essa_cli.gate.seat import ARRIVAL_SECONDS
from essa_cli.gate.service import Gate, GateError
from race_explorer.recording import Recording
from race_explorer.replays.replay import Replay
from shared.rpc.channel import Address

if TYPE_CHECKING:
    from shared.rpc.tls import Tls

END_SECONDS: Final = 5.0
ROLES: Final = ("host", "guest")
NO_SIGNAL: Final = 0
_GENTLY: Final = (NO_SIGNAL, signal.SIGTERM, signal.SIGKILL)
_AT_ONCE: Final = (signal.SIGKILL,)


class Cluster:
    """A host and a guest. A context manager; started when first used.

    listen: where others come to the gate; None: both are started here. tls: what the gate shows
    them, and asks for.
    """

    def __init__(
        self, timeout_seconds: float, listen: Address | None = None, tls: Tls | None = None
    ) -> None:
        self._listen = listen
        self._tls = tls
        self._timeout_seconds = timeout_seconds
        self._gate: Gate | None = None
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    @property
    def process_ids(self) -> dict[str, int]:
        """Of those that were started here and run now, by role."""
        return {role: child.pid for role, child in self._children.items()}

    def enforce(self, replay: Replay, explored: Recording) -> Enforced:
        """Enforce one replay's schedule; see `race.enforce`."""
        try:
            gate = self.start()
        except GateError as error:
            found = Enforced(INCONCLUSIVE, (), reason=f"before step 1: {error}")
        else:
            found = enforce(gate, replay, explored)
        if found.verdict == INCONCLUSIVE:
            self.end(at_once=True)
        return found

    def start(self) -> Gate:
        """The gate, with both at it. Raises GateError if they do not come."""
        if self._gate is None:
            self._directory = tempfile.TemporaryDirectory(prefix="essa-gate-")
            folder = Path(self._directory.name)
            address = self._listen or Address(path=str(folder / "gate"))
            gate = self._gate = Gate(address, self._timeout_seconds, self._tls)
            for role in ROLES if self._listen is None else ():
                self._children[role] = _start(role, gate.address, folder)
            gate.wait_for_both(ARRIVAL_SECONDS)
        return self._gate

    def end(self, *, at_once: bool = False) -> None:
        """Let both go, and see that they have gone. at_once: they are not waited for."""
        if self._gate is not None:
            self._gate.close()
            self._gate = None
        for child in self._children.values():
            _end(child, _AT_ONCE if at_once else _GENTLY)
        self._children.clear()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()


def _start(role: str, gate: Address, folder: Path) -> subprocess.Popen[bytes]:
    # An environment that configures somebody's daemon must not configure this one.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ESSA_")}
    environment.setdefault("GRPC_VERBOSITY", "NONE")  # connections end, and that is no news
    arguments = ["races", "attend", role, "--gate", str(gate), "--directory", str(folder)]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "essa_cli", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=environment,
        process_group=0,
    )


def _end(child: subprocess.Popen[bytes], signals: Sequence[int]) -> None:
    for number in signals:
        if number != NO_SIGNAL:
            child.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(END_SECONDS)
            return
