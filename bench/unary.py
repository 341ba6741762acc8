"""ExecuteEssa through the host against the same call to the echo."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any, Final

from bench.client import open_guest
from bench.rounds import Comparison
from bench.settings import VCPUS, Settings
from shared.arch import Orc
from shared.essa.v1 import essa_pb2 as pb

_PAGES: Final = 4096
_SEVERAL: Final = 3
"""Times as many calls when several are in flight, for a round of about the same length."""


def _requests(session: pb.Session, in_flight: int, count: int) -> list[pb.ExecuteEssaRequest]:
    orcs = [orc for orc in Orc if orc is not Orc.SET_STABLE_MAKE_RESIDENT]
    choices = random.Random(2005)
    return [
        pb.ExecuteEssaRequest(
            session=session,
            vcpu=number % min(in_flight, VCPUS),
            essa=pb.Essa(orc=choices.choice(orcs), pfn=choices.randrange(_PAGES)),
        )
        for number in range(count)
    ]


async def _rate(stub: Any, requests: list[pb.ExecuteEssaRequest], in_flight: int) -> float:
    async def caller(mine: list[pb.ExecuteEssaRequest]) -> None:
        for request in mine:
            response = await stub.ExecuteEssa(request)
            assert response.WhichOneof("outcome") == "essa_state", response

    begun = time.perf_counter()
    if in_flight == 1:
        await caller(requests)
    else:
        async with asyncio.TaskGroup() as group:
            for number in range(in_flight):
                group.create_task(caller(requests[number::in_flight]))
    return len(requests) / (time.perf_counter() - begun)


class Unary:
    """One in flight, which is what a person waits for, and several, which loads both cores."""

    def __init__(self, host: Any, echo: Any, settings: Settings) -> None:
        self._host, self._echo, self._settings = host, echo, settings
        several = settings.unary_in_flight
        self.single = self._comparison(1)
        self.several = self._comparison(several)
        self._requests: dict[int, list[pb.ExecuteEssaRequest]] = {}

    @staticmethod
    def _comparison(in_flight: int) -> Comparison:
        return Comparison(
            name=f"unary ESSA, {in_flight} in flight",
            ours="ExecuteEssa of the host",
            baseline="the same call to a raw grpc.aio echo",
            unit="calls/s",
        )

    async def prepare(self) -> None:
        """Open the guest; one round to warm both sides up."""
        settings = self._settings
        session = await open_guest(self._host, "unary", _PAGES)
        for in_flight, count in (
            (1, settings.unary_calls),
            (settings.unary_in_flight, _SEVERAL * settings.unary_calls),
        ):
            requests = self._requests[in_flight] = _requests(session, in_flight, count)
            await _rate(self._host, requests, in_flight)
            await _rate(self._echo, requests, in_flight)

    async def round(self, number: int) -> None:
        """Both kinds, both sides."""
        for in_flight, comparison in (
            (1, self.single),
            (self._settings.unary_in_flight, self.several),
        ):
            requests = self._requests[in_flight]
            await comparison.round(
                number,
                lambda r=requests, n=in_flight: _rate(self._host, r, n),  # type: ignore[misc]
                lambda r=requests, n=in_flight: _rate(self._echo, r, n),  # type: ignore[misc]
            )
