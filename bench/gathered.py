"""Thirty-two vCPUs in one message against as many commands in flight, one a message."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from bench.client import Stream, open_guest
from bench.rounds import Comparison
from bench.settings import GATHERED_VCPUS, Settings
from shared.arch import Orc
from shared.commands import Command, Essa, Load

GATHERED_PAGES: Final = 4096
_LOAD_BYTES: Final = 32


def _commands(count: int) -> list[Command]:
    """ESSAs and 32-byte loads in turn, on stable pages: what a busy guest sends most."""
    choices = random.Random(2005)
    commands: list[Command] = []
    for number in range(count):
        pfn = choices.randrange(GATHERED_PAGES)
        if number % 2:
            commands.append(Load(pfn, choices.randrange(128) * _LOAD_BYTES, _LOAD_BYTES))
        else:
            commands.append(Essa(choices.choice((Orc.GET_STATE, Orc.SET_STABLE)), pfn))
    return commands


class Gathered:
    """All three ways run through the same code on one stream to the same host."""

    def __init__(self, host: Any, settings: Settings) -> None:
        self._host, self._settings = host, settings
        self._stream: Stream
        self.comparison = Comparison(
            name="gathered",
            ours="32 vCPUs in one message",
            baseline="32 commands in flight, one a message",
            unit="commands/s",
        )
        self.alone: list[float] = []

    @asynccontextmanager
    async def prepared(self) -> AsyncIterator[None]:
        """Open the guest and its stream; all pages get their frames."""
        session = await open_guest(self._host, "gathered", GATHERED_PAGES)
        async with Stream(self._host, session) as self._stream:
            loads = (Load(pfn, 0, 1) for pfn in range(GATHERED_PAGES))
            await self._stream.run(loads, width=GATHERED_VCPUS)
            yield

    async def _rate(self, messages: int, *, width: int, in_flight: int) -> float:
        commands = _commands(messages * width)
        prepared = self._stream.prepare(commands, width=width, in_flight=in_flight)
        seconds, _ = await self._stream.exchange(prepared, width=width, in_flight=in_flight)
        return len(commands) / seconds

    async def round(self, number: int) -> None:
        """Gathered and single, and one in flight beside them."""
        count = self._settings.gathered_messages
        singles = count * GATHERED_VCPUS // 8
        await self.comparison.round(
            number,
            lambda: self._rate(count, width=GATHERED_VCPUS, in_flight=1),
            lambda: self._rate(singles, width=1, in_flight=GATHERED_VCPUS),
        )
        self.alone.append(await self._rate(max(singles // 4, 1), width=1, in_flight=1))
