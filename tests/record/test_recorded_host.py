"""Everything that goes into the host's core stands in its log."""

from __future__ import annotations

from types import FunctionType
from typing import Any

import pytest

from host_daemon.core.config import GuestSpec, HostConfig
from host_daemon.core.host import Host
from host_daemon.recording import RecordedHost
from host_daemon.rpc.recorded_shell import RecordedShell
from host_daemon.rpc.sessions import Sessions
from race_explorer.recorded.log import HOST_RECORDS
from shared.errors import InvalidRequestError
from shared.rpc.channel import HELD_SECONDS
from tests.rpc.world import FirstChoice

LOOKS = {
    "check",
    "content",
    "counts",
    "enabled",
    "enabled_stages",
    "guest_ids",
    "guest_spec",
    "guest_statistics",
    "has_victim",
    "page_details",
    "page_map",
    "reclaim_wanted",
    "state_byte",
    "statistics",
    "storage_key",
    "stuck",
    "transfer_owner",
}
"""What changes nothing."""
OUTWARD = {"take_effects", "trace", "watch"}
"""What takes out what inputs have left there."""
CHECKPOINTS = {"restart_transfers", "restore", "snapshot"}
"""A recorded host has none."""


def test_every_input_of_the_core_is_logged() -> None:
    methods = {name for name in vars(Host) if not name.startswith("_")} - {"config"}
    logged = {name for name, value in vars(RecordedHost).items() if type(value) is FunctionType}
    assert methods - LOOKS - OUTWARD - CHECKPOINTS == {n for n in logged if not n.startswith("_")}


def test_every_record_is_one_that_can_be_read() -> None:
    records: list[list[object]] = []
    host = RecordedHost(HostConfig(8, 8), FirstChoice(), records.append)
    host.withhold(frames=0, slots=0)
    assert records == [["withhold", 0, 0, ""]]
    assert {record[0] for record in records} <= set(HOST_RECORDS)
    assert host.steps == 1


def test_what_the_core_refuses_is_no_step() -> None:
    records: list[list[object]] = []
    host = RecordedHost(HostConfig(8, 8), FirstChoice(), records.append)
    with pytest.raises(InvalidRequestError):
        host.withhold(frames=9, slots=0)
    assert (records, host.steps) == ([], 0)


class NoDevice:
    def start(self, _shell: object) -> None:
        pass


def test_a_guest_that_is_taken_over_is_a_close_and_an_open() -> None:
    records: list[list[Any]] = []
    host = RecordedHost(HostConfig(8, 8), FirstChoice(), records.append)
    now = 0.0
    shell = RecordedShell(host, NoDevice(), Sessions(1, lambda: now))  # type: ignore[arg-type]
    spec = GuestSpec("guest", page_count=1)
    shell.open_guest(spec)
    assert not shell.close_abandoned("guest")
    now += HELD_SECONDS
    assert shell.close_abandoned("guest")
    assert shell.open_guest(spec).stamp is not None
    assert [record[0] for record in records] == ["open", "close", "open"]
