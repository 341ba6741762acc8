"""Whole guests against a whole host over real Unix sockets, in one process.

The host's pool of frames is far smaller than the guests, so that reclaim is always at work,
and the guests' points yield at random. Every byte is checked by the guests themselves.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from guest_agent import watch
from guest_agent.agent import GuestAgent
from guest_agent.config import GuestConfig
from guest_agent.disk import open_block_store
from guest_agent.kernel.content import parse_tag
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.guards import FIXED
from guest_agent.kernel.kernel import Hints
from guest_agent.report import Report
from guest_agent.rpc import session
from guest_agent.watch import DeadlockError
from guest_agent.workload.events import Fsync, Read, Write
from guest_agent.workload.plan import DISK, Plan, Spread, make_plan
from guest_agent.workload.replay import Access, Replayer
from guest_agent.workload.stackdist import lru_curve
from shared.arch import Mode, Orc
from shared.commands import Essa
from shared.errors import GuestExistsError, InvalidTokenError
from shared.essa.v1 import essa_pb2 as pb
from shared.rpc.channel import HELD_SECONDS, Address, HostUnreachableError, call
from tests.guest_shell.traces import busy_trace, trace_of
from tests.rpc.world import World, running_host

SECONDS_MAX = 110


def config(listen: Address, name: str, **values: object) -> GuestConfig:
    options: dict[str, object] = {"page_count": 192, "vcpu_count": 3, "spread": Spread.PLACE}
    return GuestConfig(host=listen, name=name, **(options | values))  # type: ignore[arg-type]


def with_host(directory: Path, frames: int, *plans: Plan, **values: object) -> list[Report]:
    """Run guests side by side, one for each plan."""

    async def body() -> list[Report]:
        async with asyncio.timeout(SECONDS_MAX), running_host(directory, frames) as world:
            agents = [
                GuestAgent(config(world.listen, f"guest-{n}", perturb=n, **values), plan)
                for n, plan in enumerate(plans)
            ]
            return await asyncio.gather(*(agent.run() for agent in agents))

    return asyncio.run(body())


def busy_plan(seed: int, request_count: int) -> Plan:
    return make_plan([busy_trace(seed, request_count)], 3, spread=Spread.PLACE)


@pytest.mark.parametrize("access", list(Access))
def test_guests_under_pressure_see_no_wrong_byte(tmp_path: Path, access: Access) -> None:
    """Two guests of 192 pages share 96 frames; 320 blocks each do not fit into either."""
    reports = with_host(tmp_path, 96, busy_plan(1, 400), busy_plan(2, 400), access=access)
    for report in reports:
        assert report.requests == 400
        assert report.integrity_errors == []
        assert report.invariant_violations == []
        assert report.pages_verified > 0
        assert report.reboots == 0
        assert report.statistics.pages_discarded > 0
        assert report.statistics.disk_writes > 0
        assert report.commands > report.messages


def test_discard_faults_are_taken_and_survived(tmp_path: Path) -> None:
    """Loads through ptes find their pages gone."""
    (report,) = with_host(tmp_path, 48, busy_plan(3, 600), access=Access.MMAP)
    assert report.integrity_errors == []
    assert report.statistics.discard_faults > 0


def test_without_check_write_the_same_run_loses_stores(tmp_path: Path) -> None:
    """A page may be volatile while a writable pte is set: its stores vanish with it."""
    try:
        reports = with_host(
            tmp_path,
            96,
            busy_plan(1, 400),
            busy_plan(2, 400),
            access=Access.MMAP,
            guards=FIXED.without("check_write"),
        )
    except KernelBug as error:  # it may see the cause before the loss
        assert "a page mapped writable was discarded" in str(error)  # noqa: PT017
        return
    assert any(report.integrity_errors for report in reports)


def test_without_stable_lookup_the_same_run_touches_pages_that_are_gone(tmp_path: Path) -> None:
    """The kernel reads a page that the host may discard under its hands."""
    (report,) = with_host(tmp_path, 48, busy_plan(1, 400), guards=FIXED.without("stable_lookup"))
    assert any("discard fault" in error.what for error in report.integrity_errors)
    assert not report.is_clean


@pytest.mark.parametrize("hints", [Hints.NONE, Hints.UNUSED])
def test_without_volatile_hints_nothing_is_discarded(tmp_path: Path, hints: Hints) -> None:
    (report,) = with_host(tmp_path, 96, busy_plan(4, 200), hints=hints)
    assert report.integrity_errors == []
    counted = report.statistics
    assert (counted.discard_faults, counted.pages_discarded) == (0, 0)
    assert bool(sum(counted.essa)) == (hints is not Hints.NONE)


def test_mode_kvm_with_unused_hints(tmp_path: Path) -> None:
    (report,) = with_host(tmp_path, 96, busy_plan(5, 200), mode=Mode.KVM, hints=Hints.UNUSED)
    assert report.integrity_errors == []


def test_hits_of_one_vcpu_equal_the_exact_lru_figure(tmp_path: Path) -> None:
    """Hints off, no pressure: what stack distances say, through every layer of the guest."""
    plan = make_plan([busy_trace(6, 1500)], 1)
    curve = lru_curve(plan.trace)
    size = curve.size_at(50)

    async def body() -> Report:
        async with asyncio.timeout(SECONDS_MAX), running_host(tmp_path, 1024) as world:
            configuration = config(
                world.listen,
                "lru",
                vcpu_count=1,
                page_count=size + 128,
                hints=Hints.NONE,
                cache_limit=size,
            )
            return await GuestAgent(configuration, plan).run()

    counted = asyncio.run(body()).statistics
    assert counted.cache_misses == curve.misses(size)
    assert counted.cache_hits == curve.access_count - curve.misses(size)


def versions(path: Path) -> dict[int, int]:
    async def body() -> dict[int, int]:
        store = open_block_store(path, DISK)
        try:
            return dict(await store.versions())
        finally:
            store.close()

    return asyncio.run(body())


def test_the_disk_outlives_the_guest_and_is_believed_by_the_next(tmp_path: Path) -> None:
    """Two runs on one disk: the second continues the versions, and its checks hold."""
    disk = tmp_path / "disk"
    plan = make_plan(
        [trace_of(*(Write(0, 0, page, 1) for page in range(40)), Read(0, 0, 0, 40), Fsync(0, 0))], 2
    )

    async def body(world: World) -> Report:
        configuration = config(world.listen, "kept", vcpu_count=2, disk=disk)
        return await GuestAgent(configuration, plan).run()

    async def once() -> Report:
        async with asyncio.timeout(SECONDS_MAX), running_host(tmp_path, 64) as world:
            return await body(world)

    for version in (1, 2):
        report = asyncio.run(once())
        assert report.integrity_errors == []
        assert versions(disk) == dict.fromkeys(range(40), version)


def test_a_disk_with_wrong_content_is_an_integrity_error(tmp_path: Path) -> None:
    """The check must be able to fail: a block of another place, and one that is torn."""
    disk = tmp_path / "disk"

    async def spoil() -> None:
        store = open_block_store(disk, DISK)
        (data, repeat) = await store.read(DISK, 9)
        assert parse_tag(data) == (DISK, 9, 0)
        await store.write(DISK, 3, (data, repeat))
        await store.write(DISK, 4, (data * 64 + bytes(2048), 1))
        store.close()

    asyncio.run(spoil())
    plan = make_plan([trace_of(Read(0, 0, 0, 8))], 1)

    async def body() -> Report:
        async with asyncio.timeout(SECONDS_MAX), running_host(tmp_path, 64) as world:
            configuration = config(world.listen, "spoilt", vcpu_count=1, disk=disk)
            return await GuestAgent(configuration, plan).run()

    report = asyncio.run(body())
    told = [error.what for error in report.integrity_errors]
    assert any("expected disk 1 block 3, found disk 1 block 9" in what for what in told)
    assert any("block 4 is torn" in what for what in told)
    assert all(error.history for error in report.integrity_errors)
    assert report.plain()["integrity_errors"] == len(told)


def test_a_name_in_use_is_refused_and_a_closed_guest_frees_it(tmp_path: Path) -> None:
    plan = make_plan([trace_of(Read(0, 0, 0, 4))], 1)

    async def body() -> None:
        async with asyncio.timeout(SECONDS_MAX), running_host(tmp_path, 64) as world:
            configuration = config(world.listen, "twin", vcpu_count=1, wait_seconds=0.3)
            twin = await world.open_guest("twin")
            await world.subscribe(twin)
            with pytest.raises(GuestExistsError):
                await GuestAgent(configuration, plan).run()
            await world.essa.CloseGuest(pb.CloseGuestRequest(session=twin))
            await GuestAgent(configuration, plan).run()
            await GuestAgent(configuration, plan).run()

    asyncio.run(body())


def test_a_dead_holders_name_is_waited_for_and_told_once(tmp_path: Path) -> None:
    """As after a kill, or an OpenGuest whose answer was lost: nobody has a stream."""
    plan = make_plan([trace_of(Read(0, 0, 0, 4))], 1)

    async def body() -> None:
        async with asyncio.timeout(SECONDS_MAX), running_host(tmp_path, 64) as world:
            await world.open_guest("heir")
            former = world.shell.sessions.by_name("heir")
            agent = GuestAgent(config(world.listen, "heir", vcpu_count=1), plan)
            running = asyncio.create_task(agent.run())
            await world.until(lambda: any(e["event"] == "name_awaited" for e in logs))
            assert world.shell.sessions.is_open(former)
            former.heard_at -= HELD_SECONDS
            report = await running
            assert report.requests == 1

    with capture_logs() as logs:
        asyncio.run(body())
    (told,) = [entry for entry in logs if entry["event"] == "name_awaited"]
    assert told["log_level"] == "info"
    assert "heir" in told["reason"]


def test_an_open_guest_whose_answer_was_lost_is_sent_again_and_succeeds_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan([trace_of(Read(0, 0, 0, 4))], 1)
    lost: list[pb.OpenGuestResponse] = []

    async def losing(stub: Any, method: str, request: Any, host: object) -> Any:
        response = await call(stub, method, request, host)
        if method == "OpenGuest" and not lost:
            lost.append(response)
            raise HostUnreachableError("no answer")
        return response

    monkeypatch.setattr(session, "call", losing)

    async def body() -> None:
        async with asyncio.timeout(SECONDS_MAX), running_host(tmp_path, 64) as world:
            agent = GuestAgent(config(world.listen, "again", vcpu_count=1), plan)
            running = asyncio.create_task(agent.run())
            await world.until(lambda: len(lost) > 0)
            world.shell.sessions.by_name("again").heard_at -= HELD_SECONDS
            assert (await running).requests == 1
            assert len(world.shell.sessions) == 0

    asyncio.run(body())


def test_a_guest_whose_name_was_taken_over_stops_and_says_so(tmp_path: Path) -> None:
    plan = make_plan([busy_trace(7, 100_000)], 2)

    async def body() -> None:
        async with asyncio.timeout(SECONDS_MAX), running_host(tmp_path, 256) as world:
            agent = GuestAgent(config(world.listen, "robbed", vcpu_count=2), plan)
            running = asyncio.create_task(agent.run())
            await world.until(lambda: agent.progress().requests > 5)
            world.shell.close_guest(world.shell.sessions.by_name("robbed"))
            successor = await world.open_guest("robbed")
            with pytest.raises(InvalidTokenError, match="its name was taken over"):
                await running
            # What the robbed one did on its way out did not touch its successor.
            assert world.shell.sessions.by_name("robbed").token == successor.token

    asyncio.run(body())


def test_a_cancelled_guest_is_closed(tmp_path: Path) -> None:
    plan = make_plan([busy_trace(7, 100_000)], 2)

    async def body() -> None:
        async with asyncio.timeout(SECONDS_MAX), running_host(tmp_path, 256) as world:
            agent = GuestAgent(config(world.listen, "cut", vcpu_count=2), plan)
            task = asyncio.create_task(agent.run())
            await world.until(lambda: agent.progress().requests > 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert world.shell.host.guest_ids() == []

    asyncio.run(body())


def test_a_host_that_never_comes_is_one_error_and_the_wait_is_told(tmp_path: Path) -> None:
    plan = make_plan([trace_of(Read(0, 0, 0, 4))], 1)
    address = Address(path=str(tmp_path / "nobody"))

    async def body() -> None:
        agent = GuestAgent(config(address, "alone", vcpu_count=1, wait_seconds=1.5), plan)
        with pytest.raises(HostUnreachableError, match="no answer from unix:"):
            await agent.run()

    with capture_logs() as logs:
        asyncio.run(body())
    (told,) = [entry for entry in logs if entry["event"] == "host_awaited"]
    assert told["log_level"] == "warning"
    assert str(address) in told["reason"]


def test_a_deadlock_is_found_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each vCPU takes a lock that the other one wants: nothing is under way, nobody can wake."""
    plan = make_plan([trace_of(Read(0, 0, 0, 4))], 2)
    monkeypatch.setattr(watch, "WATCH_SECONDS", 0.05)

    async def embrace(_replayer: Replayer, cpu: Cpu) -> None:
        locks = [cpu.kernel.lru._lock, cpu.kernel.open_file(1, DISK, 0).tree_lock]
        mine, other = locks[cpu.number], locks[1 - cpu.number]
        await cpu.spin_lock(mine, "first.lock")
        await cpu.kernel.link.call(cpu.number, Essa(Orc.GET_STATE, 0))
        await cpu.spin_lock(other, f"second.lock.of.{cpu.number}")

    monkeypatch.setattr(Replayer, "run", embrace)

    async def body() -> None:
        async with asyncio.timeout(SECONDS_MAX), running_host(tmp_path, 64) as world:
            with pytest.raises(DeadlockError) as caught:
                await GuestAgent(config(world.listen, "dead", vcpu_count=2), plan).run()
            assert "vcpu 0: second.lock.of.0; vcpu 1: second.lock.of.1" in str(caught.value)
            assert world.shell.host.guest_ids() == []

    asyncio.run(body())
