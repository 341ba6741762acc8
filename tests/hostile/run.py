"""A host process with honest guests at work, and a hostile client beside them."""

from __future__ import annotations

import asyncio
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.campaign import Told, attack
from tests.process.host_process import ESSA, HostProcess

SECONDS_MAX = 900


@dataclass(frozen=True, slots=True)
class Aftermath:
    """told: of the calls. resident: the host's memory after the first tenth, and at the end, in
    bytes. log: of the host. honest: the honest guests' reports."""

    told: Told
    resident: tuple[int, int]
    log: str
    honest: list[dict[str, Any]]

    def wrong(self) -> list[str]:
        """Everything that must not be."""
        found = list(self.told.unclear)
        found += [line for line in self.log.splitlines() if "bug_found" in line]
        for report in self.honest:
            for name in ("integrity_errors", "invariant_violations", "reboots"):
                if report[name]:
                    found.append(f"{report['name']}: {name}: {report[name]}")
        return found


def resident_bytes(process_id: int) -> int:
    """The resident set of a process."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def _guest(host: HostProcess, name: str, operations: int) -> subprocess.Popen[str]:
    command = [*ESSA, "guest", "--host", host.listen, "--name", name, "--memory", "256"]
    command += ["--vcpus", "3", "--workload", "mixed", "--operations", str(operations)]
    command += ["--json", "--log-level", "error"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def beset(directory: Path, messages: int, seed: int, operations: int) -> Aftermath:
    """Run it all to its end."""
    with HostProcess(directory, "--memory", "320", "--paging-size", "64M") as host:
        guests = [_guest(host, name, operations) for name in ("honest-1", "honest-2")]
        where = host.listen, host.control
        first = asyncio.run(attack(*where, messages // 10, seed))
        before = resident_bytes(host.process_id)
        told = asyncio.run(attack(*where, messages - messages // 10, seed + 1))
        after = resident_bytes(host.process_id)
        honest = [json.loads(guest.communicate(timeout=SECONDS_MAX)[0]) for guest in guests]
        code, log = host.stop()
    for name, counts in first.statuses.items():
        told.statuses.setdefault(name, counts.__class__()).update(counts)
    told.unclear[:0] = first.unclear
    if code or any(guest.returncode for guest in guests):
        told.unclear.append(f"the host ended with {code}, guests with other than 0")
    return Aftermath(told, (before, after), log, honest)
