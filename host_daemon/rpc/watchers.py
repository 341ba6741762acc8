"""Operators who watch: what happens goes into a bounded queue for each of them.

Rules:
- Nobody waits for a watcher. What does not fit into its queue is counted, and told as one
  event at the place where it is missing.
- Without watchers the core notices nothing, and the shell asks one tuple whether it is empty.
- The core has no clock: an event gets its time here.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from host_daemon.core.effects import Noticed
from shared.errors import TooManyWatchersError
from shared.events import Event, EventFilter, EventKind

QUEUE_MAX: Final = 4096
TAKE_MAX: Final = 256
WATCHERS_MAX: Final = 64


class Watcher:
    """One WatchEvents stream. missed_total: events that it has not got, ever."""

    def __init__(self, wanted: EventFilter) -> None:
        self._wanted = wanted
        self._events: deque[Event] = deque()
        self._missed = 0
        self.missed_total = 0
        self._ended = False
        self._changed = asyncio.Event()

    def push(self, event: Event) -> None:
        """Take an event, if it is wanted and there is room."""
        if not self._wanted.wants(event):
            return
        if len(self._events) >= QUEUE_MAX or self._missed:
            self._missed += 1
            self.missed_total += 1
        else:
            self._events.append(event)
        self._changed.set()

    def end(self) -> None:
        """Let the handler return, once it has sent what it has."""
        self._ended = True
        self._changed.set()

    async def take(self) -> list[Event]:
        """The next events, at most TAKE_MAX; none: the host ends."""
        while not self._events and not self._missed and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        count = min(len(self._events), TAKE_MAX)
        taken = [self._events.popleft() for _ in range(count)]
        if self._missed and not self._events and count < TAKE_MAX:
            taken.append(Event(time.time_ns(), EventKind.EVENTS_MISSED, missed=self._missed))
            self._missed = 0
        return taken


class Watchers:
    """All of them. watch: turns the core's notices on and off. missed: by those that are gone."""

    def __init__(self, watch: Callable[[bool], None]) -> None:
        self.active: tuple[Watcher, ...] = ()
        self.missed = 0
        self._watch = watch
        self._stuck = False

    def add(self, watcher: Watcher) -> None:
        """Begin to tell it. Raises TooManyWatchersError."""
        if len(self.active) >= WATCHERS_MAX:
            raise TooManyWatchersError(
                f"{len(self.active)} watchers are there; there may be {WATCHERS_MAX}",
                watchers=len(self.active),
                high=WATCHERS_MAX,
            )
        self.active = (*self.active, watcher)
        self._watch(True)

    def remove(self, watcher: Watcher) -> None:
        """Tell it nothing more."""
        self.missed += watcher.missed_total
        self.active = tuple(other for other in self.active if other is not watcher)
        self._watch(bool(self.active))

    @property
    def missed_total(self) -> int:
        """Events that watchers were too slow for."""
        return self.missed + sum(watcher.missed_total for watcher in self.active)

    def end(self) -> None:
        """The host ends."""
        for watcher in self.active:
            watcher.end()

    def tell(self, kind: EventKind, guest: str = "", **values: Any) -> None:
        """Something has happened; values: fields of `Event`."""
        if self.active:
            event = Event(time.time_ns(), kind, guest, **values)
            for watcher in self.active:
                watcher.push(event)

    def noticed(self, notice: Noticed, guest: str) -> None:
        """The core has noticed something."""
        self.tell(
            notice.kind,
            guest,
            pfn=notice.pfn,
            vcpu=notice.vcpu,
            fault=notice.fault,
            before=notice.before,
            after=notice.after,
        )

    def now_stuck(self, stuck: bool) -> None:
        """Whether the host is stuck; told when it changes."""
        if stuck is not self._stuck:
            self._stuck = stuck
            self.tell(EventKind.HOST_STUCK if stuck else EventKind.HOST_UNSTUCK)
