"""What a checkpoint carries over: last outcomes, and commands that wait, numbered or by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from host_daemon import checkpoint
from host_daemon.core.config import GuestSpec, HostConfig
from host_daemon.core.host import Host
from host_daemon.paging.device import open_paging_device
from host_daemon.rpc.sessions import GuestSession, Sessions
from host_daemon.rpc.shell import HostShell, restore_shell
from shared.arch import SP, SZ
from shared.commands import (
    DONE,
    Command,
    Essa,
    EssaArrayOutcome,
    EssaOutcome,
    FaultPending,
    IoError,
    KeyOutcome,
    Load,
    LoadOutcome,
    MachineCheck,
    Outcome,
    ProgramInterruption,
    Store,
)
from shared.session.host_end import HostEnd
from tests.rpc.world import FirstChoice, HeldDevice

UNUSED, MAKE_RESIDENT = 2, 5
INCARNATION = 77


class Sink:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int, Outcome]] = []

    def push(self, vcpu: int, number: int, outcome: Outcome) -> None:
        self.told.append((vcpu, number, outcome))

    def released(self) -> None:
        pass

    def end(self) -> None:
        pass


async def first_life(directory: Path) -> bytes:
    """A load, and an ESSA by hand with a numbered one behind it, all waiting for page-ins."""
    device = HeldDevice(await open_paging_device(directory / "paging", 64))
    config = HostConfig(frame_count=16, slot_count=64)
    shell = HostShell(Host(config, FirstChoice()), device, Sessions(INCARNATION))
    session = shell.open_guest(GuestSpec("guest", page_count=8, vcpu_count=3))
    batch: Sequence[tuple[int, int, Command]]
    batch = [(0, 1, Store(1, 0, b"one")), (1, 1, Store(2, 0, b"two"))]
    assert [o for _, _, o in shell.execute(session, batch, Sink())] == [DONE, DONE]
    shell.evict(session, [1, 2])
    await device.flush()
    device.hold = True
    sink = Sink()
    assert shell.execute(session, [(0, 2, Load(1, 0, 3))], sink) == []
    by_hand = Essa(MAKE_RESIDENT, 2)
    assert shell.execute_by_hand(session, 1, by_hand, lambda outcome: None) is None
    assert shell.execute(session, [(1, 2, Essa(UNUSED, 5))], sink) == []
    shell.drain()
    device.let_go()  # what is under way ends, but nothing is resumed any more
    await device.flush()
    checkpoint.save(directory, shell.snapshot())
    await device.close()
    assert sink.told == []
    return session.token


async def second_life(directory: Path, token: bytes) -> None:
    device = HeldDevice(await open_paging_device(directory / "paging", 64, keep=True))
    shell = restore_shell(checkpoint.load(directory), FirstChoice(), device)
    session = shell.session(token, INCARNATION)
    shell.host.check()
    sink = Sink()
    again: Sequence[tuple[int, int, Command]]
    again = [(0, 2, Load(1, 0, 3)), (1, 2, Essa(UNUSED, 5)), (2, 1, Essa(0, 2))]
    # The page came in before the checkpoint, the command behind it was not yet looked at.
    ready = shell.execute(session, again[:2], sink)
    shell.start()
    await device.flush()
    told = sorted([*ready, *sink.told], key=lambda item: item[0])
    assert told == [(0, 2, LoadOutcome(b"one")), (1, 2, EssaOutcome(SZ))]
    assert session.by_hand == {}
    assert session.deferred == {}
    assert shell.execute(session, [(1, 2, Essa(UNUSED, 5))], sink) == [(1, 2, EssaOutcome(SZ))]
    assert SP not in shell.host.page_map(session.guest_id)
    shell.host.check()
    await device.close()


def test_commands_that_wait_survive_a_restart(tmp_path: Path) -> None:
    token = asyncio.run(first_life(tmp_path))
    asyncio.run(second_life(tmp_path, token))


def test_a_sessions_last_outcomes_of_every_kind_survive() -> None:
    outcomes: list[Outcome | None] = [
        *(EssaOutcome(0), EssaOutcome(15), EssaArrayOutcome(b"\x00\x85"), LoadOutcome(b"x")),
        *(LoadOutcome(bytes(32), 128), DONE, KeyOutcome(0), ProgramInterruption(5)),
        *(FaultPending(9), IoError(), MachineCheck(), None),
    ]
    spec = GuestSpec("guest", page_count=1, vcpu_count=len(outcomes))
    sessions = Sessions(INCARNATION)
    sessions.add(GuestSession(1, spec, bytes(16), _end(spec, outcomes)))
    other = Sessions(INCARNATION)
    other.restore(sessions.snapshot(), {1: spec})
    (session,) = other
    assert session.end.snapshot() == [(5, outcome) for outcome in outcomes]
    assert other.by_token(bytes(16), INCARNATION) is other.by_name("guest") is session


def _end(spec: GuestSpec, outcomes: list[Outcome | None]) -> HostEnd:
    end = HostEnd(spec.vcpu_count)
    end.restore([(5, outcome) for outcome in outcomes])
    return end
