"""The host: its guests' pages, its own work, its frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from host_daemon.core.effects import StageKind
from host_daemon.core.frames import FrameTable
from host_daemon.core.guest import Guest, Reclaim, Transfer
from host_daemon.core.host import Host
from host_daemon.core.machine import Machine
from host_daemon.core.tables import FrameKind
from race_explorer.checking.lens import FIXED, Looks, Place
from race_explorer.checking.locks import stored
from race_explorer.checking.places.common import NUMBERS, OBSERVED, PASSING, POLICY
from race_explorer.checking.recorder import Resource
from race_explorer.checking.views import ALL, BytesView, DictView, View
from race_explorer.engine import ANY
from shared.arch import PAGE_SHIFT

FRAMES: Final[Resource] = ("frames", 0)


def _pfn(_guest: Guest, pfn: Any) -> Resource:
    return "host", ANY if pfn is ALL else pfn


def _shared(resource: Resource, view: type[View] | None = None) -> Place:
    return Place(lambda _owner, _key=None: resource, view, handed_out=view is None)


_FAULTS: Final = stored(Guest, "faults")


def _fault(guest: Guest, number: Any) -> Resource:
    """A fault is its vCPU's."""
    fault = None if number is ALL else _FAULTS(guest).get(number)
    return "fault", ANY if fault is None else fault.vcpu


class _Faults(DictView):
    """The discard faults that were not acknowledged.

    They are looked through for the next one in order, and counted against a limit that no small
    guest comes near: to raise one, to deliver one and to acknowledge one may change places.
    """

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __setitem__(self, number: Any, fault: Any) -> None:
        self._raw[number] = fault
        self._spot.write(number, fault)

    def pop(self, number: Any, *default: Any) -> Any:
        """To acknowledge a fault twice changes nothing."""
        if number in self._raw:
            self._spot.write(number)
        return self._raw.pop(number, *default)


_ALL_PAGES: Final = _shared(("host", ANY))
GUEST: Final = Looks(
    places={
        "states": Place(_pfn, BytesView),
        "keys": Place(_pfn, BytesView),
        "location": Place(_pfn, BytesView),
        "states_view": _ALL_PAGES,
        "keys_view": _ALL_PAGES,
        "location_view": _ALL_PAGES,
        "moves": Place(_pfn, DictView),
        "releases": _shared(FRAMES),
        "faults": Place(_fault, _Faults),
    },
    free={
        FIXED: "number spec page_count vcpu_count device_count tables access open_states",
        NUMBERS: "fault_count delivered",
        OBSERVED: "statistics uncounted",
    },
)
_STAGE: Final = stored(Reclaim, "stage")
RECLAIM: Final = Looks(
    places={
        name: Place(lambda move: ("host", _STAGE(move).number))
        for name in ("stage", "access_removed", "changed")
    }
)
TRANSFER: Final = Looks(
    places={name: Place(lambda move: ("host", move.pfn)) for name in ("stage", "live")},
    free={FIXED: "operation guest_id pfn slot generation frame"},
)


class _Pending(DictView):
    """The stages that could run.

    Of the deliveries there is one, that of the next fault in order: whoever raises a fault, or
    delivers one, may let it appear, and so takes nothing away from anybody.
    """

    __slots__ = ()

    def __contains__(self, stage: object) -> bool:
        return stage in self._raw  # who runs a stage is told that it can be run

    def __setitem__(self, stage: Any, value: Any) -> None:
        if stage.kind is StageKind.DELIVER_FAULT:
            self._raw[stage] = value
        else:
            super().__setitem__(stage, value)

    def __delitem__(self, stage: Any) -> None:
        if stage.kind is StageKind.DELIVER_FAULT:
            del self._raw[stage]
        else:
            super().__delitem__(stage)


def _stage(_machine: Machine, stage: Any) -> Resource:
    """A stage can run while it is among the pending ones."""
    if stage is ALL:
        return "host", ANY
    return FRAMES if stage.kind is StageKind.DRAIN_RELEASE_LIST else ("host", stage.number)


class _Parked(DictView):
    """To ask first whether there is any parked command only saves the search for one's own."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return bool(self._raw)


def _parked(_machine: Machine, key: Any) -> Resource:
    return "reply", ANY if key is ALL else key[1]


MACHINE: Final = Looks(
    places={
        "slots": _shared(FRAMES),
        "pending": Place(_stage, _Pending),
        "operations": _shared(FRAMES, DictView),
        "parked": Place(_parked, _Parked),
        "operation_count": Place(lambda _: FRAMES),
    },
    free={
        FIXED: "config frames policy guests guest_count reserved closed watched",
        PASSING: "effects",
        POLICY: "reclaiming",
    },
)


_KINDS: Final = stored(FrameTable, "kinds")


def _frame(frames: FrameTable, frame: Any) -> Resource:
    """A frame is its page's; a free one is the pool's."""
    if frame is ALL:
        return "host", ANY
    return FRAMES if _KINDS(frames)[frame] == FrameKind.FREE else ("host", frames.pfn[frame])


def _byte(frames: FrameTable, address: Any) -> Resource:
    return _frame(frames, ALL if address is ALL else address >> PAGE_SHIFT)


FRAME_TABLE: Final = Looks(
    places={
        "kinds": Place(_frame, BytesView),
        "kinds_view": _ALL_PAGES,
        "memory": Place(_byte, BytesView),
        "memory_view": _ALL_PAGES,
        "pool": _shared(FRAMES),
    },
    free={
        "changes with the frame's kind alone": "guest guest_view pfn pfn_view",
        POLICY: "busy_count referenced last_use last_use_view clock",
    },
)

HOST: Final[dict[type, Looks]] = {
    Host: Looks(free={FIXED: "_machine _tracer"}),
    Machine: MACHINE,
    Guest: GUEST,
    Reclaim: RECLAIM,
    Transfer: TRANSFER,
    FrameTable: FRAME_TABLE,
}
