"""The daemon's shell under the gate, in this process: what is held, counted and said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from essa_cli.gate.gated_device import GatedDevice
from essa_cli.gate.gated_host import GatedShell, Nobody
from host_daemon.core.config import GuestSpec, HostConfig
from host_daemon.core.host import Host
from host_daemon.paging.device import open_paging_device
from host_daemon.rpc.sessions import GuestSession, Sessions
from race_explorer.linked_guest import NO_CHOICES
from shared.arch import Orc
from shared.commands import Essa, Store
from shared.essa.v1 import gate_pb2 as pb
from shared.session.guards import LinkGuards

SPEC = GuestSpec("guest", page_count=4, vcpu_count=2)
SET_VOLATILE = Essa(Orc.SET_VOLATILE, 1, False)


class Desk:
    """A shell, its only guest, and what it has said of parked commands."""

    def __init__(self, shell: GatedShell, parked: list[tuple[int, int, str]]) -> None:
        self.shell = shell
        self.parked = parked
        self.session: GuestSession = shell.open_guest(SPEC)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    found = asyncio.new_event_loop()
    yield found
    found.close()


@pytest.fixture
def desk(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> Iterator[Desk]:
    async def made() -> tuple[Desk, GatedDevice]:
        device = GatedDevice(await open_paging_device(tmp_path / "paging", 4, keep=False))
        parked: list[tuple[int, int, str]] = []
        host = Host(HostConfig(4, 4), NO_CHOICES)
        shell = GatedShell(
            host, device, Sessions(1), LinkGuards(), lambda *said: parked.append(said)
        )
        return Desk(shell, parked), device

    found, device = loop.run_until_complete(made())
    yield found
    loop.run_until_complete(device.close())


def test_what_is_held_is_executed_when_it_comes_in(desk: Desk) -> None:
    desk.shell.holding = True
    assert desk.shell.execute(desk.session, [(0, 1, SET_VOLATILE)], Nobody()) == []
    assert desk.shell.traffic.commands_received == 1
    before = desk.shell.host.state_byte(desk.session.guest_id, 1)
    assert desk.shell.comes_in(0, 1, copy=False) == pb.HOST_RECEPTION_EXECUTED
    assert desk.shell.host.state_byte(desk.session.guest_id, 1) != before
    assert desk.shell.comes_in(0, 1, copy=True) == pb.HOST_RECEPTION_ANSWERED


def test_what_the_core_says_is_wrong_with_itself_is_told_of_the_command(desk: Desk) -> None:
    with mock.patch.object(Host, "execute", side_effect=AssertionError("no such frame")):
        assert desk.shell.execute(desk.session, [(1, 1, SET_VOLATILE)], Nobody()) == []
    assert desk.parked == [(1, 1, "no such frame")]


def test_an_eviction_is_steps_and_its_page_out_waits_or_fails(
    desk: Desk, loop: asyncio.AbstractEventLoop
) -> None:
    desk.shell.execute(desk.session, [(0, 1, Store(1, 0, b"x" * 32, 1))], Nobody())
    desk.shell.begin_eviction(1)
    seen = []
    while not (steps := desk.shell.steps())[0][0].startswith("paging."):
        seen.append(steps[0][1])
        loop.run_until_complete(desk.shell.release(steps[0], fails=False))
    assert seen == ["remove_access", "read_change_bit", "commit", "submit_page_out"]
    (step,) = desk.shell.steps()
    loop.run_until_complete(desk.shell.release(step, fails=True))
    assert desk.shell.steps() == []
    assert desk.shell.host.guest_statistics(desk.session.guest_id).paging.page_outs == 0


def test_a_step_that_is_not_offered_is_refused(desk: Desk, loop: asyncio.AbstractEventLoop) -> None:
    with pytest.raises(LookupError, match=r"the host does not stand before host\.commit\.1 commit"):
        loop.run_until_complete(desk.shell.release(("host.commit.1", "commit"), fails=False))
