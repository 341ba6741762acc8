"""Goal: the host does what a small host written apart does, whatever comes in what order.

Method: a Hypothesis state machine feeds both with commands, stages in any order, transfer
completions in any order (failed writes and damaged copies among them), evictions and
acknowledgements; after every step it compares outcomes, states, keys, enabled stages, free
frames and free slots, and the host checks all its invariants. Content shows in the loads.
A seeded soak with hundreds of thousands of chances for rare orders follows in each mode.
"""

from __future__ import annotations

from random import Random
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from host_daemon.core.effects import PageOut, Stage, StageKind
from shared.arch import Mode
from shared.commands import (
    Command,
    DeviceLoad,
    DeviceStore,
    Essa,
    EssaArray,
    EssaArrayOutcome,
    Iske,
    Load,
    Rrbe,
    Sske,
    Store,
)
from tests.host.world import World, make_world
from tests.support.host_oracle import Flight, Oracle

PAGES, FRAMES, SLOTS, VCPUS = 6, 3, 6, 2
DEVICE = VCPUS


class Pair:
    """The host and the oracle, fed alike and compared after every step."""

    def __init__(self, mode: Mode, policy: str = "random", *, unused_ok: bool = False) -> None:
        self.world: World = make_world(
            mode,
            frames=FRAMES,
            slots=SLOTS,
            pages=PAGES,
            vcpus=VCPUS,
            policy=policy,
            spec={"unused_access_resident_ok": unused_ok},
        )
        self.oracle = Oracle(
            kvm=mode is Mode.KVM,
            pages=PAGES,
            vcpus=VCPUS,
            devices=1,
            frames=FRAMES,
            slots=SLOTS,
            unused_ok=unused_ok,
        )
        self.flights: dict[int, Flight] = {}

    def execute(self, issuer: int, command: Command) -> None:
        """One command."""
        got = self.world.execute(command, issuer)
        assert got == self.oracle.execute(issuer, command)
        self.compare()

    def evict(self, pfn: int) -> None:
        """A victim by name."""
        assert self.world.host.begin_eviction(self.world.guest, pfn) == self.oracle.evict(pfn)
        self.compare()

    def stages(self) -> list[Stage]:
        """What could run now."""
        return self.world.host.enabled()

    def run(self, stage: Stage) -> None:
        """One stage."""
        world = self.world
        if stage.kind is StageKind.CHOOSE_VICTIM:
            before = set(world.host.enabled())
            world.run(stage.kind)
            (new,) = set(world.host.enabled()) - before - {stage}
            assert self.oracle.evict(new.number), f"the policy chose {new.number}"
            self.compare()
            return
        flights, delivered = set(world.flights), len(world.delivered)
        world.run(stage.kind, stage.number)
        result = self.oracle.run(stage.kind.name, stage.number)
        match result:
            case Flight():
                (operation,) = set(world.flights) - flights
                effect = world.flights[operation]
                assert isinstance(effect, PageOut) == result.out
                assert not result.out or effect.data == result.copy.data
                self.flights[operation] = result
            case (issuer, outcome):
                assert world.completed.pop(issuer) == outcome
        assert not world.completed
        if stage.kind is StageKind.DELIVER_FAULT:
            (fault,) = world.delivered[delivered:]
            assert fault.number == stage.number
            assert fault.address == self.oracle.fault_pages[fault.number] << 12
        self.compare()

    def land(self, operation: int, *, ok: bool) -> None:
        """One completion."""
        self.world.land(operation, ok=ok)
        self.oracle.finish(self.flights.pop(operation), ok)
        self.compare()

    def acknowledge(self, number: int) -> None:
        """One acknowledgement."""
        self.world.host.acknowledge_fault(self.world.guest, number)
        self.oracle.acknowledge(number)
        self.compare()

    def redeliver(self) -> None:
        """The guest's event stream is opened anew."""
        self.world.host.redeliver_faults(self.world.guest)
        self.oracle.redeliver()
        self.compare()

    def compare(self) -> None:
        """Everything that both know."""
        world, oracle = self.world, self.oracle
        host = world.host
        host.check()
        pages = oracle.pages
        assert host.page_map(world.guest).tolist() == [page.code for page in pages]
        keys = host.snapshot()["guests"][0]["keys"].tolist()
        assert keys == [page.key for page in pages]
        able = {(s.kind.name, s.number) for s in host.enabled()}
        assert able - {("CHOOSE_VICTIM", 0)} == oracle.stages()
        assert (("CHOOSE_VICTIM", 0) in able) == oracle.can_choose()
        statistics = host.statistics()
        assert statistics.frames_free == oracle.frames_free
        assert statistics.slots_free == oracle.slots_free
        assert statistics.parked == len(oracle.parked)


pfns = st.integers(0, PAGES)  # one of them outside
keys = st.sampled_from([0x00, 0x02, 0x04, 0x06, 0xF8, 0xFE])


class HostMachine(RuleBasedStateMachine):
    """Rules as inputs; subclasses name the mode."""

    mode = Mode.SEED
    unused_ok = False

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(self.mode, unused_ok=self.unused_ok)

    @rule(vcpu=st.integers(0, VCPUS - 1), orc=st.integers(0, 7), pfn=pfns)
    def essa(self, vcpu: int, orc: int, pfn: int) -> None:
        """One ESSA."""
        self.pair.execute(vcpu, Essa(orc, pfn))

    @rule(vcpu=st.integers(0, VCPUS - 1), data=st.data())
    def essa_array(self, vcpu: int, data: st.DataObject) -> None:
        """Several, pages repeated or not."""
        pages = data.draw(st.lists(pfns, min_size=1, max_size=8))
        orcs = [data.draw(st.sampled_from([0, 1, 2, 3, 4, 6, 9])) for _ in pages]
        array = EssaArray.of(np.array(orcs, np.uint8), np.array(pages, np.uint32))
        self.pair.execute(vcpu, array)

    @rule(issuer=st.integers(0, DEVICE), pfn=pfns, quarter=st.integers(0, 3))
    def load(self, issuer: int, pfn: int, quarter: int) -> None:
        """A vCPU or a device fetches."""
        kind = DeviceLoad if issuer == DEVICE else Load
        self.pair.execute(issuer, kind(pfn, quarter * 8, 96))

    @rule(issuer=st.integers(0, DEVICE), pfn=pfns, tag=st.binary(min_size=1, max_size=1))
    def store(self, issuer: int, pfn: int, tag: bytes) -> None:
        """A vCPU or a device stores."""
        kind = DeviceStore if issuer == DEVICE else Store
        self.pair.execute(issuer, kind(pfn, 8, tag * 8, 12))

    @rule(vcpu=st.integers(0, VCPUS - 1), pfn=pfns, key=keys, which=st.integers(0, 2))
    def storage_key(self, vcpu: int, pfn: int, key: int, which: int) -> None:
        """A storage key instruction."""
        self.pair.execute(vcpu, (Iske(pfn), Rrbe(pfn), Sske(pfn, key))[which])

    @rule(pfn=st.integers(0, PAGES - 1))
    def evict(self, pfn: int) -> None:
        """A victim by name."""
        self.pair.evict(pfn)

    @precondition(lambda self: self.pair.stages())
    @rule(data=st.data())
    def stage(self, data: st.DataObject) -> None:
        """Any enabled stage."""
        self.pair.run(data.draw(st.sampled_from(self.pair.stages())))

    @precondition(lambda self: self.pair.flights)
    @rule(data=st.data(), ok=st.sampled_from([True, True, True, False]))
    def land(self, data: st.DataObject, ok: bool) -> None:
        """Any completion."""
        self.pair.land(data.draw(st.sampled_from(sorted(self.pair.flights))), ok=ok)

    @precondition(lambda self: self.pair.oracle.fault_count)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        """Any fault, one acknowledged before among them."""
        self.pair.acknowledge(data.draw(st.integers(1, self.pair.oracle.fault_count)))

    @rule()
    def redeliver(self) -> None:
        """The guest's event stream is opened anew."""
        self.pair.redeliver()


class KvmMachine(HostMachine):
    """The same in mode `kvm`."""

    mode = Mode.KVM


class ResidentOkMachine(HostMachine):
    """The same with D8's option."""

    unused_ok = True


_SETTINGS = settings(
    max_examples=30,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
for _machine in (HostMachine, KvmMachine, ResidentOkMachine):
    _machine.TestCase.settings = _SETTINGS
TestSeed = HostMachine.TestCase
TestKvm = KvmMachine.TestCase
TestResidentOk = ResidentOkMachine.TestCase


def _random_command(random: Random) -> tuple[int, Command]:
    issuer, pfn = random.randrange(VCPUS + 1), random.randrange(PAGES)
    tag = bytes([random.randrange(256)])
    if issuer == DEVICE:
        return issuer, random.choice((DeviceLoad(pfn, 0, 64), DeviceStore(pfn, 32, tag * 32)))
    choices: list[Command] = [Essa(random.randrange(7), pfn) for _ in range(4)]
    choices += [Load(pfn, 0, 96), Store(pfn, 0, tag * 32, 4), Store(pfn, 64, tag)]
    choices += [Sske(pfn, random.choice((0, 2))), Iske(pfn), Rrbe(pfn)]
    return issuer, random.choice(choices)


@pytest.mark.parametrize("policy", ["hints-first", "zvm"])
@pytest.mark.parametrize("mode", list(Mode))
def test_soak(mode: Mode, policy: str) -> None:
    random = Random(f"{mode} {policy}")
    reached: dict[str, int] = {}
    for _ in range(20):
        pair = Pair(mode, policy)
        for _ in range(120):
            act: Any = random.random()
            stages = pair.stages()
            if act < 0.45:
                pair.execute(*_random_command(random))
            elif act < 0.5:
                pair.evict(random.randrange(PAGES))
            elif act < 0.85 and stages:
                stage = random.choice(stages)
                reached[stage.kind.name] = reached.get(stage.kind.name, 0) + 1
                pair.run(stage)
            elif act < 0.97 and pair.flights:
                pair.land(random.choice(list(pair.flights)), ok=random.random() < 0.97)
            elif pair.oracle.faults:
                pair.acknowledge(random.choice(pair.oracle.faults))
    wanted = {kind.name for kind in StageKind}
    if mode is Mode.KVM:
        wanted.discard("DELIVER_FAULT")  # there are none
    assert set(reached) == wanted


def test_an_array_answers_one_byte_per_element() -> None:
    pair = Pair(Mode.SEED)
    pair.execute(0, Essa(3, 1))
    array = EssaArray.of(np.array([0, 9, 1, 0], np.uint8), np.array([1, 1, 6, 0], np.uint32))
    assert pair.world.execute(array) == EssaArrayOutcome(bytes([0x0F, 0x86, 0x85, 0x03]))
