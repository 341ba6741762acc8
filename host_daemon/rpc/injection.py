"""Does what injected faults ask for, at the boundary between the servicers and the shell.

Rules:
- The book decides whether a fault strikes; here it happens. Callers ask only where the book
  has rules for their place, so that without faults nothing here runs.
- What is left out, late or doubled is a command of its own: others of its message go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

from host_daemon.core.pressure import limits
from host_daemon.faults.book import FaultBook
from host_daemon.faults.rule import Rule
from host_daemon.rpc.evictions import Evictions, check_victims
from host_daemon.rpc.sessions import GuestSession
from host_daemon.rpc.shell import HostShell
from host_daemon.rpc.streams import FaultStream, OutcomeStream
from shared.commands import Command
from shared.errors import EssaError, InvalidRequestError
from shared.events import EventKind
from shared.faults import KINDS, FaultSpec, Kind, Place
from shared.rpc.codec import Numbered
from shared.rpc.status import StreamResetError
from shared.telemetry import logger

ACTIVE_MAX: Final = 256
"""Faults that can be active at once: each is looked at for every command."""
_RESET: Final = "an injected fault has reset the call"


class Injector:
    """Injects into one shell; see `shared.faults` for the kinds."""

    def __init__(self, shell: HostShell) -> None:
        self._shell = shell
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._evictions: dict[int, Evictions] = {}
        shell.book.ended = self._ended

    @property
    def book(self) -> FaultBook:
        """What is injected."""
        return self._shell.book

    # Operators

    def inject(self, spec: FaultSpec) -> Rule:
        """Begin a fault. Raises DrainingError, GuestNotFoundError, InvalidRequestError."""
        self._shell.refuse_while_draining()
        if len(self.book.active()) >= ACTIVE_MAX:
            raise InvalidRequestError(
                f"fault would be active beside {ACTIVE_MAX} others; stop some first",
                field="fault",
                high=ACTIVE_MAX,
            )
        loop = asyncio.get_running_loop()
        place = KINDS[spec.kind].place
        if place is Place.EVICTION:
            check_victims(self._shell, spec)
        if place is Place.MEMORY:
            self._withhold([*self._memory(), spec])
        rule = self.book.add(spec, loop.time())
        if spec.for_seconds:
            timer = loop.call_later(spec.for_seconds, self.book.end, rule)
            self._timers[rule.fault_id] = timer
        if place is Place.MEMORY:
            rule.matched = rule.struck = self._frames_of(spec) or 1
        if place is Place.EVICTION:
            self._evictions[rule.fault_id] = Evictions(self._shell, rule)
        self._tell(EventKind.FAULT_INJECTED, rule)
        logger().info("fault_injected", fault=rule.fault_id, kind=str(spec.kind))
        return rule

    def stop(self, fault_id: int | None) -> list[Rule]:
        """End one fault, or all; returns what was ended. Raises FaultNotFoundError."""
        if fault_id is None:
            return self.book.end_all()
        rule = self.book.by_id(fault_id)
        self.book.end(rule)
        return [rule]

    def age_seconds(self, rule: Rule) -> float:
        """Since it was injected."""
        return asyncio.get_running_loop().time() - rule.since

    def _ended(self, rule: Rule) -> None:
        if timer := self._timers.pop(rule.fault_id, None):
            timer.cancel()
        if evictions := self._evictions.pop(rule.fault_id, None):
            evictions.stop()
        if KINDS[rule.spec.kind].place is Place.MEMORY:
            self._withhold(self._memory())
        if KINDS[rule.spec.kind].place is Place.DELIVERY:
            for session in self._shell.sessions:
                if isinstance(session.subscriber, FaultStream):
                    session.subscriber.look_again()
        self._tell(EventKind.FAULT_ENDED, rule)
        logger().info("fault_ended", fault=rule.fault_id, struck=rule.struck)

    def _tell(self, kind: EventKind, rule: Rule) -> None:
        self._shell.watchers.tell(kind, fault_id=rule.fault_id, fault_kind=rule.spec.kind)

    def _memory(self) -> list[FaultSpec]:
        return [rule.spec for rule in self.book.memory]

    def _frames_of(self, spec: FaultSpec) -> int:
        if spec.kind is not Kind.MEMORY_PRESSURE:
            return 0
        return spec.frames or self._shell.host.config.frame_count * (spec.percent or 50) // 100

    def _withhold(self, specs: Iterable[FaultSpec]) -> None:
        specs = list(specs)
        full = any(spec.kind is Kind.DEVICE_FULL for spec in specs)
        slots = limits(self._shell.host.config)[1] if full else 0
        self._shell.withhold(frames=sum(map(self._frames_of, specs)), slots=slots)

    # Execute

    def take_in(self, stream: OutcomeStream, commands: list[Numbered]) -> list[Numbered]:
        """The commands of a message as they come to the shell. Raises StreamResetError."""
        guest = stream.session.spec.name
        taken: list[Numbered] = []
        for numbered in commands:
            issuer, number, command = numbered
            rule = self.book.about_command(guest, issuer, command)
            if rule is None:
                taken.append(numbered)
                continue
            match rule.spec.kind, rule.spec.side:
                case Kind.REQUEST_LOST, _:
                    continue
                case Kind.RESET, _:
                    raise StreamResetError(_RESET)
                case Kind.DELAY, "request":
                    loop = asyncio.get_running_loop()
                    loop.call_later(rule.spec.delay_seconds, self._late, stream, numbered)
                    continue
                case Kind.DUPLICATE, _:
                    taken.append(numbered)
                case Kind.REPLY_LOST, _:
                    stream.injected[issuer, number] = None
                case Kind.DELAY, _:
                    stream.injected[issuer, number] = rule.spec.delay_seconds
            taken.append(numbered)
        return taken

    def _late(self, stream: OutcomeStream, numbered: Numbered) -> None:
        """Take in a delayed command, unless it was sent again meanwhile and is history."""
        if stream not in stream.session.streams:
            return
        with contextlib.suppress(EssaError):
            for answered in self._shell.execute(stream.session, [numbered], stream):
                stream.push(*answered)

    # Other calls

    async def before_call(
        self, method: str, guest: str, issuer: int = 0, command: Command | None = None
    ) -> Rule | None:
        """What happens to a call before it is executed; the fault goes to `after_call`.

        It may take long: what was known of sessions before is to be looked up again.
        """
        rule = self.book.about_call(method, guest, issuer, command)
        if rule is None:
            return None
        if rule.spec.kind is Kind.RESET:
            raise StreamResetError(_RESET)
        if rule.spec.kind is Kind.REQUEST_LOST:
            await asyncio.Event().wait()  # until the caller's patience is over
        if rule.spec.kind is Kind.DELAY and rule.spec.side == "request":
            await asyncio.sleep(rule.spec.delay_seconds)
        return rule

    async def after_call(self, rule: Rule | None) -> None:
        """What happens to the answer."""
        if rule is None:
            return
        if rule.spec.kind is Kind.REPLY_LOST:
            await asyncio.Event().wait()
        if rule.spec.kind is Kind.DELAY and rule.spec.side == "reply":
            await asyncio.sleep(rule.spec.delay_seconds)

    async def pace(self, method: str, session: GuestSession) -> None:
        """Wait as a slow consumer does before each message."""
        rule = self.book.about_message(method, session.spec.name)
        if rule is not None:
            await asyncio.sleep(1 / rule.spec.rate)
