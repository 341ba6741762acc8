"""The guest's disk: the file of blocks, and the queue of transfers in front of it."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from guest_agent.disk import BlockFile, DiskFileError, FileBlockStore, open_block_store
from guest_agent.kernel.block import GuestDisk
from guest_agent.kernel.content import TAGS_PER_PAGE, tag
from guest_agent.kernel.cpu import KernelBug
from guest_agent.kernel.ports import DiskRequest, DiskResult, Vcpu
from race_explorer.store import MemoryStore
from shared.arch import PAGE_SIZE
from shared.commands import (
    DONE,
    Command,
    DeviceLoad,
    DeviceStore,
    IoError,
    LoadOutcome,
    MachineCheck,
    Outcome,
)

Body = Callable[[FileBlockStore], Coroutine[Any, Any, Any]]


def with_store(path: Path, body: Body) -> Any:
    """Run `body` against the open file; returns what it returns."""

    async def run() -> Any:
        store = open_block_store(path)
        try:
            async with asyncio.timeout(10):
                return await body(store)
        finally:
            store.close()

    return asyncio.run(run())


def content(block: int, version: int) -> tuple[bytes, int]:
    return tag(1, block, version), TAGS_PER_PAGE


def test_a_block_never_written_reads_as_version_0(tmp_path: Path) -> None:
    """Before, inside and behind what was written."""

    async def body(store: FileBlockStore) -> Any:
        await store.write(1, 100, content(100, 7))
        return [await store.read(1, block) for block in (0, 99, 100, 101, 10**9)]

    expected = [content(0, 0), content(99, 0), content(100, 7), content(101, 0), content(10**9, 0)]
    assert with_store(tmp_path / "disk", body) == expected


def test_what_was_written_is_there_for_the_next_guest(tmp_path: Path) -> None:
    async def write(store: FileBlockStore) -> None:
        await asyncio.gather(*(store.write(1, b, content(b, b + 1)) for b in (5, 6, 7, 4_000)))
        await store.write(1, 6, content(6, 70))

    async def read(store: FileBlockStore) -> Any:
        blocks = await asyncio.gather(*(store.read(1, b) for b in (4_000, 7, 6, 5)))
        return blocks, sorted(await store.versions())

    with_store(tmp_path / "disk", write)
    blocks, versions = with_store(tmp_path / "disk", read)
    assert blocks == [content(4_000, 4_001), content(7, 8), content(6, 70), content(5, 6)]
    assert versions == [(5, 6), (6, 70), (7, 8), (4_000, 4_001)]


def test_content_without_a_pattern_comes_back_whole(tmp_path: Path) -> None:
    """A torn page, first half one version and second half another, must stay seen as torn."""
    torn = tag(1, 3, 1) * 64 + tag(1, 3, 2) * 64

    async def body(store: FileBlockStore) -> Any:
        await store.write(1, 3, (torn, 1))
        return await store.read(1, 3), await store.versions()

    assert with_store(tmp_path / "disk", body) == ((torn, 1), [])


def test_a_block_of_another_place_is_no_version_of_this_one(tmp_path: Path) -> None:
    async def body(store: FileBlockStore) -> Any:
        await store.write(1, 3, content(4, 9))
        return await store.versions()

    assert with_store(tmp_path / "disk", body) == []


def test_the_file_is_sparse(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with_store(path, lambda store: store.write(1, 1 << 24, content(1 << 24, 1)))
    assert path.stat().st_size == ((1 << 24) + 1) * PAGE_SIZE
    assert path.stat().st_blocks * 512 <= 64 * 1024


def test_what_a_turn_asks_for_shares_system_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []
    pread, pwritev = os.pread, os.pwritev

    def counted_read(descriptor: int, size: int, offset: int) -> bytes:
        calls.append(("read", size // PAGE_SIZE))
        return pread(descriptor, size, offset)

    def counted_write(descriptor: int, pieces: Sequence[bytes], offset: int) -> int:
        calls.append(("write", len(pieces)))
        return pwritev(descriptor, pieces, offset)

    monkeypatch.setattr(os, "pread", counted_read)
    monkeypatch.setattr(os, "pwritev", counted_write)

    async def body(store: FileBlockStore) -> None:
        await asyncio.gather(*(store.write(1, b, content(b, 1)) for b in (3, 1, 2, 9)))
        await asyncio.gather(*(store.read(1, b) for b in (2, 9, 3, 2, 1)))

    with_store(tmp_path / "disk", body)
    assert calls == [("write", 3), ("write", 1), ("read", 3), ("read", 1)]


def test_a_read_sees_every_completed_write(tmp_path: Path) -> None:
    async def body(store: FileBlockStore) -> None:
        async def versions(block: int) -> None:
            for version in range(1, 30):
                await store.write(1, block, content(block, version))
                assert await store.read(1, block) == content(block, version)

        await asyncio.gather(*(versions(block) for block in range(8)))

    with_store(tmp_path / "disk", body)


def test_an_io_error_reaches_whoever_asked(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "disk"
        path.touch()
        store = FileBlockStore(BlockFile(os.open(path, os.O_RDONLY), disk=1))
        with pytest.raises(OSError) as caught:
            await store.write(1, 0, content(0, 1))
        assert caught.value.errno == errno.EBADF
        assert await store.read(1, 0) == content(0, 0), "the store is usable afterwards"
        store.close()

    asyncio.run(body())


def test_files_that_are_no_disk(tmp_path: Path) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(DiskFileError) as caught:
            open_block_store(path)
        assert str(path) in str(caught.value)
        return str(caught.value)

    (tmp_path / "letter").write_text("Dear Ada")
    assert "multiple of 4096" in refusal(tmp_path / "letter")
    assert "Is a directory" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "none" / "disk")
    store = open_block_store(tmp_path / "disk")
    assert "in use" in refusal(tmp_path / "disk")
    store.close()
    open_block_store(tmp_path / "disk").close()


class SlowHost:
    """A link whose answers come when the test says; keeps what is outstanding by issuer."""

    def __init__(self) -> None:
        self.outstanding: dict[int, tuple[Command, asyncio.Future[Outcome]]] = {}

    async def call(self, issuer: int, command: Command) -> Outcome:
        assert issuer not in self.outstanding, "a device has two commands outstanding"
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.outstanding[issuer] = (command, answer)
        return await answer

    def fault_settled(self, number: int) -> None:
        raise AssertionError("devices take no discard faults")

    def answer(self, issuer: int, outcome: Outcome) -> Command:
        command, answer = self.outstanding.pop(issuer)
        answer.set_result(outcome)
        return command


class Interrupts:
    """As much of a kernel as a disk sees."""

    def __init__(self) -> None:
        self.raised: list[tuple[int, Callable[[Any], Coroutine[Any, Any, None]]]] = []

    def raise_interrupt(
        self, vcpu: int, interrupt: Callable[[Any], Coroutine[Any, Any, None]]
    ) -> None:
        self.raised.append((vcpu, interrupt))


class Rig:
    """A disk with two devices, 4 and 5, before a host that answers by hand."""

    def __init__(self) -> None:
        self.host, self.kernel, self.store = SlowHost(), Interrupts(), MemoryStore()
        self.tasks: list[asyncio.Future[None]] = []
        self.disk = GuestDisk(
            self.host,
            self.store,
            (4, 5),
            lambda work: self.tasks.append(asyncio.ensure_future(work)),
        )
        self.disk.attach(self.kernel)  # type: ignore[arg-type]
        self.results: list[tuple[int, DiskResult]] = []

    def submit(self, block: int, *, write: bool, vcpu: int = 0) -> None:
        async def done(_vcpu: Vcpu, request: DiskRequest, result: DiskResult) -> None:
            self.results.append((request.block, result))

        self.disk.submit(DiskRequest(1, block, 100 + block, write, vcpu, done))

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        for vcpu, interrupt in self.kernel.raised:
            await interrupt(vcpu)
        self.kernel.raised.clear()


def with_rig(body: Callable[[Rig], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(10):
            await body(Rig())

    asyncio.run(run())


def test_each_device_moves_one_block_at_a_time_and_the_rest_waits() -> None:
    async def body(rig: Rig) -> None:
        for block in range(5):
            rig.submit(block, write=False)
        await rig.settle()
        assert rig.disk.in_flight == 5
        moved = []
        while rig.host.outstanding:
            assert set(rig.host.outstanding) <= {4, 5}
            command = rig.host.answer(next(iter(rig.host.outstanding)), DONE)
            assert isinstance(command, DeviceStore)
            moved.append(command)
            await rig.settle()
        assert moved == [DeviceStore(100 + b, 0, *content(b, 0)) for b in range(5)]
        assert sorted(rig.results) == [(b, DiskResult(*content(b, 0))) for b in range(5)]
        assert rig.disk.in_flight == 0

    with_rig(body)


def test_a_write_is_complete_only_when_the_block_is_on_the_disk() -> None:
    async def body(rig: Rig) -> None:
        rig.submit(3, write=True, vcpu=2)
        await rig.settle()
        assert rig.host.answer(next(iter(rig.host.outstanding)), LoadOutcome(*content(3, 8))) == (
            DeviceLoad(103, 0, PAGE_SIZE)
        )
        await rig.settle()
        assert rig.results == [(3, DiskResult(*content(3, 8)))]
        assert await rig.store.read(1, 3) == content(3, 8)

    with_rig(body)


@pytest.mark.parametrize("write", [False, True])
def test_a_transfer_the_host_refuses_fails_and_leaves_the_disk_alone(write: bool) -> None:
    async def body(rig: Rig) -> None:
        rig.submit(3, write=write)
        await rig.settle()
        rig.host.answer(next(iter(rig.host.outstanding)), IoError())
        await rig.settle()
        ((block, result),) = rig.results
        assert (block, result.failed) == (3, True)
        assert await rig.store.read(1, 3) == content(3, 0)

    with_rig(body)


@pytest.mark.parametrize("write", [False, True])
def test_a_damaged_page_stops_the_guest_and_leaves_the_disk_alone(write: bool) -> None:
    """Its only copy is lost; the transfer's task, and with it the guest's group, says so."""

    async def body(rig: Rig) -> None:
        rig.submit(3, write=write)
        await rig.settle()
        rig.host.answer(next(iter(rig.host.outstanding)), MachineCheck())
        (serving,) = asyncio.all_tasks() - {asyncio.current_task()}
        with pytest.raises(KernelBug, match=r"machine check: disk .* pfn 103, which is damaged"):
            await serving
        assert rig.results == []
        assert await rig.store.read(1, 3) == content(3, 0)

    with_rig(body)
