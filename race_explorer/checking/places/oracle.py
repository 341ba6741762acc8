"""The oracle that knows what a load may see.

Its verdict hangs on whether a load began before a store ended, so that it is shared state like
any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from guest_agent.kernel.content import BlockKey, Ledger, LoadTicket, content_resource
from race_explorer.checking.lens import Looks, Override
from race_explorer.checking.places.common import unrecorded
from race_explorer.checking.recorder import Recorder


def _ledger(name: str, changes: bool) -> Override:
    def make(recorder: Recorder, kind: type) -> Callable[..., Any]:
        method = getattr(Ledger, name)
        touch = recorder.write if changes else recorder.read

        def touching(ledger: Ledger, key: BlockKey, *arguments: Any) -> Any:
            touch(content_resource(key))
            return recorder.paused(method, ledger, key, *arguments)

        return touching

    return make


def _begin(recorder: Recorder, kind: type) -> Callable[..., Any]:
    """The load begins where it is executed."""

    def begin(ledger: Ledger, ticket: LoadTicket) -> None:
        recorder.read(ticket.resource)
        Ledger.begin(ledger, ticket)

    return begin


def _end_load(recorder: Recorder, kind: type) -> Callable[..., Any]:
    """A change where it tells what the next load may see; a look otherwise."""

    def end_load(
        ledger: Ledger, ticket: LoadTicket, seen: int, *is_current: Callable[[], bool]
    ) -> bool:
        before = recorder.paused(ledger.legal, ticket.key)
        result = Ledger.end_load(ledger, ticket, seen, *is_current)
        same = recorder.paused(ledger.legal, ticket.key) == before
        (recorder.read if same else recorder.write)(ticket.resource)
        return result

    return end_load


LEDGER: Final = Looks(
    free={"see _ledger": "_blocks _now"},
    members={
        # Made before the step in which they are executed: they begin anew there (`Check`).
        "begin_load": unrecorded("begin_load"),
        "begin_store": unrecorded("begin_store"),
        "begin": _begin,
        "end_load": _end_load,
        "is_durable": _ledger("is_durable", False),
        **{
            name: _ledger(name, True)
            for name in ("restart_store", "end_store", "cancel_store", "made_durable", "lost")
        },
    },
)

ORACLE: Final[dict[type, Looks]] = {Ledger: LEDGER}
