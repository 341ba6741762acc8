"""Runs a fault plan against a host: begins each fault at its time or trigger, follows it, sums up.

Rules:
- The host is asked every LOOK_SECONDS what has happened; a trigger is as exact as that.
- The host may be away for a while, which is what some faults are for: what is due waits for it.
- Faults end with their host's process; one that is gone is over.
- Whatever ends the run, the faults that it began are stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from essa_cli.control import Method
from essa_cli.errors import CliError
from essa_cli.fault_plan import COUNTERS, Entry, FaultPlan, Trigger
from essa_cli.processes import strike
from shared.errors import DrainingError, EssaError, GuestNotFoundError
from shared.essa.v1 import essa_pb2 as pb
from shared.faults import KINDS, Place
from shared.rpc.channel import HostUnreachableError
from shared.rpc.fault_codec import message_from_fault

LOOK_SECONDS: Final = 0.1
_AWAY: Final = (HostUnreachableError, DrainingError)


@dataclass(slots=True)
class Course:
    """What has become of an entry. state: waiting, active, over, failed or never begun.

    fault_id: the host's number for it, while it may still be asked for. told: what a fault
    of a process has done, or why it failed.
    """

    entry: Entry
    state: str = "waiting"
    fault_id: int | None = None
    matched: int = 0
    struck: int = 0
    begun_at: float | None = None
    told: str = ""
    task: asyncio.Task[str] | None = field(default=None, repr=False)


@dataclass(slots=True)
class _Seen:
    """The host as it was last seen; None: it does not answer."""

    host: Any
    guests: dict[str, Any]


class PlanRun:
    """One run. say: takes a line of progress."""

    def __init__(self, plan: FaultPlan, method: Method, say: Callable[[str], None]) -> None:
        self.courses = [Course(entry) for entry in plan.entries]
        self._plan = plan
        self._method = method
        self._say = say
        self._begun = asyncio.get_running_loop().time()
        self._answers = False

    async def run(self) -> None:
        """Until every fault is over, or failed, or the plan's time is. Raises CliError where
        no host answers at the beginning."""
        try:
            if await self._look() is None:
                raise CliError("--control: no host answers there, and the plan needs one")
            while any(course.state in ("waiting", "active") for course in self.courses):
                seen = await self._look()
                await self._follow(seen)
                self._give_up()
                for course in self.courses:
                    if course.state == "waiting" and self._is_due(course.entry, seen):
                        await self._begin(course)
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self._stop()

    def _time(self) -> float:
        return asyncio.get_running_loop().time() - self._begun

    def _tell(self, course: Course, what: str) -> None:
        entry = course.entry
        self._say(f"{self._time():7.2f} s  {entry.name} {entry.spec.kind}: {what}")

    # Looking

    async def _look(self) -> _Seen | None:
        try:
            host = await self._method("GetStatus", pb.GetStatusRequest())
            guests = await self._method("ListGuests", pb.ListGuestsRequest())
        except _AWAY:
            self._answers = False
            return None
        self._answers = True
        return _Seen(host, {guest.name: guest for guest in guests.guests})

    def _is_due(self, entry: Entry, seen: _Seen | None) -> bool:
        if entry.at is not None:
            return self._time() >= entry.at
        assert entry.when is not None
        return self._has_come(entry.when, seen)

    def _has_come(self, when: Trigger, seen: _Seen | None) -> bool:
        if when.fault:
            return self._named(when.fault).struck >= when.number
        if seen is None:
            return False
        watched = seen.guests.get(when.guest) if when.guest else seen.host
        if watched is None or not when.counter:
            return watched is not None
        return _count(watched.counters, when.counter) >= when.number

    # Beginning

    async def _begin(self, course: Course) -> None:
        spec = course.entry.spec
        if KINDS[spec.kind].place is Place.PROCESS:
            course.task = asyncio.create_task(asyncio.to_thread(strike, spec))
        else:
            if not self._answers:
                return
            request = pb.InjectFaultRequest(fault=message_from_fault(spec))
            try:
                reply = await self._method("InjectFault", request)
            except (*_AWAY, GuestNotFoundError):
                return  # it, or the guest that it names, comes back or the plan's time ends
            except EssaError as error:
                course.state, course.told = "failed", str(error)
                self._tell(course, f"failed: {error}")
                return
            for other in self.courses:
                if other.fault_id == reply.fault_id:
                    self._over(other)  # numbers begin anew with each process of the host
            course.fault_id = reply.fault_id
        course.state, course.begun_at = "active", self._time()
        cause = "" if course.entry.when is None else f", since {course.entry.when}"
        self._tell(course, f"begins{cause}")

    # Following

    async def _follow(self, seen: _Seen | None) -> None:
        for course in self.courses:
            if course.task is not None and course.task.done():
                self._process_done(course, course.task)
        if seen is None:
            return
        with suppress(*_AWAY):
            reply = await self._method("ListFaults", pb.ListFaultsRequest())
            self._take({fault.fault_id: fault for fault in reply.faults})

    def _take(self, found: dict[int, Any]) -> None:
        for course in self.courses:
            if course.fault_id is None or course.state != "active":
                continue
            fault = found.get(course.fault_id)
            if fault is not None:
                course.matched, course.struck = fault.matched_count, fault.struck_count
            if fault is None or not fault.active:
                self._over(course)

    def _over(self, course: Course) -> None:
        course.fault_id = None
        if course.state == "active":
            course.state = "over"
            self._tell(course, f"is over; it struck {course.struck:,} times")

    def _process_done(self, course: Course, task: asyncio.Task[str]) -> None:
        course.task = None
        try:
            course.told = task.result()
        except CliError as error:
            course.state, course.told = "failed", str(error)
            self._tell(course, f"failed: {error}")
            return
        course.state, course.matched, course.struck = "over", 1, 1
        self._tell(course, course.told)

    # Ending

    def _give_up(self) -> None:
        """What cannot begin any more does not; after the plan's time, neither does the rest."""
        late = self._time() > self._plan.timeout
        for course in self.courses:
            if course.state == "waiting" and (late or self._in_vain(course.entry.when)):
                course.state = "never begun"
                why = course.entry.when or f"{course.entry.at:g} s"
                self._tell(course, f"never begun: waited in vain for {why}")
            elif late and course.state == "active" and course.task is None:
                course.state = "over"  # its number is kept: it is stopped at the end
                self._tell(course, "is stopped: the plan's time is over")

    def _in_vain(self, when: Trigger | None) -> bool:
        if when is None or not when.fault:
            return False
        other = self._named(when.fault)
        return other.state not in ("waiting", "active") and other.struck < when.number

    def _named(self, name: str) -> Course:
        return next(course for course in self.courses if course.entry.name == name)

    async def _stop(self) -> None:
        for course in self.courses:
            if course.task is not None:
                await asyncio.wait([course.task])
                self._process_done(course, course.task)
            if course.fault_id is not None:
                with suppress(*_AWAY, EssaError):
                    await self._method("StopFault", pb.StopFaultRequest(fault_id=course.fault_id))


def _count(counters: pb.Counters, name: str) -> int:
    values = [getattr(counters, field_name) for field_name in COUNTERS[name]]
    return sum(value if isinstance(value, int) else sum(value) for value in values)
