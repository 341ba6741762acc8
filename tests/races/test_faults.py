"""Faults are choices: what each does, that nothing is lost for it, and that they end.

Method: small guests whose every step is chosen by name, so that a fault comes just where it should;
then searches, and random mixtures of all kinds. A world without a budget is compared, option by
option, with one that was never asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page import Mapping
from guest_agent.kernel.syscalls import sys_fsync, sys_mmap, sys_read, sys_write, user_load
from race_explorer.case import Case
from race_explorer.engine import Option, run
from race_explorer.faults import DOES, FaultBudget, FaultKind, allow_faults
from race_explorer.faults.wire import SimWire
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections
from race_explorer.world import GUEST, SimWorld
from shared.arch import Orc
from shared.commands import Essa

# Budgets.


@pytest.mark.parametrize("text", ["", "cut=1", "reply_lost=1,cut=9", "tick=2"])
def test_a_budget_is_its_text(text: str) -> None:
    assert str(FaultBudget.parse(text)) == text


def test_equal_budgets_are_equal_texts() -> None:
    assert str(FaultBudget.parse(" tick = 1, cut=2 ")) == "cut=2,tick=1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flood=1", "'flood' is no fault; they are request_lost, "),
        ("cut", "'cut': a fault has a number, cut=1 to 9"),
        ("cut=0", "'cut=0': a fault has a number"),
        ("cut=10", "'cut=10': a fault has a number"),
        ("cut=1,cut=1", "cut stands there twice"),
        ("cut=1,", "'' is no fault"),
    ],
)
def test_what_is_no_budget_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaultBudget.parse(text)
    with pytest.raises(ValueError, match=message):
        Case("dirty-bit-in-transit", faults=text).check()


def test_a_budget_shrinks_fault_by_fault() -> None:
    budget = FaultBudget.parse("cut=2,tick=1")
    assert [str(less) for less in budget.smaller()] == ["cut=1,tick=1", "cut=2"]
    case = Case("dirty-bit-in-transit", faults="cut=1")
    assert case.smaller().__next__().faults == ""


def test_every_kind_says_what_it_does() -> None:
    assert list(DOES) == list(FaultKind)


# Worlds whose steps are taken by name.


class Small:
    """One guest with one file of two pages; steps are taken by the beginning of their names."""

    def __init__(
        self,
        budget: str,
        *programs: Callable[[Cpu, Mapping], object],
        prepare: Callable[[Cpu, Mapping], object] | None = None,
        protections: Protections | None = None,
    ) -> None:
        self.world = new_world(protections or Protections(), vcpu_count=max(1, len(programs)))
        kernel = self.world.kernel
        self.file = file = kernel.open_file(1, disk=1, first_block=0)

        async def boot() -> None:
            await kernel.boot(kernel.cpus[0])
            if prepare is not None:
                await prepare(kernel.cpus[0], file)  # type: ignore[misc]

        self.world.prepare(boot())
        for vcpu, program in enumerate(programs):
            self.world.run_vcpu(vcpu, lambda cpu, program=program: program(cpu, file))  # type: ignore[misc]
        self.faults = allow_faults(self.world, FaultBudget.parse(budget))

    @property
    def wire(self) -> SimWire:
        found = self.world.sources[0]
        assert isinstance(found, SimWire)
        return found

    def names(self) -> list[str]:
        return [option.name for option in self.world.options()]

    def take(self, *names: str) -> None:
        """Take these steps, one after the other."""
        for name in names:
            option = next((o for o in self.world.options() if o.name == name), None)
            assert option is not None, f"{name} is not among {self.names()}"
            option.run()
            assert self.world.violations() == []

    def until(self, name: str, *avoid: str) -> None:
        """Take first options that are no fault, until this one is offered."""
        for _ in range(10_000):
            options = self.world.options()
            if name in [option.name for option in options]:
                return
            options = [o for o in options if not o.name.startswith(("fault.", *avoid))]
            assert options, f"{name} never comes"
            options[0].run()
        raise AssertionError(f"{name} never comes")

    def finish(self) -> list[str]:
        """Take what is due, to the end; what is wrong there."""
        rest = run(lambda: self.world, without_faults)
        return list(rest.violations)


def without_faults(options: Sequence[Option]) -> int:
    due = (".resume.", ".reboot")
    return next(
        i
        for i, o in enumerate(options)
        if not o.name.startswith("fault.") or any(d in o.name for d in due)
    )


async def read_one(cpu: Cpu, file: Mapping) -> None:
    await sys_read(cpu, file, 0, 1)


async def write_and_sync(cpu: Cpu, file: Mapping) -> None:
    await sys_write(cpu, file, 0, 1)
    await sys_fsync(cpu, file)


async def ask(cpu: Cpu, _file: Mapping) -> None:
    page = cpu.kernel.mem_map[1]
    await cpu.essa(Orc.GET_STATE, page)


def marks(small: Small) -> set[str]:
    return small.world.marks


# Without a budget.


def options_of(world: SimWorld) -> list[list[tuple[object, ...]]]:
    """All options of a whole run of first choices."""
    seen: list[list[tuple[object, ...]]] = []

    def first(options: Sequence[Option]) -> int:
        seen.append([(o.name, o.label, o.accesses) for o in options])
        return 0

    run(lambda: world, first)
    return seen


def test_without_a_budget_nothing_is_another() -> None:
    plain, asked = Case("dirty-bit-in-transit").build(), Case("dirty-bit-in-transit").build()
    allow_faults(asked, FaultBudget())
    assert options_of(asked) == options_of(plain)


def test_a_call_is_one_step_without_a_wire_and_three_with_one() -> None:
    plain = [option[0][1] for option in options_of(Small("", ask).world)]
    assert plain == ["essa.get_state"]
    wired = [(option[0][0], option[0][1]) for option in options_of(Small("cut=1", ask).world)]
    assert wired == [
        ("cpu0", "essa.get_state"),
        ("network.request.cpu0", "execute essa.get_state"),
        ("cpu0", "reply"),
    ]


def test_what_was_parked_before_there_was_a_wire_is_answered() -> None:
    small = Small("", read_one, prepare=read_one)
    page = small.file.pages[0]
    small.world.evict_now(page.pfn)
    assert small.finish() == []


# Messages.


def test_a_lost_command_is_sent_again() -> None:
    small = Small("request_lost=1", ask)
    small.take("cpu0", "fault.request_lost.cpu0")
    assert small.names() == ["network.reconnect"]
    small.take("network.reconnect", "network.request.cpu0", "cpu0")
    assert small.finish() == []
    assert set(small.wire.executed.values()) == {1}


def test_a_lost_outcome_is_answered_from_memory() -> None:
    small = Small("reply_lost=1", ask)
    small.take("cpu0", "network.request.cpu0", "fault.reply_lost.cpu0")
    small.take("network.reconnect", "network.request.cpu0")
    assert "the last number is answered from memory" in marks(small)
    small.take("cpu0")
    assert small.finish() == []
    assert set(small.wire.executed.values()) == {1}


def test_a_command_on_its_way_when_the_connection_broke_may_arrive_twice() -> None:
    small = Small("request_lost=1", ask, ask)
    small.take("cpu0", "cpu1", "fault.request_lost.cpu0", "network.reconnect")
    assert small.names()[:3] == [
        "network.request.cpu1",
        "network.request.cpu0",
        "network.request.cpu1.2",
    ]
    small.take("network.request.cpu1", "network.request.cpu1.2", "network.request.cpu0")
    assert small.finish() == []
    assert set(small.wire.executed.values()) == {1}


def test_a_second_copy_is_refused_when_the_numbers_have_gone_on() -> None:
    async def twice(cpu: Cpu, file: Mapping) -> None:
        await ask(cpu, file)
        await ask(cpu, file)

    small = Small("duplicate=1", twice)
    small.take("cpu0", "fault.duplicate.cpu0", "network.request.cpu0", "cpu0", "cpu0")
    small.take("network.request.cpu0", "network.request.cpu0.2")
    assert "an old number is refused" in marks(small)
    assert small.finish() == []


def test_a_parked_command_that_is_sent_again_waits_for_its_own_outcome() -> None:
    small = Small("cut=1", read_one, prepare=write_and_sync)
    page = small.file.pages[0]
    small.world.host.execute(GUEST, 0, Essa(Orc.SET_STABLE, page.pfn))
    small.world.evict_now(page.pfn)  # to the paging device: a load of it is parked
    small.until("host.submit_page_in.1")
    small.take("fault.cut", "network.reconnect", "network.subscribe", "network.request.cpu0")
    assert "a command is attached to itself" in marks(small)
    assert small.finish() == []


# Discard faults.


async def map_it(cpu: Cpu, file: Mapping) -> None:
    vma = await sys_mmap(cpu, cpu.kernel.new_mm(), file, 0, 1, writable=False)
    await user_load(cpu, vma.mm, vma.start)


async def load_it(cpu: Cpu, _file: Mapping) -> None:
    (mm,) = cpu.kernel.mms
    await user_load(cpu, mm, mm.vmas[0].start)


def faulting(budget: str) -> Small:
    """A vCPU that is about to touch a page that was discarded."""
    small = Small(budget, load_it, prepare=map_it)
    small.world.evict_now(small.file.pages[0].pfn)
    small.until("host.deliver_fault.1")
    return small


def test_a_fault_comes_when_it_likes() -> None:
    small = faulting("cut=1")
    small.until("cpu0", "host.deliver_fault")
    assert small.finish() == []
    early = faulting("cut=1")
    early.take("host.deliver_fault.1", "network.fault.1")
    assert early.finish() == []


def test_a_fault_that_is_lost_is_delivered_again() -> None:
    small = faulting("cut=1")
    small.take("host.deliver_fault.1", "fault.cut")
    assert "network.fault.1" not in small.names()
    small.until("network.subscribe", "network.subscribe")
    small.take("network.subscribe")
    assert small.finish() == []


def test_a_second_copy_of_a_fault_is_dismissed_and_acknowledged_again() -> None:
    small = faulting("fault_repeated=1")
    small.take("host.deliver_fault.1", "fault.fault_repeated.1")
    small.until("network.acknowledge.1")
    small.take("network.acknowledge.1", "network.fault.1.again", "network.acknowledge.1")
    assert small.world.kernel.statistics.discard_faults == 1
    assert small.finish() == []


def test_a_fault_that_nobody_acknowledges_is_left_over() -> None:
    small = faulting("cut=1")
    small.world.fault_settled = lambda number: None  # type: ignore[method-assign]
    assert small.finish() == ["1 discard faults are not acknowledged"]


# The host.


def test_a_resumed_host_goes_on_from_its_checkpoint() -> None:
    small = faulting("checkpoint=1")
    before = small.world.host
    small.take("fault.checkpoint")
    assert small.world.host is not before
    assert {"host.deliver_fault.1", "network.reconnect", "network.subscribe"} <= {*small.names()}
    assert small.finish() == []


def after_fsync() -> Small:
    """The file was written and synced; the vCPU waits for the answer to something else."""
    synced: list[bool] = []

    async def sync_then_ask(cpu: Cpu, file: Mapping) -> None:
        await write_and_sync(cpu, file)
        synced.append(True)
        await ask(cpu, file)

    small = Small("power=1", sync_then_ask)
    while not synced:
        small.world.options()[0].run()
    small.take("cpu0")
    return small


def test_what_was_synced_before_a_power_failure_is_read_again() -> None:
    small = after_fsync()
    kernel = small.world.kernel
    small.take("fault.power", "fault.reboot")
    assert small.world.kernel is not kernel
    assert small.finish() == []
    assert small.world.kernel.statistics.disk_reads == 1


def test_a_disk_that_has_lost_it_is_found_out() -> None:
    small = after_fsync()
    small.world.store.blocks.clear()
    small.take("fault.power", "fault.reboot")
    (wrong,) = small.finish()
    assert "version 0 seen, legal were (1,)" in wrong


def test_a_guest_notices_a_power_failure_when_it_likes() -> None:
    small = Small("power=1", write_and_sync, read_one)
    small.until("fault.power")
    small.take("fault.power")
    while steps := [o for o in small.world.options() if not o.name.startswith("fault.")]:
        steps[0].run()
    assert small.names() == ["fault.reboot"]
    assert small.finish() == []


# vCPUs.


def test_a_paused_vcpu_waits_until_it_is_resumed() -> None:
    small = Small("pause=1", ask, ask)
    small.take("fault.pause.cpu0")
    assert small.names() == ["cpu1", "fault.resume.cpu0"]
    small.take("cpu1", "fault.resume.cpu0", "cpu0")
    assert small.finish() == []


def test_the_timer_ticks_where_somebody_has_a_use_for_it() -> None:
    case = Case("idle-vcpu-never-ticks")
    assert "fault.tick.cpu0" not in {o.name for o in case.build().options()}
    found = run(Case("freed-while-fault-pending", faults="tick=1").build, lambda _: 0)
    assert not [name for name, _ in found.steps if name.startswith("fault.tick")]


# The paging device.


def paged_out(budget: str) -> Small:
    """A dirty page of the file is on its way to the paging device, or there."""
    return Small(budget, read_one, prepare=lambda cpu, file: sys_write(cpu, file, 0, 1))


def test_a_page_that_cannot_be_written_stays() -> None:
    small = paged_out("write_fails=1")
    small.world.evictions.append(small.file.pages[0].pfn)
    pfn = small.file.pages[0].pfn
    small.until("fault.write_fails.1", "cpu0")
    small.take("fault.write_fails.1")
    assert small.world.host.content(GUEST, pfn) is not None
    assert small.finish() == []


def test_a_damaged_page_stops_the_guest_which_boots_again() -> None:
    small = paged_out("read_fails=1")
    small.world.evict_now(small.file.pages[0].pfn)
    small.until("fault.read_fails.2")
    small.take("fault.read_fails.2")
    small.until("fault.reboot")
    kernel = small.world.kernel
    small.take("fault.reboot")
    assert small.world.kernel is not kernel
    assert small.finish() == []
