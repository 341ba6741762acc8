"""A coroutine that was begun ends as if it had been awaited from the start."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from host_daemon.rpc.begun import Begun


async def plus_one(*numbers: asyncio.Future[int]) -> int:
    return 1 + sum([await number for number in numbers])


def futures(count: int) -> list[asyncio.Future[int]]:
    loop = asyncio.get_running_loop()
    return [loop.create_future() for _ in range(count)]


@pytest.mark.parametrize("waits", [0, 1, 2])
@pytest.mark.parametrize("known", ["before", "after"])
def test_the_result_comes_before_or_after_somebody_awaits_it(waits: int, known: str) -> None:
    async def test() -> None:
        numbers = futures(waits)
        begun = Begun(plus_one(*numbers))
        for number in numbers:
            if known == "before":
                number.set_result(10)
            else:
                asyncio.get_running_loop().call_later(0.001, number.set_result, 10)
        assert await begun == 1 + 10 * waits
        begun.cancel()

    asyncio.run(test())


def test_it_runs_to_its_first_wait_at_once() -> None:
    async def test() -> None:
        seen: list[str] = []

        async def body(number: asyncio.Future[int]) -> None:
            seen.append("begun")
            await number

        (number,) = futures(1)
        begun = Begun(body(number))
        assert seen == ["begun"]
        begun.cancel()
        assert number.cancelled()

    asyncio.run(test())


def test_what_it_waits_for_may_fail() -> None:
    async def test() -> None:
        numbers = futures(2)
        begun = Begun(plus_one(*numbers))
        numbers[0].set_result(1)
        numbers[1].set_exception(LookupError())
        with pytest.raises(LookupError):
            await begun
        begun.cancel()

    asyncio.run(test())


def test_the_coroutine_sees_the_cancellation_of_its_awaiter() -> None:
    async def test() -> None:
        seen: list[str] = []
        (number,) = futures(1)

        async def body() -> None:
            try:
                await number
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        async def awaiter() -> None:
            begun = Begun(body())
            try:
                await begun
            finally:
                begun.cancel()

        task = asyncio.create_task(awaiter())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == ["cancelled"]
        assert number.cancelled()

    asyncio.run(test())


def test_nothing_is_reported_of_one_that_was_cancelled() -> None:
    async def test() -> None:
        reports: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        (number,) = futures(1)
        begun = Begun(plus_one(number))
        begun.cancel()
        if not number.cancelled():
            number.set_exception(LookupError())
        del begun, number
        gc.collect()
        await asyncio.sleep(0)
        assert reports == []

    asyncio.run(test())
