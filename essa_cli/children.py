"""Processes of `essa` that a command starts, follows and ends.

Rules:
- Every process is a child of this one in a process group of its own, so that the keyboard's
  interrupt reaches this process alone; it ends each child by its id, whatever happened.
- Guests say how far they are in their logs, and what they did in their reports; the host is
  asked over its operators' socket. Nothing is counted here.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

READY_SECONDS: Final = 60.0
"""For a host, which has to import its libraries on a machine that may be busy."""
TERM_SECONDS: Final = 5.0
"""A child that does not end on SIGTERM in this time is killed."""
LAST_LINES: Final = 12
"""What is kept of a child's log, for when it fails."""
LINE_BYTES_MAX: Final = 1 << 20
HOST: Final = "the host"


class ChildFailedError(Exception):
    """A child ended as it should not; says which, and its last lines.

    bad_input: the child itself says that the user can mend it.
    """

    def __init__(self, child: str, how: str, lines: list[str], *, bad_input: bool = False) -> None:
        super().__init__("\n  ".join((f"{child} {how}", *lines)))
        self.child = child
        self.summary = f"{child}: {lines[-1].removeprefix('essa: ')}" if lines else str(self)
        self.bad_input = bad_input


class Child:
    """One process. `follow` reads its output to the end."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, lines: int) -> None:
        self.name = name
        self.process = process
        self.log: deque[str] = deque(maxlen=lines)

    async def follow(
        self, stream: asyncio.StreamReader | None, take: Callable[[str], None]
    ) -> None:
        """Hand out the lines of one of its streams until it closes."""
        assert stream is not None
        async for line in stream:
            take(line.decode(errors="replace").rstrip())

    async def run(self, logged: Callable[[str], None]) -> tuple[int, list[str]]:
        """Follow it to its end: its exit code, and what it printed."""
        printed: list[str] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(self.follow(self.process.stdout, printed.append))
            group.create_task(self.follow(self.process.stderr, logged))
        return await self.process.wait(), printed

    def failure(self, how: str) -> ChildFailedError:
        """The error that says how this child ended."""
        return ChildFailedError(
            self.name, how, list(self.log), bad_input=self.process.returncode == 2
        )

    async def end(self) -> None:
        """Make sure that it has ended."""
        process = self.process
        if process.returncode is not None:
            return
        try:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(TERM_SECONDS):
                await process.wait()
        except ProcessLookupError:
            await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def start(
    stack: AsyncExitStack, name: str, directory: Path, *arguments: str, lines: int = LAST_LINES
) -> Child:
    """Start `essa ARGUMENTS` so that leaving the stack ends it."""
    # An environment that configures somebody's host must not configure this one.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ESSA_")}
    environment["TMPDIR"] = str(directory)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # modules in the user's directory are not ours
        "-m",
        "essa_cli",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        process_group=0,
        limit=LINE_BYTES_MAX,
    )
    child = Child(name, process, lines)
    stack.push_async_callback(child.end)
    return child


async def watch_host(host: Child) -> None:
    """Follow the host's log; it must not end before it is told to."""
    code, _ = await host.run(host.log.append)
    raise host.failure(f"ended with code {code}")


def event_of(line: str) -> dict[str, Any]:
    """A line of a child's log as what it logged; empty for any other line."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def gravest(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of what came together, what to tell: when the host dies its guests fail too."""
    children = [e for e in failures.exceptions if isinstance(e, ChildFailedError)]
    for child in children:
        if child.child == HOST:
            return child
    return children[0] if children else failures.exceptions[0]
