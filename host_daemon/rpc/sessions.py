"""Who the open guests are on the wire: tokens, numbering, and where answers go.

Rules:
- A token is 128 random bits; it belongs to one guest of one incarnation of the host.
- What has to outlive the process is in `GuestSession.snapshot`; sinks are connections and
  do not.
- A guest with a connection is held; one without is held for HELD_SECONDS after it was last
  heard. A resumed guest counts as heard at that moment.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from host_daemon.core.config import GuestSpec
from shared.commands import Command, DiscardFault, Outcome
from shared.errors import GuestNotFoundError, InvalidTokenError, StaleIncarnationError
from shared.essa.v1 import essa_pb2 as pb
from shared.rpc import codec
from shared.rpc.channel import HELD_SECONDS
from shared.session.host_end import HostEnd

TOKEN_BYTES: Final = 16


class OutcomeSink(Protocol):
    """A connection that waits for outcomes. Called on the loop; never blocks."""

    def push(self, vcpu: int, number: int, outcome: Outcome) -> None:
        """An outcome of a command that was received on this connection is known."""
        ...

    def released(self) -> None:
        """A command that was received on this connection was received again on another."""
        ...

    def end(self) -> None:
        """The guest is closed: nothing more will come."""
        ...


class FaultSink(Protocol):
    """A connection that takes discard faults. Called on the loop; never blocks."""

    def push(self, fault: DiscardFault) -> None:
        """The next fault, in order."""
        ...

    def end(self) -> None:
        """Nothing more will come: the guest is closed, or has a newer connection."""
        ...


ByHand = Callable[[Outcome | None], None]
"""Called with the outcome of a command executed by hand; None: the guest is closed."""


@dataclass(slots=True, eq=False)
class GuestSession:
    """One open guest.

    waiting: where the outcome of an issuer's parked command goes. by_hand: vCPUs whose
    parked command came by ExecuteEssa, with who waits for it, if anybody still does.
    deferred: commands that came for such a vCPU meanwhile, not yet executed. stamp: of a host that
    records its run: told of every message of outcomes before it is sent. heard_at: when its holder
    was last heard, by the clock of `Sessions`.
    """

    guest_id: int
    spec: GuestSpec
    token: bytes
    end: HostEnd
    waiting: dict[int, OutcomeSink] = field(default_factory=dict)
    by_hand: dict[int, ByHand | None] = field(default_factory=dict)
    deferred: dict[int, Command] = field(default_factory=dict)
    streams: dict[OutcomeSink, None] = field(default_factory=dict)
    subscriber: FaultSink | None = None
    stamp: Callable[[pb.ExecuteResponse], None] | None = None
    heard_at: float = 0.0

    def wait_for(self, vcpu: int, sink: OutcomeSink) -> None:
        """Send the outcome of the issuer's parked command to `sink`, and nowhere else."""
        former = self.waiting.get(vcpu)
        self.waiting[vcpu] = sink
        if former is not None and former is not sink:
            former.released()

    def end_connections(self) -> None:
        """Tell everybody who waits that nothing more will come."""
        self.waiting.clear()
        for vcpu, done in self.by_hand.items():
            if done is not None:
                self.by_hand[vcpu] = None
                done(None)
        for stream in list(self.streams):
            stream.end()
        if self.subscriber is not None:
            self.subscriber.end()
            self.subscriber = None

    def snapshot(self) -> dict[str, Any]:
        """Plain data; outcomes and commands as the wire spells them."""
        return {
            "guest_id": self.guest_id,
            "token": self.token,
            "issuers": [(number, _outcome_bytes(o)) for number, o in self.end.snapshot()],
            "by_hand": list(self.by_hand),
            "deferred": {vcpu: _command_bytes(c) for vcpu, c in self.deferred.items()},
        }


def _outcome_bytes(outcome: Outcome | None) -> bytes:
    message = pb.NumberedOutcome()
    if outcome is not None:
        codec.put_outcome(message, outcome)
    return message.SerializeToString()


def _outcome(raw: bytes) -> Outcome | None:
    return codec.outcome_from_message(pb.NumberedOutcome.FromString(raw)) if raw else None


def _command_bytes(command: Command) -> bytes:
    message = pb.NumberedCommand()
    codec.put_command(message, command)
    return message.SerializeToString()


def _command(raw: bytes) -> Command:
    return codec.command_from_message(pb.NumberedCommand.FromString(raw))


def restore_session(data: dict[str, Any], spec: GuestSpec) -> GuestSession:
    """The inverse of `GuestSession.snapshot`."""
    session = new_session(data["guest_id"], spec, data["token"])
    session.end.restore([(number, _outcome(raw)) for number, raw in data["issuers"]])
    session.by_hand = dict.fromkeys(data["by_hand"])
    session.deferred = {vcpu: _command(raw) for vcpu, raw in data["deferred"].items()}
    return session


def new_session(guest_id: int, spec: GuestSpec, token: bytes | None = None) -> GuestSession:
    """The session of a guest that was just opened, with a token of its own."""
    return GuestSession(
        guest_id=guest_id,
        spec=spec,
        token=token or secrets.token_bytes(TOKEN_BYTES),
        end=HostEnd(spec.vcpu_count + spec.device_count),
    )


class Sessions:
    """All open guests, in the order in which they were opened. clock: in seconds."""

    def __init__(self, incarnation: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.incarnation = incarnation
        self.clock = clock
        self._by_id: dict[int, GuestSession] = {}
        self._by_token: dict[bytes, GuestSession] = {}
        self._by_name: dict[str, GuestSession] = {}

    def __iter__(self) -> Iterator[GuestSession]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, session: GuestSession) -> None:
        """Make an open guest known."""
        self.heard(session)
        self._by_id[session.guest_id] = session
        self._by_token[session.token] = session
        self._by_name[session.spec.name] = session

    def remove(self, session: GuestSession) -> None:
        """Forget a guest that was closed."""
        del self._by_id[session.guest_id]
        del self._by_token[session.token]
        del self._by_name[session.spec.name]

    def heard(self, session: GuestSession) -> None:
        """The guest's holder made a call, or had a stream until now."""
        session.heard_at = self.clock()

    def abandoned(self, name: str) -> GuestSession | None:
        """The open guest of that name, if nobody holds it any more."""
        session = self._by_name.get(name)
        if session is None or session.streams or session.subscriber is not None:
            return None
        silent = self.clock() - session.heard_at >= HELD_SECONDS
        return session if silent else None

    def is_open(self, session: GuestSession) -> bool:
        """Whether the guest is open still."""
        return self._by_id.get(session.guest_id) is session

    def by_id(self, guest_id: int) -> GuestSession:
        """An open guest by the core's number."""
        return self._by_id[guest_id]

    def by_name(self, name: str) -> GuestSession:
        """An open guest by name. Raises GuestNotFoundError."""
        session = self._by_name.get(name)
        if session is None:
            raise GuestNotFoundError(f"no open guest has the name {name!r}", name=name)
        return session

    def by_token(self, token: bytes, incarnation: int) -> GuestSession:
        """An open guest by what it carries in every call.

        Raises StaleIncarnationError for a well-formed token of another incarnation and
        InvalidTokenError for everything else that is not known.
        """
        session = self._by_token.get(token)
        if session is not None and incarnation == self.incarnation:
            return session
        if len(token) == TOKEN_BYTES and incarnation not in (0, self.incarnation):
            raise StaleIncarnationError(
                f"the host was restarted: its incarnation is {self.incarnation:016x}, "
                f"the session's {incarnation:016x}",
                incarnation=f"{self.incarnation:016x}",
                session_incarnation=f"{incarnation:016x}",
            )
        raise InvalidTokenError("the session's token belongs to no open guest")

    def snapshot(self) -> list[dict[str, Any]]:
        """All sessions as plain data."""
        return [session.snapshot() for session in self]

    def restore(self, data: Sequence[dict[str, Any]], specs: dict[int, GuestSpec]) -> None:
        """The inverse of `snapshot`; specs by guest id."""
        for item in data:
            self.add(restore_session(item, specs[item["guest_id"]]))
