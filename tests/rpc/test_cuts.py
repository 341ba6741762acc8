"""A connection that breaks over and over: the guest's end and the host's end stay exact.

Four vCPUs store, load and reset reference bits on pages of their own, with less memory than
they use, over a stream that is cut at random. Every outcome is compared with what one
execution, no more and no fewer, would have answered.
"""

from __future__ import annotations

import random
from pathlib import Path

import grpc
import pytest

from shared.arch import KEY_CHANGED, KEY_REFERENCED
from shared.commands import DONE, Command, KeyOutcome, Load, LoadOutcome, Outcome, Rrbe, Store
from shared.session.guest_end import GuestEnd
from tests.rpc.world import Connection, World, play

VCPUS = 4
PAGES = 48
COMMANDS = 250


class Vcpu:
    """What one vCPU does next, and what it has to be told."""

    def __init__(self, number: int, choices: random.Random) -> None:
        self.first_pfn = number * PAGES
        self.choices = choices
        self.content = [b"\0\0\0\0"] * PAGES
        self.keys = [0] * PAGES
        self.left = COMMANDS
        self.expected: Outcome = DONE

    def next(self) -> Command:
        self.left -= 1
        page = self.choices.randrange(PAGES)
        pfn = self.first_pfn + page
        match self.choices.randrange(3):
            case 0:
                self.content[page] = self.choices.randbytes(4)
                self.keys[page] |= KEY_REFERENCED | KEY_CHANGED
                self.expected = DONE
                return Store(pfn, 8, self.content[page])
            case 1:
                self.keys[page] |= KEY_REFERENCED
                self.expected = LoadOutcome(self.content[page])
                return Load(pfn, 8, 4)
            case _:
                self.expected = KeyOutcome(self.keys[page])
                self.keys[page] &= ~KEY_REFERENCED
                return Rrbe(pfn)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_and_nothing_done_twice(tmp_path: Path, seed: int) -> None:
    async def test(world: World) -> None:
        choices = random.Random(seed)
        session = await world.open_guest(page_count=VCPUS * PAGES, vcpu_count=VCPUS)
        end, vcpus = GuestEnd(VCPUS), [Vcpu(v, choices) for v in range(VCPUS)]
        for vcpu, state in enumerate(vcpus):
            end.submit(vcpu, state.next())
        connection, cuts = world.connect(session), 0
        running = VCPUS
        while running:
            if choices.randrange(10) == 0:
                await _send_some(connection, end)
                connection.cut()
                end.connection_lost()
                connection, cuts = world.connect(session), cuts + 1
            await _send_some(connection, end)
            for vcpu, number, outcome in await connection.receive():
                if not end.receive(vcpu, number, outcome):
                    continue
                assert outcome == vcpus[vcpu].expected
                if vcpus[vcpu].left:
                    end.submit(vcpu, vcpus[vcpu].next())
                else:
                    running -= 1
        assert cuts > 20
        assert world.shell.host.statistics().paging.page_ins > 20

    play(test, tmp_path)


async def _send_some(connection: Connection, end: GuestEnd) -> None:
    batch = end.outgoing()
    if batch:
        try:
            await connection.send(*batch)
        except grpc.aio.AioRpcError:
            raise AssertionError("the host ended the stream") from None
