"""The paging device against real files.

Goal: no page ever comes back wrong; damage of any kind comes back as None, and only for the
slot that has it. Method: write through the device, spoil the file behind its back, read again.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_daemon.paging.device import (
    RUN_MAX,
    SLOT_SEAL,
    SLOT_SIZE,
    FilePagingDevice,
    SlotFile,
    open_paging_device,
    slot_offset,
)
from host_daemon.paging.ports import PagingFileError, ReadDone, SlotRead, SlotWrite, WriteDone
from shared.arch import PAGE_SIZE


def page(number: int) -> bytes:
    """A page that no other number has, with no repetition inside."""
    return b"".join((number * 1024 + i).to_bytes(4, "big") for i in range(PAGE_SIZE // 4))


@dataclass
class Listener:
    """Keeps every completion, and every call that carried some."""

    writes: dict[int, bool] = field(default_factory=dict)
    reads: dict[int, bytes | None] = field(default_factory=dict)
    calls: list[int] = field(default_factory=list)

    def writes_done(self, results: Sequence[WriteDone]) -> None:
        """Every operation once."""
        assert not self.writes.keys() & {r.operation for r in results}
        self.writes.update({r.operation: r.ok for r in results})
        self.calls.append(len(results))

    def reads_done(self, results: Sequence[ReadDone]) -> None:
        """Every operation once."""
        assert not self.reads.keys() & {r.operation for r in results}
        self.reads.update({r.operation: r.data for r in results})
        self.calls.append(len(results))


Body = Callable[[FilePagingDevice, Listener], Coroutine[object, object, None]]


def with_device(path: Path, slot_count: int, body: Body, *, keep: bool = False) -> Listener:
    """Run `body` against an open device; everything is completed at the end."""
    listener = Listener()

    async def run() -> None:
        device = await open_paging_device(path, slot_count, keep=keep)
        device.start(listener)
        await body(device, listener)
        await device.close()
        await device.close()

    asyncio.run(run())
    return listener


def read_one(path: Path, slot: int, generation: int, slot_count: int = 8) -> bytes | None:
    """What a device that opens the file again has in a slot."""

    async def body(device: FilePagingDevice, _: Listener) -> None:
        device.submit_reads([SlotRead(1, slot, generation)])

    return with_device(path, slot_count, body, keep=True).reads[1]


def write_slots(path: Path, slot_count: int = 8) -> None:
    """A new file with page(slot) in each slot, generation 1."""

    async def body(device: FilePagingDevice, _: Listener) -> None:
        device.submit_writes([SlotWrite(s, s, 1, page(s)) for s in range(slot_count)])

    assert all(with_device(path, slot_count, body).writes.values())


def test_what_was_written_is_read_also_by_the_next_process(tmp_path: Path) -> None:
    write_slots(tmp_path / "paging")
    assert [read_one(tmp_path / "paging", s, 1) for s in range(8)] == [page(s) for s in range(8)]


def test_a_read_sees_the_writes_submitted_before_it_and_none_after(tmp_path: Path) -> None:
    async def body(device: FilePagingDevice, _: Listener) -> None:
        device.submit_writes([SlotWrite(1, 3, 1, page(1)), SlotWrite(2, 3, 2, page(2))])
        device.submit_reads([SlotRead(3, 3, 2)])
        device.submit_writes([SlotWrite(4, 3, 3, page(3))])
        device.submit_reads([SlotRead(5, 3, 3), SlotRead(6, 3, 2)])

    listener = with_device(tmp_path / "paging", 8, body)
    assert listener.writes == {1: True, 2: True, 4: True}
    assert listener.reads == {3: page(2), 5: page(3), 6: None}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.booleans()), max_size=40))
def test_any_order_equals_one_at_a_time(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, int, bool]]
) -> None:
    """Property: reads answer as a dictionary would, however the batches fall."""
    newest: dict[int, int] = {}
    expected: dict[int, bytes | None] = {}

    async def body(device: FilePagingDevice, _: Listener) -> None:
        for operation, (is_write, slot, pause) in enumerate(steps):
            if is_write:
                newest[slot] = operation
                device.submit_writes([SlotWrite(operation, slot, operation, page(operation))])
            else:
                expected[operation] = page(newest[slot]) if slot in newest else None
                device.submit_reads([SlotRead(operation, slot, newest.get(slot, 0))])
            if pause:
                await asyncio.sleep(0)

    listener = with_device(tmp_path_factory.mktemp("order") / "paging", 5, body)
    assert listener.reads == expected
    assert len(listener.writes) + len(listener.reads) == len(steps)


@pytest.mark.parametrize("offset", [0, 4, 8, 16, SLOT_SEAL.size, SLOT_SIZE - 1])
def test_a_flipped_bit_damages_its_slot_and_no_other(tmp_path: Path, offset: int) -> None:
    """In the magic, the checksum, the slot, the generation, the first and the last byte."""
    path = tmp_path / "paging"
    write_slots(path)
    with path.open("r+b") as file:
        file.seek(slot_offset(3) + offset)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0x10]))
    found = [read_one(path, slot, 1) for slot in range(8)]
    assert found == [None if slot == 3 else page(slot) for slot in range(8)]


def test_a_torn_write_is_damage(tmp_path: Path) -> None:
    """The new seal and the first half of the new data, the second half still the old."""
    path, other = tmp_path / "paging", tmp_path / "other"
    write_slots(path)

    async def body(device: FilePagingDevice, _: Listener) -> None:
        device.submit_writes([SlotWrite(1, 2, 2, page(77))])

    with_device(other, 8, body)
    torn = other.read_bytes()[slot_offset(2) :][: SLOT_SEAL.size + 2048]
    with path.open("r+b") as file:
        file.seek(slot_offset(2))
        file.write(torn)
    assert (read_one(path, 2, 1), read_one(path, 2, 2)) == (None, None)


def test_a_misdirected_write_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "paging"
    write_slots(path)
    with path.open("r+b") as file:
        file.seek(slot_offset(5))
        slot = file.read(SLOT_SIZE)
        file.seek(slot_offset(6))
        file.write(slot)
    assert read_one(path, 6, 1) is None


def test_only_the_newest_generation_is_there(tmp_path: Path) -> None:
    path = tmp_path / "paging"
    write_slots(path)

    async def body(device: FilePagingDevice, _: Listener) -> None:
        device.submit_writes([SlotWrite(1, 4, 9, page(9))])
        device.submit_reads([SlotRead(2, 4, 1), SlotRead(3, 4, 9), SlotRead(4, 4, 10)])

    assert with_device(path, 8, body, keep=True).reads == {2: None, 3: page(9), 4: None}


def test_a_slot_never_written_is_damaged_not_zero(tmp_path: Path) -> None:
    async def body(device: FilePagingDevice, _: Listener) -> None:
        device.submit_reads([SlotRead(1, 0, 0)])

    assert with_device(tmp_path / "paging", 8, body).reads == {1: None}


def test_a_file_cut_short_damages_only_what_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "paging"

    async def body(device: FilePagingDevice, listener: Listener) -> None:
        device.submit_writes([SlotWrite(s, s, 1, page(s)) for s in range(8)])
        await device.flush()
        os.truncate(path, slot_offset(6) + 100)
        device.submit_reads([SlotRead(s, s, 1) for s in range(8)])
        await device.flush()

    reads = with_device(path, 8, body).reads
    assert reads == {s: page(s) if s < 6 else None for s in range(8)}


def test_submissions_of_a_turn_and_of_a_busy_time_are_batched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """600 neighbouring slots are three system calls and one completion call."""
    calls: list[int] = []
    pwritev = os.pwritev

    def counting(descriptor: int, pieces: Sequence[bytes], offset: int) -> int:
        calls.append(len(pieces) // 2)
        return pwritev(descriptor, pieces, offset)

    monkeypatch.setattr(os, "pwritev", counting)

    async def body(device: FilePagingDevice, listener: Listener) -> None:
        for slot in reversed(range(600)):
            device.submit_writes([SlotWrite(slot, slot, 1, page(slot))])
        assert not listener.writes, "completed before the submission returned"
        await device.flush()

    listener = with_device(tmp_path / "paging", 600, body)
    assert calls == [RUN_MAX, RUN_MAX, 600 - 2 * RUN_MAX]
    assert listener.calls == [600]


def test_completions_may_submit(tmp_path: Path) -> None:
    """A write's completion begins the read of the same slot."""

    class Chained(Listener):
        def writes_done(self, results: Sequence[WriteDone]) -> None:
            super().writes_done(results)
            devices[0].submit_reads([SlotRead(r.operation, r.operation, 1) for r in results])

    async def run() -> Chained:
        device = await open_paging_device(tmp_path / "paging", 4)
        devices.append(device)
        listener = Chained()
        device.start(listener)
        device.submit_writes([SlotWrite(s, s, 1, page(s)) for s in range(4)])
        while len(listener.reads) < 4:
            await device.flush()
        await device.close()
        return listener

    devices: list[FilePagingDevice] = []
    assert asyncio.run(run()).reads == {s: page(s) for s in range(4)}


def test_a_write_error_is_reported_for_its_slots_only(tmp_path: Path) -> None:
    """The file may not grow past the middle of slot 3: slots 0 to 2 of the same run are fine."""
    path = tmp_path / "file"
    with path.open("w+b") as stream:
        file = SlotFile(stream.fileno())
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (slot_offset(3) + 2000, hard))
        try:
            done = file.perform([SlotWrite(s, s, 1, page(s)) for s in range(6)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [w.ok for w in done.writes] == [True, True, True, False, False, False]
        read = file.perform([SlotRead(s, s, 1) for s in range(6)]).reads
        assert [r.data for r in read] == [page(0), page(1), page(2), None, None, None]


def test_a_read_error_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "paging"
    write_slots(path)
    descriptor = os.open(path, os.O_WRONLY)
    try:
        assert SlotFile(descriptor).perform([SlotRead(1, 1, 1)]).reads == [ReadDone(1, None)]
    finally:
        os.close(descriptor)


def test_the_file_is_sparse_and_has_its_full_size(tmp_path: Path) -> None:
    path = tmp_path / "paging"
    with_device(path, 10_000, lambda device, _: device.flush())
    status = path.stat()
    assert status.st_size == slot_offset(10_000)
    assert status.st_blocks * 512 < status.st_size // 100


def open_fails(path: Path, slot_count: int = 8, *, keep: bool = False) -> str:
    """The one line with which opening is refused."""

    async def run() -> None:
        device = await open_paging_device(path, slot_count, keep=keep)
        await device.close()

    with pytest.raises(PagingFileError) as caught:
        asyncio.run(run())
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "paging"
    assert "No such file" in open_fails(path, keep=True)
    assert "No such file" in open_fails(tmp_path / "none" / "paging")
    assert "Is a directory" in open_fails(tmp_path)
    write_slots(path)
    assert "too small for 9 slots" in open_fails(path, 9, keep=True)
    os.truncate(path, slot_offset(8) - 1)
    assert "too small for 8 slots" in open_fails(path, 8, keep=True)
    assert "free" in open_fails(path, 1 << 50)
    path.write_bytes(b"")
    assert "no paging file" in open_fails(path, keep=True)


def test_a_file_of_another_kind_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "letter"
    path.write_text("Dear Ada, ...")
    assert "something else" in open_fails(path)
    assert path.read_text() == "Dear Ada, ..."


def test_a_file_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "paging"

    async def body(device: FilePagingDevice, _: Listener) -> None:
        device.submit_writes([SlotWrite(1, 1, 1, page(1))])
        await device.flush()
        for keep in (False, True):
            with pytest.raises(PagingFileError, match="in use"):
                await open_paging_device(path, 8, keep=keep)
        device.submit_reads([SlotRead(2, 1, 1)])

    assert with_device(path, 8, body).reads == {2: page(1)}


def test_the_identity_names_the_file(tmp_path: Path) -> None:
    """A new file gets a new one; one that is kept keeps it."""
    identities = []

    async def body(device: FilePagingDevice, _: Listener) -> None:
        identities.append(device.identity)

    for keep in (False, True, False):
        with_device(tmp_path / "paging", 8, body, keep=keep)
    first, kept, new = identities
    assert first == kept
    assert new != first
    assert len(first) == 16
