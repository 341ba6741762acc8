"""The shell of a host that records its run.

Rules:
- The log is the core's (`host_daemon.recording`); the shell only tells guests the host's steps.
- ESSAs that a person executes by hand stand outside the session's numbering, so a recorded host
  refuses them.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

from host_daemon.core.config import Choices, GuestSpec, HostConfig
from host_daemon.faults.book import FaultBook
from host_daemon.paging.ports import PagingDevice
from host_daemon.recording import RecordedHost
from host_daemon.rpc.sessions import ByHand, GuestSession, Sessions
from host_daemon.rpc.shell import HostShell
from shared.commands import Essa, Outcome
from shared.errors import InvalidRequestError
from shared.essa.v1 import essa_pb2 as pb
from shared.runlog.records import HOST
from shared.runlog.writer import RunLog


def recorded_shell(
    config: HostConfig,
    choices: Choices,
    device: PagingDevice,
    sessions: Sessions,
    book: FaultBook,
    log: RunLog,
) -> HostShell:
    """A host that writes its run to `log`, header first."""
    log.header(HOST, incarnation=f"{sessions.incarnation:016x}", config=asdict(config))
    host = RecordedHost(config, choices, log.write)
    return RecordedShell(host, device, sessions, book)


class RecordedShell(HostShell):
    """A `HostShell` around a `RecordedHost`."""

    def __init__(
        self,
        host: RecordedHost,
        device: PagingDevice,
        sessions: Sessions,
        book: FaultBook | None = None,
    ) -> None:
        super().__init__(host, device, sessions, book)
        self._recorded = host

    def open_guest(self, spec: GuestSpec) -> GuestSession:
        """As `HostShell`; the guest's outcomes will carry the host's steps."""
        session = super().open_guest(spec)
        session.stamp = partial(self._stamp, session.guest_id)
        return session

    def execute_by_hand(
        self, session: GuestSession, vcpu: int, command: Essa, done: ByHand
    ) -> Outcome | None:
        """Raises InvalidRequestError."""
        raise InvalidRequestError(
            "this host records its run, in which every command has a number: use Execute"
        )

    def _stamp(self, guest_id: int, message: pb.ExecuteResponse) -> None:
        stepped = self._recorded.stepped
        for item in message.outcomes:
            number, step = stepped[guest_id, item.vcpu]
            if number == item.number:  # not one that an injected fault has kept back until now
                item.host_step = step
