"""Message <-> event, and the filter of a watch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from shared.errors import InvalidRequestError
from shared.essa.v1 import essa_pb2 as pb
from shared.events import GUESTS_MAX, KINDS_MAX, Event, EventFilter, EventKind
from shared.rpc.fault_codec import kind_from_wire, wire_kind

_WIRE_KINDS: Final[dict[EventKind, Any]] = {
    kind: pb.EventKind.Value(f"EVENT_KIND_{kind.name}") for kind in EventKind
}
_KINDS: Final = {number: kind for kind, number in _WIRE_KINDS.items()}
_NUMBERS: Final = {
    "pfn": "pfn",
    "vcpu": "vcpu",
    "fault": "fault_number",
    "before": "before_state",
    "after": "after_state",
    "missed": "missed_count",
    "fault_id": "fault_id",
}
"""Optional fields, as the value and as the wire call them."""


def message_from_events(events: Iterable[Event]) -> pb.WatchEventsResponse:
    """The wire's form."""
    response = pb.WatchEventsResponse()
    for event in events:
        message = response.events.add(kind=_WIRE_KINDS[event.kind], guest=event.guest)
        message.event_time.FromNanoseconds(event.time_ns)
        for ours, theirs in _NUMBERS.items():
            value = getattr(event, ours)
            if value is not None:
                setattr(message, theirs, value)
        if event.fault_kind is not None:
            message.fault_kind = wire_kind(event.fault_kind)
    return response


def events_from_message(message: pb.WatchEventsResponse) -> list[Event]:
    """Decode; events of kinds that a newer host knows are left out."""
    return [_event(one) for one in message.events if one.kind in _KINDS]


def _event(message: pb.Event) -> Event:
    numbers: dict[str, Any] = {
        ours: getattr(message, theirs)
        for ours, theirs in _NUMBERS.items()
        if message.HasField(theirs)
    }
    return Event(
        time_ns=message.event_time.ToNanoseconds(),
        kind=_KINDS[message.kind],
        guest=message.guest,
        fault_kind=kind_from_wire(message.fault_kind) if message.HasField("fault_kind") else None,
        **numbers,
    )


def message_from_filter(wanted: EventFilter) -> pb.WatchEventsRequest:
    """The wire's form."""
    kinds = sorted(_WIRE_KINDS[kind] for kind in wanted.kinds)
    return pb.WatchEventsRequest(guests=sorted(wanted.guests), kinds=kinds)


def filter_from_message(message: pb.WatchEventsRequest) -> EventFilter:
    """Decode and check. Raises InvalidRequestError naming the field."""
    for field, count, high in (
        ("guests", len(message.guests), GUESTS_MAX),
        ("kinds", len(message.kinds), KINDS_MAX),
    ):
        if count > high:
            text = f"{field} holds {count}; it must hold at most {high}"
            raise InvalidRequestError(text, field=field, value=count, high=high)
    for number in message.kinds:
        if number not in _KINDS:
            text = f"kinds holds {number}; it must hold 1 to {max(_KINDS)}"
            raise InvalidRequestError(text, field="kinds", value=number, high=max(_KINDS))
    kinds = frozenset(_KINDS[number] for number in message.kinds)
    return EventFilter(frozenset(message.guests), kinds)
