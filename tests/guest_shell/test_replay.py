"""Replay: which system calls and accesses an event becomes, in each mode.

Method: the calls are recorded in front of the real kernel, which runs on a real host core in
one process; what they leave behind is looked at in the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from guest_agent.kernel import syscalls
from guest_agent.kernel.kernel import KernelConfig
from guest_agent.kernel.mm import Vma
from guest_agent.kernel.page import Mapping
from guest_agent.workload.events import (
    Event,
    Exec,
    Exit,
    Fork,
    Fsync,
    Map,
    Msync,
    Read,
    Sync,
    Truncate,
    Unlink,
    Unmap,
    Write,
)
from guest_agent.workload.plan import make_plan
from guest_agent.workload.replay import Access, Replayer
from guest_agent.workload.tracefile import load, resolve
from tests.guest_shell.traces import trace_of
from tests.support.straight import Straight

Calls = list[tuple[Any, ...]]


def described(value: Any) -> Any:
    if isinstance(value, Mapping):
        return f"file{value.number}"
    if isinstance(value, Vma):
        return f"vma{value.mapping.number}+{value.pgoff}"
    return value


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Every system call and user access that the replayer makes, in order."""
    recorded: Calls = []

    def recording(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        async def call(cpu: Any, *arguments: Any, **named: Any) -> Any:
            shown = [described(a) for a in arguments if type(a).__name__ != "Mm"]
            if name.startswith("user_"):
                mm, address = arguments
                vma = mm.find_vma(address)
                shown = [f"file{vma.mapping.number}", vma.index(address)]
            recorded.append((name, *shown, *named.values()))
            return await real(cpu, *arguments, **named)

        return call

    for name in syscalls.__all__:
        if hasattr(syscalls, name):
            monkeypatch.setattr(syscalls, name, recording(name, getattr(syscalls, name)))
    return recorded


def replay(access: Access, *events: Event) -> tuple[Replayer, Straight]:
    plan = make_plan([trace_of(*events)], 1)
    replayer = Replayer(plan, access, lambda _resource: None)
    machine = Straight(KernelConfig(page_count=256))
    machine.run(machine.kernel.boot(machine.kernel.cpus[0]))
    machine.run(replayer.run(machine.kernel.cpus[0]))
    assert machine.kernel.integrity_errors == []
    return replayer, machine


def test_as_system_calls(calls: Calls) -> None:
    replayer, _ = replay(
        Access.SYSCALL,
        Read(0, 0, 3, 2),
        Write(0, 1, 5, 1),
        Map(0, 7, 1, 0, 3, True),
        Map(0, 8, 0, 4, 2, False),
        Msync(0, 7, 1, 0, 3),
        Unmap(0, 7, 1, 0, 3, True),
        Fsync(0, 1),
        Sync(0),
        Truncate(0, 1, 2),
        Unlink(0, 1),
    )
    assert calls == [
        ("sys_read", "file1", 3, 2),
        ("sys_write", "file2", 5, 1),
        ("sys_write", "file2", 0, 3),
        ("sys_read", "file1", 4, 2),
        ("sys_fsync", "file2"),
        ("sys_fsync", "file2"),
        ("sys_sync",),
        ("sys_truncate", "file2", 2),
        ("sys_truncate", "file2", 0),
    ]
    assert replayer.requests_done == 4


def test_as_mapped_accesses(calls: Calls) -> None:
    replayer, _ = replay(
        Access.MMAP,
        Read(0, 0, 3, 2),
        Read(0, 0, 9, 1),
        Write(0, 0, 5, 1),
        Map(0, 7, 1, 10, 2, True),
        Msync(0, 7, 1, 10, 2),
        Unmap(0, 7, 1, 10, 1, False),
        Unmap(0, 7, 1, 11, 1, True),
        Fsync(0, 0),
    )
    assert calls == [
        ("sys_mmap", "file1", 0, 64, False),
        ("user_load", "file1", 3),
        ("user_load", "file1", 4),
        ("user_load", "file1", 9),
        ("sys_mmap", "file1", 0, 64, True),
        ("user_store", "file1", 5),
        ("sys_mmap", "file2", 10, 2, True),
        ("user_store", "file2", 10),
        ("user_store", "file2", 11),
        ("sys_msync", "vma2+10"),
        ("sys_munmap", "vma2+10"),
        ("sys_msync", "vma1+0"),
        ("sys_fsync", "file1"),
    ]
    assert replayer.requests_done == 4


def test_mixed_alternates_over_the_requests(calls: Calls) -> None:
    """Even requests are system calls, odd ones mapped; events between do not count."""
    replay(Access.MIXED, Read(0, 0, 0, 1), Sync(0), Read(0, 0, 1, 1), Write(0, 0, 2, 1))
    assert [c for c in calls if c[0] != "sys_mmap"] == [
        ("sys_read", "file1", 0, 1),
        ("sys_sync",),
        ("user_load", "file1", 1),
        ("sys_write", "file1", 2, 1),
    ]


def test_a_child_has_what_its_parent_has_mapped_until_it_ends(calls: Calls) -> None:
    replayer, machine = replay(
        Access.MMAP,
        Map(0, 1, 0, 0, 1, True),
        Read(0, 1, 2, 1),
        Fork(0, 1),
        Msync(1, 1, 0, 0, 1),
        Read(1, 1, 3, 1),
        Write(1, 1, 3, 1),
        Exec(1),
        Exit(1),
        Exit(0),
    )
    assert calls == [
        ("sys_mmap", "file1", 0, 1, True),
        ("user_store", "file1", 0),
        ("sys_mmap", "file2", 0, 64, False),
        ("user_load", "file2", 2),
        ("sys_fork",),
        ("sys_msync", "vma1+0"),
        ("user_load", "file2", 3),
        ("sys_mmap", "file2", 0, 64, True),
        ("user_store", "file2", 3),
        ("sys_exit",),
        ("sys_exit",),
    ]
    assert replayer.requests_done == 4
    assert all(not mapping.i_mmap for mapping in machine.kernel.mappings.values())
    assert machine.kernel.mms == []


def test_a_process_that_maps_nothing_forks_nothing(calls: Calls) -> None:
    replay(Access.SYSCALL, Map(0, 1, 0, 0, 1, True), Fork(0, 1), Read(1, 0, 0, 1), Exit(1))
    assert [call[0] for call in calls] == ["sys_write", "sys_read"]


@pytest.mark.parametrize("access", [Access.SYSCALL, Access.MMAP])
def test_a_file_that_was_cut_off_grows_with_what_is_written(access: Access) -> None:
    _, machine = replay(
        access,
        Write(0, 0, 0, 6),
        Truncate(0, 0, 2),
        Read(0, 0, 1, 4),
        Write(0, 0, 8, 1),
        Read(0, 0, 5, 2),
        Unlink(0, 0),
    )
    file = machine.kernel.mappings[1]
    assert file.page_count == 0
    assert not file.pages
    # Of pages 1 to 4 three are behind the end; pages 5 and 6 are inside again.
    assert machine.kernel.statistics.signals == (3 if access is Access.MMAP else 0)


def test_a_truncate_is_in_its_place_among_the_files_other_events() -> None:
    """Two processes on two vCPUs: what is unlinked has been read before, and not after."""
    events: list[Event] = [Fork(0, 1), *(Write(0, 0, page, 1) for page in range(8))]
    events += [*(Read(1, 0, page, 1) for page in range(8)), Truncate(0, 0, 0), Write(1, 0, 9, 1)]
    plan = make_plan([trace_of(*events)], 2)
    cut = len(events) - 2
    assert [len(lane) for lane in plan.lanes] == [10, 9]
    assert plan.file_first == {cut: (8, 16)}
    assert plan.file_after.tolist() == [-1] * (cut + 1) + [cut]
    assert not make_plan([trace_of(*events)], 1).file_first


def test_unmap_all_makes_every_store_a_dirty_page_of_the_disk(calls: Calls) -> None:
    replayer, machine = replay(Access.MMAP, *(Write(0, 0, page, 1) for page in range(20)))
    cpu = machine.kernel.cpus[0]
    machine.run(replayer.unmap_all(cpu))
    machine.run(syscalls.sys_sync(cpu))
    assert all(not mapping.i_mmap for mapping in machine.kernel.mappings.values())
    written = machine.kernel.statistics.disk_writes
    assert written == 20


@pytest.mark.parametrize(("access", "name"), [(Access.MIXED, "sqlite"), (Access.MMAP, "search")])
def test_shipped_traces_run_through_with_every_byte_right(access: Access, name: str) -> None:
    """With far less memory than the trace touches, so that reclaim works all the time."""
    plan = make_plan([load(resolve(name))], 1, request_limit=40)
    machine = Straight(KernelConfig(page_count=96), frame_count=80)
    kernel, cpu = machine.kernel, machine.kernel.cpus[0]
    replayer = Replayer(plan, access, lambda _resource: None)
    machine.run(kernel.boot(cpu))
    machine.run(replayer.run(cpu))
    machine.run(replayer.unmap_all(cpu))
    machine.run(syscalls.sys_sync(cpu))

    async def verify() -> None:
        assert await kernel.verify(cpu) > 0

    machine.run(verify())
    assert replayer.requests_done == 40
    assert kernel.integrity_errors == []
    assert kernel.statistics.disk_reads > 96


def test_after_a_power_failure_the_replay_goes_on_where_it_was() -> None:
    """The second kernel does what is left, and maps again what it needs."""
    events: list[Event] = [Map(0, 1, 0, 0, 4, True), *(Write(0, 1, page, 1) for page in range(30))]
    events += [Msync(0, 1, 0, 0, 4), Read(0, 1, 5, 1)]
    plan = make_plan([trace_of(*events)], 1)
    replayer = Replayer(plan, Access.MMAP, lambda _resource: None)
    first = Straight(KernelConfig(page_count=256))
    first.run(first.kernel.boot(first.kernel.cpus[0]))
    program = replayer.run(first.kernel.cpus[0])

    class PowerFailure(Exception):
        pass

    call = first.call

    async def failing(issuer: int, command: Any) -> Any:
        if replayer.requests_done == 12:
            raise PowerFailure
        return await call(issuer, command)

    first.call = failing  # type: ignore[method-assign]
    with pytest.raises(PowerFailure):
        first.run(program)
    replayer.rebooted()
    second = Straight(KernelConfig(page_count=256))
    second.run(second.kernel.boot(second.kernel.cpus[0]))
    second.run(replayer.run(second.kernel.cpus[0]))
    assert replayer.requests_done == plan.request_count == 32
    assert second.kernel.integrity_errors == []
    assert second.kernel.mappings[2].pages.keys() == set(range(11, 30)) | {5}


@pytest.mark.parametrize(("access", "steps"), [(Access.MMAP, 9 + 4 + 2), (Access.SYSCALL, 2)])
def test_a_long_request_is_many_steps_where_each_page_is_an_access(
    access: Access, steps: int
) -> None:
    """Whoever watches for a guest that does not get on must not take a long request for one."""
    replayer, _ = replay(access, Map(0, 1, 0, 0, 9, writable=True), Read(0, 0, 2, 4))
    assert (replayer.requests_done, replayer.steps_done) == (2, steps)
