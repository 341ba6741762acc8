"""Mixed workloads in a real guest over real sockets, in one process with its host.

Goal: every operation runs, checks find what is wrong, and a guest that cannot go on says so.
"""

from __future__ import annotations

import asyncio
import dataclasses
from itertools import islice
from pathlib import Path

import pytest

from essa_cli.main import main
from guest_agent import watch
from guest_agent.agent import GuestAgent, load_plan
from guest_agent.config import ConfigError, GuestConfig, MixConfig
from guest_agent.kernel import invariants
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.grace import Grace
from guest_agent.kernel.guards import FIXED
from guest_agent.kernel.kernel import Kernel
from guest_agent.report import Report
from guest_agent.watch import DeadlockError
from guest_agent.workload.mixed import Mix, Weights, operations
from guest_agent.workload.operations import Kind, Operation, Shape
from guest_agent.workload.program import Machine
from shared.rpc.channel import Address
from tests.rpc.world import running_host

SECONDS_MAX = 110
SHAPE = Shape()


def config(listen: Address, operation_count: int, **values: object) -> GuestConfig:
    options: dict[str, object] = {
        "page_count": 192,
        "vcpu_count": 6,
        "swap_pages": 96,
        "perturb": 1,
        "mix": MixConfig(1, operation_count),
    }
    return GuestConfig(host=listen, name="mixed", **(options | values))  # type: ignore[arg-type]


def run(directory: Path, operation_count: int, **values: object) -> Report:
    async def body() -> Report:
        async with asyncio.timeout(SECONDS_MAX), running_host(directory, 80) as world:
            configuration = config(world.listen, operation_count, **values)
            plan = load_plan(configuration)
            assert isinstance(plan, Mix)
            # Often, so that the barriers are about something.
            plan = dataclasses.replace(plan, check_every=250)
            return await GuestAgent(configuration, plan).run()

    return asyncio.run(body())


# The generator


def first(count: int, seed: int, vcpu: int, weights: Weights | None = None) -> list[Operation]:
    return list(islice(operations(seed, vcpu, weights or Weights(), SHAPE), count))


def test_an_operation_depends_on_seed_vcpu_and_number_alone() -> None:
    assert first(300, 7, 2) == first(300, 7, 2)
    assert first(300, 7, 2)[:100] == first(100, 7, 2)
    assert first(300, 7, 2) != first(300, 7, 3)
    assert first(300, 7, 2) != first(300, 8, 2)


def test_weights_say_how_often() -> None:
    kinds = [operation.kind for operation in first(6_000, 1, 0)]
    assert set(kinds) == set(Kind)
    total = sum(dataclasses.astuple(Weights()))
    for kind in (Kind.LOAD, Kind.READ, Kind.MMAP):
        share = getattr(Weights(), kind.value) / total
        assert kinds.count(kind) / len(kinds) == pytest.approx(share, rel=0.2)
    without = first(2_000, 1, 0, Weights(load=0, store=0))
    assert not {Kind.LOAD, Kind.STORE} & {operation.kind for operation in without}


@pytest.mark.parametrize("values", [{"load": -1}, dict.fromkeys(map(str, Kind), 0)])
def test_weights_that_make_no_sense(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"negative|all weights are 0"):
        Weights(**values)


# Whole guests


@pytest.mark.parametrize(
    "variant",
    [{}, {"minor_faults": True, "grace": Grace.SIGN_OFF}, {"grace": Grace.EACH}],
    ids=["2005", "minor faults, sign-off", "each"],
)
def test_everything_at_once_and_nothing_is_lost(tmp_path: Path, variant: dict[str, object]) -> None:
    report = run(tmp_path, 1_500, **variant)
    assert report.integrity_errors == []
    assert report.invariant_violations == []
    assert report.is_clean
    assert report.requests == 1_500
    # munlock is rare, and needs a lock before it.
    assert {kind.value for kind in Kind if kind is not Kind.MUNLOCK} <= set(report.workload)
    assert sum(report.workload.values()) - report.workload["signals"] == 1_500
    assert report.statistics.pages_discarded > 0
    assert report.plain()["workload"] == report.workload


def test_invariants_are_checked_at_barriers_while_all_others_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every 250 operations, and at the end; what is found is counted once."""
    checked: list[int] = []
    busy: list[int] = []
    running = 0
    execute = Machine.execute

    async def counted(machine: Machine, cpu: Cpu, operation: Operation) -> None:
        nonlocal running
        running += 1
        await execute(machine, cpu, operation)
        running -= 1

    async def check(kernel: Kernel, cpu: Cpu) -> list[str]:
        checked.append(cpu.number)
        busy.append(running)
        return ["always the same", *([] if len(checked) < 3 else ["from the third on"])]

    monkeypatch.setattr(Machine, "execute", counted)
    monkeypatch.setattr(invariants, "check", check)
    report = run(tmp_path, 1_100)
    assert len(checked) == 1_100 // 250 + 2
    assert set(busy) == {0}
    assert report.invariant_violations == ["always the same", "from the third on"]
    assert not report.is_clean


def test_a_guard_that_is_off_is_found(tmp_path: Path) -> None:
    """By a check of content, or by the kernel itself, whichever comes first."""
    try:
        report = run(tmp_path, 3_000, guards=FIXED.without("check_write"))
    except KernelBug:
        return
    assert not report.is_clean


def test_a_guest_that_cannot_go_on_says_what_it_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One vCPU never comes back from an operation; all others wait for it at the barrier."""
    monkeypatch.setattr(watch, "WATCH_SECONDS", 0.05)

    execute = Machine.execute

    async def wait(self: Machine, cpu: Cpu, operation: Operation) -> None:
        # Time passes and the guest lives, but this vCPU never completes anything.
        while cpu.number == 2:
            await self.kernel.try_to_free_pages(cpu)
            await asyncio.sleep(0.01)
        await execute(self, cpu, operation)

    monkeypatch.setattr(Machine, "execute", wait)
    with pytest.raises(DeadlockError) as caught:
        run(tmp_path, 100, stall_seconds=0.5)
    text = str(caught.value)
    assert "nothing was completed for 0.5 seconds" in text
    assert "vcpu 1: mixed.barrier" in text
    assert "vcpu 2: " in text


# The command line


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--workload", "mixed", "--trace", "sqlite"], "give one"),
        (["--workload", "mixed", "--weights", "dream=1"], "--weights has 'dream=1'"),
        (["--workload", "mixed", "--weights", "read"], "--weights has 'read'"),
        (["--workload", "mixed", "--weights", "read=-1"], "--weights has 'read=-1'"),
        (["--workload", "mixed", "--operations", "0"], "operations is 0; it must be at least 1"),
        (["--workload", "mixed", "--swap", "much"], "--swap is 'much'"),
        (["--workload", "everything"], "--workload"),
        ([], "--trace FILE|NAME or --workload mixed"),
    ],
)
def test_what_the_user_can_mend(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    options: list[str],
    text: str,
) -> None:
    monkeypatch.setattr("sys.argv", ["essa", "guest", *options])
    with pytest.raises(SystemExit) as caught:
        main()
    out, errors = capfd.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert text in errors
    assert errors.count("\n") == 1


def test_a_swap_device_of_nothing_is_none() -> None:
    with pytest.raises(ConfigError, match="--swap in pages is -1"):
        config(Address(path="e"), 1, swap_pages=-1)
