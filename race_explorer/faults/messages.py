"""What may become of messages: lost, or there twice. That one is late needs no fault: the arrival
of a discard fault, like any other, is a step of its own, and comes when it likes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from guest_agent.kernel.page import writes
from race_explorer.faults.failure import Failure
from race_explorer.faults.wire import BROKEN, Place, SimWire
from race_explorer.naming import command_label
from shared.commands import DiscardFault


def lost_requests(wire: SimWire) -> Iterator[Failure]:
    """A command is lost, and with it the connection: nobody would notice otherwise."""
    for place, request in wire.requests.items():
        label = f"lose {command_label(request.command)}"
        touched = (BROKEN, writes("reply", place[0]))
        yield Failure(wire.name(place), label, touched, partial(_lose_request, wire, place))


def _lose_request(wire: SimWire, place: Place) -> None:
    del wire.requests[place]
    wire.disconnect()


def lost_replies(wire: SimWire) -> Iterator[Failure]:
    """An outcome that somebody waits for is lost, and with it the connection."""
    for issuer, command in wire.world.guest_end.outstanding().items():
        if wire.replies.get(issuer):
            label = f"lose reply to {command_label(command)}"
            touched = (BROKEN, writes("reply", issuer))
            of, happen = wire.world.issuer_name(issuer), partial(_lose_reply, wire, issuer)
            yield Failure(of, label, touched, happen)


def _lose_reply(wire: SimWire, issuer: int) -> None:
    del wire.replies[issuer][0]
    wire.disconnect()


def duplicates(wire: SimWire) -> Iterator[Failure]:
    """A second copy of a command is on its way."""
    for place, request in wire.requests.items():
        if not request.copy:
            again = partial(wire.send, place[0], replace(request, copy=True))
            label = f"duplicate {command_label(request.command)}"
            yield Failure(wire.name(place), label, (writes("reply", place[0]),), again)


def repeated_faults(wire: SimWire) -> Iterator[Failure]:
    """The next discard fault arrives, and a copy of it is on its way."""
    for fault in wire.faults[:1]:
        touched = (writes("fault", fault.vcpu), writes("irq", fault.vcpu))
        happen = partial(_repeat, wire, fault)
        yield Failure(f"{fault.number}", "fault, and a copy of it", touched, happen)


def _repeat(wire: SimWire, fault: DiscardFault) -> None:
    # A copy overtakes nothing: the stream that it comes by is in order.
    wire.repeated[fault.number] = fault
    wire.arrive(fault)
