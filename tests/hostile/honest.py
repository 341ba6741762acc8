"""Honest guests beside an attack: each is begun anew when it has ended, until they are told.

Rules:
- A guest checks every byte that it reads, and all its memory and its invariants at its end: a
  report is an end. So guests are short, and the last ones end after the attack has.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tests.process.host_process import ESSA

NAMES = ("honest-1", "honest-2")
SECONDS_MAX = 900


@dataclass(frozen=True, slots=True)
class Ended:
    """A guest that has come to its end. at: when, by the monotonic clock."""

    name: str
    at: float
    code: int
    report: dict[str, Any]

    def wrong(self, operations: int) -> list[str]:
        """Everything that must not be."""
        wanted = {
            "requests": operations,
            "integrity_errors": 0,
            "invariant_violations": 0,
            "reboots": 0,
        }
        seen = {key: self.report.get(key) for key in wanted}
        if seen == wanted and not self.code:
            return []
        return [f"{self.name} ended with {self.code}: {seen}: {self.report.get('failure')}"]


class HonestGuests:
    """Guests of the host at `listen`, each of so many operations. `ended` grows."""

    def __init__(self, listen: str, operations: int) -> None:
        self.ended: list[Ended] = []
        self._listen, self._operations = listen, operations
        self._over = threading.Event()
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._threads = ThreadPoolExecutor(len(NAMES))
        self._workers = [self._threads.submit(self._work, name) for name in NAMES]

    def wait(self) -> None:
        """Begin no more, and return when those at work have ended."""
        self._over.set()
        for worker in self._workers:
            worker.result(SECONDS_MAX)

    def _work(self, name: str) -> None:
        seed = 0
        while not self._over.is_set():
            seed += 1
            command = [*ESSA, "guest", "--host", self._listen, "--name", name, "--memory", "256"]
            command += ["--vcpus", "3", "--workload", "mixed", "--seed", str(seed)]
            command += ["--operations", str(self._operations), "--json", "--log-level", "error"]
            guest = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self._running[name] = guest
            out, _ = guest.communicate(timeout=SECONDS_MAX)
            report = json.loads(out or "{}")
            self.ended.append(Ended(name, time.monotonic(), guest.returncode, report))
            if guest.returncode:
                return  # told in `ended`; the next one would fare no better

    def __enter__(self) -> HonestGuests:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if kind is not None:
            for guest in self._running.values():
                guest.kill()
        self._threads.shutdown()
