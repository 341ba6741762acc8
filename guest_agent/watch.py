"""Finds out when a guest can never go on, and says what each of its vCPUs waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from guest_agent.rpc.link import RpcLink
from guest_agent.rpc.schedule import LoopSchedule
from shared.telemetry import logger

WATCH_SECONDS: Final = 1.0
STALL_SECONDS: Final = 15.0
"""After so long without an answer from the host the log says what each vCPU waits for."""


class DeadlockError(Exception):
    """Every vCPU waits, and nothing is under way that could wake one: a bug."""


class InFlight(Protocol):
    """The guest's disk, as far as it matters here."""

    @property
    def in_flight(self) -> int:
        """Transfers submitted and not completed."""
        ...


class Watch:
    """Watches one incarnation of a guest.

    completed: how many steps of the workload are done; None while none is under way. Not how many
    requests: one may be hundreds of pages, and on a busy machine take minutes.
    stall_seconds: without another step for so long the guest is dead-locked; None: never.
    """

    def __init__(
        self,
        vcpu_count: int,
        schedule: LoopSchedule,
        link: RpcLink,
        disk: InFlight,
        completed: Callable[[], int | None],
        stall_seconds: float | None,
    ) -> None:
        self._vcpu_count = vcpu_count
        self._schedule = schedule
        self._link = link
        self._disk = disk
        self._completed = completed
        self._stall_seconds = stall_seconds

    async def run(self) -> None:
        """Look every now and then, until cancelled. Raises DeadlockError."""
        loop = asyncio.get_running_loop()
        commands, idle_since = -1, 0.0
        completed, completed_at = self._completed(), loop.time()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = loop.time()
            if completed is None or completed != self._completed():
                completed, completed_at = self._completed(), now
            elif self._stall_seconds is not None and now - completed_at >= self._stall_seconds:
                raise DeadlockError(
                    f"deadlock: nothing was completed for {self._stall_seconds:g} seconds: "
                    + "; ".join(self._doing())
                )
            if self._link.statistics.commands != commands:
                commands, idle_since = self._link.statistics.commands, now
            elif self._nothing_can_move():
                raise DeadlockError(f"deadlock: {'; '.join(self._doing())}")
            elif now - idle_since >= STALL_SECONDS:
                idle_since = now
                logger().warning(
                    "guest_stalled",
                    waiting=self._doing(),
                    commands=self._link.in_flight,
                )

    def _nothing_can_move(self) -> bool:
        under_way = self._link.in_flight + self._disk.in_flight
        return not under_way and len(self._schedule.waiting()) == self._vcpu_count

    def _doing(self) -> list[str]:
        """What each vCPU waits for, a line each."""
        waiting = {w.vcpu: w for w in self._schedule.waiting()}
        commands = self._link.outstanding()
        lines = []
        for vcpu in range(self._vcpu_count):
            if (waits := waiting.get(vcpu)) is not None:
                what = f"{waits.label}{' (undeclared change)' if waits.ready else ''}"
            elif vcpu in commands:
                what = f"the host's answer to {commands[vcpu]}"
            else:
                what = "running"
            lines.append(f"vcpu {vcpu}: {what}")
        return lines
