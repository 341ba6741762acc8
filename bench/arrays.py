"""Arrays of ESSAs through Execute against the same messages through the echo.

Before every round, untimed, the guest's pages are brought back into all eight states, so that
the arrays change states, frames and slots all the time; after it every result byte is compared
with the page map. The same arrays in problem state, whose elements are all refused, go the same
way: what they cost is not the ESSAs'. They also go before either side is measured, so that what
is measured is not how cold the processor was after all that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.client import Envelope, Stream, eventually, open_guest
from bench.rounds import Comparison
from bench.settings import ARRAY_LENGTH, VCPUS, Settings
from shared.arch import (
    CONTENT_MASK,
    ELEMENT_INTERRUPTION,
    SP,
    TABLES,
    Content,
    InterruptionCode,
    Mode,
    Orc,
)
from shared.commands import EssaArray, Sske, Store
from shared.essa.v1 import essa_pb2 as pb

NAME: Final = "arrays"
SPARE_FRAMES: Final = 8192
"""Beside the resident pages': for pages that are stored to before they are evicted."""
_RANGES_MAX: Final = 1024
_STATES: Final = TABLES[Mode.SEED].states
_ORCS: Final = np.array([o for o in Orc if o is not Orc.SET_STABLE_MAKE_RESIDENT], np.uint8)
_REFUSED: Final = ELEMENT_INTERRUPTION | InterruptionCode.PRIVILEGED_OPERATION

_Pfns = NDArray[np.intp]


class Arrays:
    """The guest with its mix of states, and what the rounds gave; refused: in problem state."""

    def __init__(self, host: Any, control: Any, echo: Any, settings: Settings) -> None:
        self._host, self._control, self._echo = host, control, echo
        self._settings = settings
        self._random = np.random.default_rng(2005)
        self._stream: Stream
        self._echo_stream: Stream
        self.slots_held: list[int] = []
        self.comparison = Comparison(
            name=f"array ESSA, batches of {ARRAY_LENGTH:,}",
            ours="arrays through Execute of the host",
            baseline="the same messages through a raw grpc.aio echo",
            unit="ESSAs/s",
        )
        self.refused = Comparison(
            name="(in problem state",
            ours="every element refused, all but the ESSAs)",
            baseline="the same echo",
            unit="ESSAs/s",
        )

    @asynccontextmanager
    async def prepared(self) -> AsyncIterator[None]:
        """Open the guest and both streams, and bring the pages into their states."""
        settings = self._settings
        session = await open_guest(self._host, NAME, settings.array_pages)
        async with AsyncExitStack() as streams:
            self._stream = await streams.enter_async_context(Stream(self._host, session))
            self._echo_stream = await streams.enter_async_context(Stream(self._echo, session))
            pages = self._random.permutation(settings.array_pages)
            resident, rest = np.split(pages, [settings.resident_pages])
            await self._store_to(resident)
            await self._preserve(rest[: settings.preserved_pages])
            others = np.sort(np.concatenate((resident, rest[settings.preserved_pages :])))
            for part in np.array_split(others, len(others) // ARRAY_LENGTH + 1):
                orcs = self._random.choice(_ORCS[1:5], len(part))
                await self._stream.run([_array(orcs, part)], width=1)
            yield

    async def round(self, number: int) -> None:
        """Restore the mix, measure both sides, check every result byte."""
        before = await self._restored()
        settings = self._settings
        pages = self._random.permutation(settings.array_pages)
        subsets = [np.sort(part) for part in np.split(pages, settings.array_batches)]
        commands = [_array(self._random.choice(_ORCS, len(part)), part) for part in subsets]
        refused = [replace(command, problem_state=True) for command in commands]
        warm, messages, last = map(self._prepare, (refused, commands, refused))

        async def ours() -> float:
            await self._rate(self._stream, warm)
            rate, responses = await self._rate(self._stream, messages)
            self.refused.our_rates.append(await self._refuse(last))
            check_results([before[command.pfns] for command in commands], messages, responses)
            return rate

        async def echo() -> float:
            await self._rate(self._echo_stream, warm)
            return (await self._rate(self._echo_stream, messages * settings.echo_repeats))[0]

        await self.comparison.round(number, ours, echo)
        self.refused.baseline_rates.append(self.comparison.baseline_rates[-1])

    async def _refuse(self, messages: list[Envelope]) -> float:
        """Measure arrays in problem state."""
        rate, responses = await self._rate(self._stream, messages)
        check_results(
            [np.full(ARRAY_LENGTH, _REFUSED, np.uint8)] * len(messages), messages, responses
        )
        return rate

    def _prepare(self, commands: list[EssaArray]) -> list[Envelope]:
        in_flight = self._settings.arrays_in_flight
        assert len(commands) % in_flight == 0
        return self._stream.prepare(commands, width=1, in_flight=in_flight)

    async def _rate(self, stream: Stream, messages: list[Envelope]) -> tuple[float, list[Any]]:
        """ESSAs/s, and the responses."""
        in_flight = self._settings.arrays_in_flight
        seconds, responses = await stream.exchange(messages, width=1, in_flight=in_flight)
        return len(messages) * ARRAY_LENGTH / seconds, responses

    # Setting the scene

    async def _restored(self) -> NDArray[np.uint8]:
        """Make up for the slots that the last round gave up; the page map then."""
        settings = self._settings
        states = await self._page_map()
        missing = settings.preserved_pages - int((states == SP).sum())
        if missing:
            zero = np.flatnonzero(states & CONTENT_MASK == Content.ZERO)
            await self._preserve(self._random.choice(zero, missing, replace=False))
            states = await self._page_map()
        found = np.bincount(states, minlength=16)
        assert all(found[state] for state in _STATES), f"a state is missing: {found}"
        self.slots_held.append(int(found[SP]))
        return states

    async def _store_to(self, pages: _Pfns) -> None:
        """Make pages resident and stable; every other one with a clear change bit."""
        for part in np.array_split(pages, len(pages) // ARRAY_LENGTH + 1):
            stable = np.full(len(part), Orc.SET_STABLE, np.uint8)
            await self._stream.run([_array(stable, np.sort(part))], width=1)
        pfns = pages.tolist()
        stores = (Store(pfn, 0, pfn.to_bytes(32, "little"), 128) for pfn in pfns)
        await self._stream.run(stores, width=VCPUS)
        await self._stream.run((Sske(pfn, 0) for pfn in pfns[::2]), width=VCPUS)

    async def _preserve(self, pages: _Pfns) -> None:
        """Give pages content and have it paged out."""
        states = await self._page_map()
        held = int((states == SP).sum())
        for start in range(0, len(pages), SPARE_FRAMES // 2):
            part = pages[start : start + SPARE_FRAMES // 2]
            await self._store_to(part)
            for first in range(0, len(part), _RANGES_MAX):
                victims = part[first : first + _RANGES_MAX].tolist()
                ranges = [pb.PageRange(first_pfn=pfn, page_count=1) for pfn in victims]
                await self._control.EvictPages(pb.EvictPagesRequest(name=NAME, ranges=ranges))
            held += len(part)
            await eventually(partial(self._preserved, held))

    async def _preserved(self, count: int) -> bool:
        return int(((await self._page_map()) == SP).sum()) == count

    async def _page_map(self) -> NDArray[np.uint8]:
        response = await self._control.GetPageMap(pb.GetPageMapRequest(name=NAME))
        return np.frombuffer(response.states, np.uint8)


def _array(orcs: NDArray[np.uint8], pfns: _Pfns) -> EssaArray:
    return EssaArray.of(orcs, pfns.astype("<u4"))


def check_results(
    expected: list[NDArray[np.uint8]], messages: list[Envelope], responses: list[Any]
) -> None:
    """Assert that every element of every array has the result byte that it should have."""
    results = {
        (outcome.vcpu, outcome.number): outcome.essa_array_states
        for response in responses
        for outcome in response.outcomes
    }
    for states, message in zip(expected, messages, strict=True):
        item = message.commands[0]
        got = np.frombuffer(results[item.vcpu, item.number], np.uint8)
        assert np.array_equal(got, states), "an array reported wrong states"
