"""The paging device with faults: late, failing and damaged transfers, each completed once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from host_daemon.faults.book import FaultBook
from host_daemon.paging.device import open_paging_device
from host_daemon.paging.faulty import FaultyDevice
from host_daemon.paging.ports import ReadDone, SlotRead, SlotWrite, WriteDone
from shared.faults import Kind, parse_fault

DEADLINE_SECONDS = 20


class Heard:
    """What the shell would hear."""

    def __init__(self) -> None:
        self.writes: dict[int, bool] = {}
        self.reads: dict[int, bytes | None] = {}
        self.read = asyncio.Event()

    def writes_done(self, results: Sequence[WriteDone]) -> None:
        for operation, ok in results:
            assert operation not in self.writes
            self.writes[operation] = ok

    def reads_done(self, results: Sequence[ReadDone]) -> None:
        for operation, data in results:
            assert operation not in self.reads
            self.reads[operation] = data
        self.read.set()


Test = Callable[[FaultyDevice, FaultBook, Heard], Awaitable[None]]


def play(test: Test, directory: Path) -> None:
    async def body() -> None:
        book, heard = FaultBook(), Heard()
        file = await open_paging_device(directory / "paging", 64)
        device = FaultyDevice(file, book)
        device.start(heard)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await test(device, book, heard)
        await device.close()

    asyncio.run(body())


def page(number: int) -> bytes:
    return bytes([number]) * 4096


def write(operation: int, slot: int) -> SlotWrite:
    return SlotWrite(operation, slot, 1, page(operation))


def test_slow_transfers_keep_their_order(tmp_path: Path) -> None:
    async def body(device: FaultyDevice, book: FaultBook, heard: Heard) -> None:
        rule = book.add(parse_fault(Kind.DEVICE_SLOW, {"operation": "write", "delay": 0.05}))
        device.submit_writes([write(1, 7)])
        book.end(rule)
        device.submit_reads([SlotRead(2, 7, 1)])  # waits for the write before it
        assert (heard.writes, heard.reads) == ({}, {})
        await heard.read.wait()
        assert heard.reads == {2: page(1)}
        assert rule.struck == 1

    play(body, tmp_path)


def test_flushing_does_not_wait_for_a_slow_device(tmp_path: Path) -> None:
    async def body(device: FaultyDevice, book: FaultBook, heard: Heard) -> None:
        book.add(parse_fault(Kind.DEVICE_SLOW, {"delay": 60}))
        book.add(parse_fault(Kind.DEVICE_FAILING, {}))
        device.submit_writes([write(1, 7), write(2, 8)])
        await device.flush()
        assert heard.writes == {1: True, 2: True}

    play(body, tmp_path)


def test_failing_transfers_fail_and_others_do_not(tmp_path: Path) -> None:
    async def body(device: FaultyDevice, book: FaultBook, heard: Heard) -> None:
        book.add(parse_fault(Kind.DEVICE_FAILING, {"nth": 2}))
        device.submit_writes([write(1, 7), write(2, 8), write(3, 9)])
        assert heard.writes == {}, "completed before the submission has returned"
        await device.flush()
        assert heard.writes == {1: True, 2: False, 3: True}
        book.add(parse_fault(Kind.DEVICE_FAILING, {"operation": "read"}))
        device.submit_reads([SlotRead(4, 7, 1), SlotRead(5, 9, 1)])
        await device.flush()
        assert heard.reads == {4: None, 5: page(3)}

    play(body, tmp_path)


def test_transfers_of_one_guests_pages_are_struck_and_no_others(tmp_path: Path) -> None:
    async def body(device: FaultyDevice, book: FaultBook, heard: Heard) -> None:
        book.owner_of = {1: ("a", 4), 2: ("b", 4), 3: ("b", 5), 4: ("b", 4)}.__getitem__
        rule = book.add(parse_fault(Kind.DEVICE_FAILING, {"guest": "b", "pages": 4, "count": 0}))
        device.submit_writes([write(1, 7), write(2, 8), write(3, 9)])
        await device.flush()
        assert heard.writes == {1: True, 2: False, 3: True}
        device.submit_reads([SlotRead(4, 9, 1)])
        await device.flush()
        assert heard.reads == {4: page(3)}
        assert (rule.matched, rule.struck) == (1, 1)

    play(body, tmp_path)


def test_a_corrupted_slot_is_found_by_its_checksum(tmp_path: Path) -> None:
    async def body(device: FaultyDevice, book: FaultBook, heard: Heard) -> None:
        book.add(parse_fault(Kind.DEVICE_CORRUPT, {"nth": 2}))
        device.submit_writes([write(1, 7), write(2, 8)])
        await device.flush()
        assert heard.writes == {1: True, 2: True}
        device.submit_reads([SlotRead(3, 7, 1), SlotRead(4, 8, 1)])
        await device.flush()
        assert heard.reads == {3: page(1), 4: None}
        device.submit_writes([SlotWrite(5, 8, 3, page(5))])
        device.submit_reads([SlotRead(6, 8, 3)])
        await device.flush()
        assert heard.reads[6] == page(5)

    play(body, tmp_path)
