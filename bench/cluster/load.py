"""The working guests, as processes: begun, asked, ended."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from bench.cluster.settings import Settings
from bench.processes import ServerError

START_SECONDS: Final = 300.0
ANSWER_SECONDS: Final = 60.0
Sample = dict[str, float]


@dataclass(frozen=True, slots=True)
class Done:
    """What was done between two samples, a second; errors so far."""

    requests: float
    commands: float
    messages: float
    discard_faults: float
    errors: int


class Load:
    """All processes that hold working guests."""

    def __init__(self, processes: list[asyncio.subprocess.Process]) -> None:
        self._processes = processes

    async def ready(self) -> None:
        """Wait until every guest works. Raises ServerError."""
        for process in self._processes:
            await self._line(process, START_SECONDS)

    async def sample(self) -> list[Sample]:
        """What each process has done so far."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")
        lines = [self._line(process, ANSWER_SECONDS) for process in self._processes]
        return [json.loads(line) for line in await asyncio.gather(*lines)]

    async def _line(self, process: asyncio.subprocess.Process, seconds: float) -> bytes:
        assert process.stdout is not None
        async with asyncio.timeout(seconds):
            line = await process.stdout.readline()
        if not line:
            raise ServerError(f"guests ended before they should: code {await process.wait()}")
        return line


@asynccontextmanager
async def working(host: str, guest_count: int, settings: Settings) -> AsyncIterator[Load]:
    """Guests at work, spread evenly over processes; ended at the end."""
    count = min(settings.processes, guest_count)
    bounds = [guest_count * n // count for n in range(count + 1)]
    processes: list[asyncio.subprocess.Process] = []
    try:
        for first, stop in pairwise(bounds):
            arguments = (host, str(first), str(stop - first))
            shape = ("--vcpus", str(settings.vcpu_count), "--pages", str(settings.guest_pages))
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bench.cluster.agents", *arguments, *shape),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            processes.append(process)
        load = Load(processes)
        await load.ready()
        yield load
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        await asyncio.gather(*map(_ended, processes))


async def _ended(process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()


def between(before: list[Sample], after: list[Sample]) -> Done:
    """Rates of all processes together, each over its own time."""

    def rate(name: str) -> float:
        return sum(
            (b[name] - a[name]) / (b["at"] - a["at"]) for a, b in zip(before, after, strict=True)
        )

    errors = int(sum(sample["errors"] for sample in after))
    figures: dict[str, Any] = {
        name: rate(name) for name in ("requests", "commands", "messages", "discard_faults")
    }
    return Done(errors=errors, **figures)
