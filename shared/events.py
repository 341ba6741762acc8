"""What an operator can watch happen in a host.

Rules:
- One name per kind: this one, in lower case, is on the command line and in its JSON; on the
  wire it has the prefix EVENT_KIND_.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Final

from shared.faults import Kind


class EventKind(StrEnum):
    """Kinds of events; proto/essa.proto says what each carries."""

    GUEST_OPENED = auto()
    GUEST_CLOSED = auto()
    PAGE_DISCARDED = auto()
    PAGE_OUT_DONE = auto()
    PAGE_OUT_FAILED = auto()
    PAGE_IN_DONE = auto()
    PAGE_IN_FAILED = auto()
    DISCARD_FAULT_RAISED = auto()
    DISCARD_FAULT_DELIVERED = auto()
    DISCARD_FAULT_ACKNOWLEDGED = auto()
    MACHINE_CHECK = auto()
    RECLAIM_BEGUN = auto()
    RECLAIM_ENDED = auto()
    HOST_STUCK = auto()
    HOST_UNSTUCK = auto()
    FAULT_INJECTED = auto()
    FAULT_ENDED = auto()
    EVENTS_MISSED = auto()


GUESTS_MAX: Final = 64
KINDS_MAX: Final = 64
"""Of one filter."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened. guest: empty for what concerns the whole host.

    time_ns: since 1970, by the host's clock. fault: a discard fault's number. missed: how many
    events a watcher has missed. fault_id, fault_kind: of an injected fault.
    """

    time_ns: int
    kind: EventKind
    guest: str = ""
    pfn: int | None = None
    vcpu: int | None = None
    fault: int | None = None
    before: int | None = None
    after: int | None = None
    missed: int | None = None
    fault_id: int | None = None
    fault_kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """What a watcher wants; an empty set wants everything. What was missed always comes."""

    guests: frozenset[str] = frozenset()
    kinds: frozenset[EventKind] = frozenset()

    def wants(self, event: Event) -> bool:
        """Whether the event is for this watcher."""
        wanted = not self.kinds or event.kind in self.kinds
        return wanted and (not self.guests or event.guest in self.guests)
