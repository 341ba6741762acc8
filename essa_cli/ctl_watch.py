"""`essa ctl watch`: what happens in a host, as it happens, one JSON object a line."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import grpc
import typer

from essa_cli.control import Control, operator_channel
from essa_cli.errors import CliError
from shared.arch import STATE_NAMES
from shared.essa.v1 import essa_pb2_grpc
from shared.events import GUESTS_MAX, Event, EventFilter, EventKind
from shared.rpc.channel import DEFAULT_CONTROL, Address, parse_address
from shared.rpc.event_codec import events_from_message, message_from_filter
from shared.rpc.status import error_of

_EPILOG = """Example: essa ctl watch --guest web-1 --kind page_discarded --kind discard_fault_raised

Each line has time and kind, and what belongs to the kind: guest, pfn, vcpu, fault, before and
after (block states), missed, fault_id and fault_kind. Kinds: """ + ", ".join(EventKind)


def register(ctl: typer.Typer) -> None:
    """Add this module's command to `essa ctl`."""
    ctl.command("watch", epilog=_EPILOG)(watch)


def watch(
    guest: Annotated[
        list[str] | None,
        typer.Option(help="Only events of this guest; repeatable.", metavar="NAME"),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="Only events of this kind; repeatable.", metavar="KIND"),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="End after so many lines.", metavar="N", min=1, show_default=False),
    ] = None,
    control: Control = DEFAULT_CONTROL,
) -> None:
    """Print what happens in the host, one JSON object a line, until interrupted.

    A line on standard error says when the watch stands. Whoever reads too slowly is told how
    many events are missing (kind events_missed); the host waits for nobody.
    """
    if len(guest or ()) > GUESTS_MAX:
        raise CliError(
            f"--guest is given {len(guest or ())} times; at most {GUESTS_MAX} are possible"
        )
    wanted = EventFilter(frozenset(guest or ()), frozenset(map(_kind, kind or ())))
    address = parse_address(control, "--control")
    try:
        asyncio.run(_print(address, wanted, limit))
    except BrokenPipeError:  # whoever read our lines has enough; nor will Python flush again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _kind(text: str) -> EventKind:
    try:
        return EventKind(text.replace("-", "_"))
    except ValueError:
        raise CliError(f"--kind is {text}; it must be one of {', '.join(EventKind)}") from None


async def _print(address: Address, wanted: EventFilter, limit: int | None) -> None:
    printed = 0
    async for event in _events(address, wanted):
        print(json.dumps(plain(event)), flush=True)
        printed += 1
        if printed == limit:
            return


async def _events(address: Address, wanted: EventFilter) -> AsyncIterator[Event]:
    """Raises the EssaError with which the host ends the watch, and CliError for no host."""
    channel = operator_channel(address)
    try:
        stub: Any = essa_pb2_grpc.ControlServiceStub(channel)  # type: ignore[no-untyped-call]
        stream = stub.WatchEvents(message_from_filter(wanted))
        await stream.initial_metadata()
        if not stream.done():
            print(f"essa: watching {address}", file=sys.stderr, flush=True)
        async for message in stream:
            for event in events_from_message(message):
                yield event
    except grpc.aio.AioRpcError as error:
        refused = error_of(error)
        if refused is not None:
            raise refused from None
        reason = " ".join((error.details() or "").split())
        raise CliError(f"--control {address}: {error.code().name}: {reason}") from None
    finally:
        await channel.close(None)


def plain(event: Event) -> dict[str, Any]:
    """An event as it is printed."""
    time = datetime.fromtimestamp(event.time_ns // 10**9, UTC).replace(
        microsecond=event.time_ns // 1000 % 10**6
    )
    values = {
        "guest": event.guest or None,
        "pfn": event.pfn,
        "vcpu": event.vcpu,
        "fault": event.fault,
        "before": None if event.before is None else STATE_NAMES[event.before],
        "after": None if event.after is None else STATE_NAMES[event.after],
        "missed": event.missed,
        "fault_id": event.fault_id,
        "fault_kind": event.fault_kind,
    }
    known = {name: value for name, value in values.items() if value is not None}
    return {"time": time.isoformat(), "kind": event.kind, **known}
