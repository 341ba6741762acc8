"""The session, and what the explorer carries between its ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from race_explorer.checking.lens import FIXED, Looks, Place
from race_explorer.checking.places.common import ADDRESS_BITS, NUMBERS, OBSERVED, PASSING, one
from race_explorer.checking.recorder import Recorder, Resource
from race_explorer.checking.views import ALL, DictView, ListView
from race_explorer.engine import ANY
from race_explorer.faults.wire import SimWire
from race_explorer.store import MemoryStore
from race_explorer.world import SimWorld
from shared.session.guest_end import GuestEnd
from shared.session.host_end import HostEnd


def _issuer(_owner: Any, key: Any) -> Resource:
    return "reply", ANY if key is ALL else key


HOST_END: Final = Looks(
    places={"_numbers": Place(_issuer, ListView), "_outcomes": Place(_issuer, ListView)},
    free={FIXED: "issuer_count guards"},
)
GUEST_END: Final = Looks(
    places={
        "_numbers": Place(_issuer, ListView),
        "_outstanding": Place(_issuer, DictView),
    },
    free={
        FIXED: "issuer_count guards",
        PASSING: "_unsent _settled_faults",
        NUMBERS: "_open_faults _highest_fault",
    },
)
WIRE: Final = Looks(
    places={
        "requests": Place(lambda _, key: _issuer(_, key if key is ALL else key[0]), DictView),
        "replies": Place(_issuer, DictView),
        **{name: Place(one("link")) for name in ("connected", "subscribed", "stale")},
    },
    free={
        FIXED: "world",
        OBSERVED: "executed",
        NUMBERS: "faults repeated unacknowledged",
        "of what was parked before there was a wire": "_without",
    },
)
STORE: Final = Looks(
    places={
        "blocks": Place(
            lambda _, key: ("disk", ANY if key is ALL else key[0] << ADDRESS_BITS | key[1]),
            DictView,
        )
    }
)


def _mark(recorder: Recorder, kind: type) -> Callable[..., Any]:
    """What a scenario notes decides nothing."""

    def mark(world: SimWorld, situation: str, *when: Callable[[], bool]) -> None:
        recorder.paused(SimWorld.mark, world, situation, *when)

    return mark


WORLD: Final = Looks(
    members={"mark": _mark},
    places={
        "replies": Place(_issuer, DictView),
        "_slots": Place(one("host", ANY), DictView),
    },
    open=True,
)

LINK: Final[dict[type, Looks]] = {
    HostEnd: HOST_END,
    GuestEnd: GUEST_END,
    MemoryStore: STORE,
    SimWire: WIRE,
    SimWorld: WORLD,
}
