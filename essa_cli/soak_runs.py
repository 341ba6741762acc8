"""A soak's processes: one host, its guests, and a steady stream of forced evictions.

Rules:
- The evictions are drawn from the seed and from the states that the host shows: first a
  state, then a page of it, so that the few pages in a rare state are met as often as the rest.
- Guests check everything themselves (bytes, invariants) and say so; here it is added up.
- A guest that its kernel has stopped is a result; the others go on. Any other failure of a
  process ends the run.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np

from essa_cli.children import HOST, READY_SECONDS, Child, event_of, gravest, start, watch_host
from shared.arch import CONTENT_MASK, STATE_MASK, STATE_NAMES, Content
from shared.errors import GuestNotFoundError
from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.rpc.channel import Address, HostUnreachableError, call, connect

STALL_SECONDS: Final = 20.0
"""Without a finished operation for so long, a guest is dead-locked."""
SILENCE_SECONDS: Final = 60.0
"""A guest that has begun to log and stops for so long hangs."""
EVICT_SECONDS: Final = 0.02
"""Between two rounds of evictions."""
EVICTIONS_A_ROUND: Final = 8
"""Pages of each guest in one round."""
FRAMES_PART: Final = 2
"""The host has so many times fewer frames than its guests have pages."""
SWAP_PART: Final = 2
"""A guest has so many times fewer slots on its swap device than it could have pages."""
KEPT_LINES: Final = 400
"""Of a guest's log, for its oops."""
DAMAGE_MAX: Final = 20
"""Violations that are told in full; all are counted."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What a guest differs in from others. memory_part: it has so many times fewer pages."""

    options: tuple[str, ...] = ()
    memory_part: int = 1


VARIANTS: Final = (
    Variant(),
    # Anonymous memory that does not fit: this one swaps.
    Variant(
        (
            "--minor-faults", "--grace", "sign-off",
            "--weights", "store=120,mmap=12,munmap=2,fork=2,exit=2",
        ),
        memory_part=3,
    ),
    Variant(("--grace", "each", "--dirty-accounting")),
    Variant(("--minor-faults",)),
)  # fmt: skip
"""The guests, in turn: each variant of the kernel is soaked."""


@dataclass(frozen=True, slots=True)
class SoakPlan:
    """What a soak does. options: what all guests are given besides; they win."""

    seed: int
    operations: int
    guests: int
    vcpus: int
    page_count: int
    options: tuple[str, ...] = ()

    def share(self, guest: int) -> int:
        """How many operations a guest has."""
        return self.operations // self.guests + (guest < self.operations % self.guests)

    def variant(self, guest: int) -> Variant:
        """What is different about a guest."""
        return VARIANTS[guest % len(VARIANTS)]

    def memory(self, guest: int) -> int:
        """How many pages a guest has."""
        return self.page_count // self.variant(guest).memory_part

    @property
    def frames(self) -> int:
        """How many frames the host has: far fewer than its guests have pages."""
        return sum(self.memory(guest) for guest in range(self.guests)) // FRAMES_PART


@dataclass(slots=True)
class GuestState:
    """One guest, as its log and its report tell. failure: why it ended early."""

    name: str
    operations: int
    done: int = 0
    discard_faults: int = 0
    damage: list[str] = field(default_factory=list)
    damaged_after: int | None = None
    failure: str | None = None
    report: dict[str, Any] = field(default_factory=dict)

    def take(self, line: str) -> bool:
        """Take in a line of its log; False if it tells nothing about the run."""
        event = event_of(line)
        match event.get("event"):
            case "guest_progressed":
                self.done, self.discard_faults = event["requests"], event["discard_faults"]
            case "integrity_error_found":
                lines = [event["what"], event["page"], *event["history"]]
                self._damaged("integrity error: " + "\n    ".join(lines), event["requests"])
            case "invariant_violated":
                self._damaged(f"invariant violated: {event['what']}", event["requests"])
            case "guest_failed":
                self.failure, self.done = event["reason"], event["requests"]
                self._damaged(event["reason"], event["requests"])
            case _:
                return False
        return True

    def _damaged(self, what: str, after: int) -> None:
        if self.damaged_after is None:
            self.damaged_after = after
        if len(self.damage) < DAMAGE_MAX:
            self.damage.append(f"{self.name} after {after:,} operations: {what}")


@dataclass(slots=True)
class Soak:
    """A soak, while it goes on and afterwards. evicted: pages by the state they were in."""

    plan: SoakPlan
    guests: list[GuestState]
    evicted: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @classmethod
    def of(cls, plan: SoakPlan) -> Soak:
        """A soak that has not begun."""
        return cls(plan, [GuestState(f"soak-{n}", plan.share(n)) for n in range(plan.guests)])

    @property
    def done(self) -> int:
        """Operations that are finished."""
        return sum(guest.done for guest in self.guests)

    def total(self, figure: str) -> int:
        """A figure of the guests' reports, added up."""
        return sum(int(guest.report.get(figure, 0)) for guest in self.guests)

    @property
    def invariant_violations(self) -> int:
        """What the checks found, and guests that their own kernels have stopped."""
        stopped = sum(guest.failure is not None for guest in self.guests)
        return self.total("invariant_violations") + stopped

    @property
    def damaged_after(self) -> int | None:
        """Operations of one guest until it first said that something is wrong."""
        known = [g.damaged_after for g in self.guests if g.damaged_after is not None]
        return min(known, default=None)

    @property
    def is_clean(self) -> bool:
        """Every byte right, every invariant kept, every guest at its end."""
        return not self.total("integrity_errors") and not self.invariant_violations

    def plain(self) -> dict[str, Any]:
        """The figures as plain data."""
        essa: Counter[str] = Counter()
        workload: Counter[str] = Counter()
        for guest in self.guests:
            essa.update(guest.report.get("essa", {}))
            workload.update(guest.report.get("workload", {}))
        figures = (
            "discard_faults", "pages_discarded", "disk_reads", "disk_writes",
            "swap_reads", "swap_writes", "commands",
        )  # fmt: skip
        return {
            "operations": self.done,
            "integrity_errors": self.total("integrity_errors"),
            "invariant_violations": self.invariant_violations,
            **{name: self.total(name) for name in figures},
            "seconds": round(self.seconds, 3),
            "operations_per_second": round(self.done / self.seconds, 1) if self.seconds else 0.0,
            "evictions": sum(self.evicted.values()),
            "evicted": dict(sorted(self.evicted.items())),
            "essa": dict(essa),
            "workload": dict(sorted(workload.items())),
            "seed": self.plan.seed,
            "guests": self.plan.guests,
            "vcpus": self.plan.vcpus,
            "damaged_after": self.damaged_after,
            "damage": [line for guest in self.guests for line in guest.damage],
        }


async def perform(soak: Soak, directory: Path) -> None:
    """Run a soak to its end. directory: an empty one, for sockets and disks.

    Raises ChildFailedError for a process that ended as it should not; a guest that its own
    kernel has stopped is a result.
    """
    plan, listen, control = soak.plan, directory / "e", directory / "c"
    async with AsyncExitStack() as stack:
        host = await start(
            stack, HOST, directory, "host", "--listen", f"unix:{listen}",
            "--control", f"unix:{control}", "--memory", str(plan.frames), "--log-level", "warning",
        )  # fmt: skip
        children = [
            await start(
                stack, state.name, directory, "guest", "--host", f"unix:{listen}",
                *_guest_options(plan, number, state), lines=KEPT_LINES,
            )
            for number, state in enumerate(soak.guests)
        ]  # fmt: skip
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(watch_host(host)),
                    group.create_task(_evict(soak, control)),
                ]
                working = [
                    group.create_task(_follow(child, state))
                    for child, state in zip(children, soak.guests, strict=True)
                ]
                await asyncio.wait(working, return_when=asyncio.FIRST_EXCEPTION)
                for task in background:
                    task.cancel()
        except BaseExceptionGroup as failures:
            raise gravest(failures) from None
        finally:
            soak.seconds = loop.time() - begun


def _guest_options(plan: SoakPlan, number: int, state: GuestState) -> list[str]:
    seed = str(plan.seed * 1_000 + number)
    return [
        "--name", state.name, "--memory", str(plan.memory(number)),
        "--swap", str(plan.page_count // SWAP_PART), "--vcpus", str(plan.vcpus),
        "--workload", "mixed", "--seed", seed, "--operations", str(state.operations),
        "--perturb", seed, "--stall", f"{STALL_SECONDS:g}", "--wait", f"{READY_SECONDS:g}",
        "--log-level", "info", "--json", *plan.variant(number).options, *plan.options,
    ]  # fmt: skip


async def _follow(child: Child, state: GuestState) -> None:
    """Follow a guest to its end and take its report."""
    heard = asyncio.Event()

    def logged(line: str) -> None:
        heard.set()
        if not state.take(line):
            child.log.append(line)

    async def listen() -> None:
        await heard.wait()
        while True:
            heard.clear()
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    await heard.wait()
            except TimeoutError:
                raise child.failure(f"has said nothing for {SILENCE_SECONDS:g} seconds") from None

    async with asyncio.TaskGroup() as group:
        listening = group.create_task(listen())
        code, printed = await child.run(logged)
        listening.cancel()
    # Code 1 with a report is a guest that found something wrong: a result, to be shown.
    if code not in (0, 1) or len(printed) != 1:
        raise child.failure(f"ended with code {code}")
    state.report = json.loads(printed[0])
    state.done = state.report["requests"]


async def _evict(soak: Soak, control: Path) -> None:
    """Evict without end; a host that is not there yet, or no more, is no failure."""
    random = Random(soak.plan.seed)
    while True:
        # A channel that has found nobody takes its time to look again; a new one does not.
        channel = connect(Address(path=str(control)))
        try:
            stub: Any = essa_pb2_grpc.ControlServiceStub(channel)  # type: ignore[no-untyped-call]
            while True:
                await asyncio.sleep(EVICT_SECONDS)
                for guest in soak.guests:
                    await _evict_some(soak, stub, guest.name, random)
        except HostUnreachableError:
            continue
        finally:
            await channel.close(None)


async def _evict_some(soak: Soak, stub: Any, name: str, random: Random) -> None:
    """One round for one guest, which may not be open yet, or no more."""
    try:
        reply = await call(stub, "GetPageMap", pb.GetPageMapRequest(name=name))
    except GuestNotFoundError:
        return
    states = np.frombuffer(reply.states, np.uint8) & STATE_MASK
    resident = [int(s) for s in np.unique(states) if s & CONTENT_MASK == Content.RESIDENT]
    if not resident:
        return
    request = pb.EvictPagesRequest(name=name)
    for _ in range(EVICTIONS_A_ROUND):
        state = random.choice(resident)
        pfn = int(random.choice(np.flatnonzero(states == state).tolist()))
        request.ranges.add(first_pfn=pfn, page_count=1)
        soak.evicted[STATE_NAMES[state]] += 1
    with suppress(GuestNotFoundError):
        await call(stub, "EvictPages", request)
