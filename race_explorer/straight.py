"""One guest on one host in one process, one thing after another: no engine, no network.

Rules:
- Session-less: a command goes straight to the core, which is the shipped one, as the kernel is.
- One vCPU runs at a time. When it has to wait, the host's stages, the paging device and the
  disk are worked off, first come first served, until it can go on: a run is a function of
  its programs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from guest_agent.kernel.block import complete, transfer
from guest_agent.kernel.kernel import Kernel, KernelConfig
from guest_agent.kernel.ports import Accesses, DiskRequest, Vcpu
from host_daemon.core.config import GuestSpec, HostConfig
from host_daemon.core.effects import (
    CHOOSE_VICTIM,
    Completed,
    DeliverFault,
    PageIn,
    PageOut,
    StageKind,
)
from host_daemon.core.host import Host
from race_explorer.store import MemoryStore
from shared.commands import Command, Outcome

WORK_MAX: Final = 10_000
"""Steps after which whoever still waits is taken to wait for ever."""


class _FirstChoice:
    def choose(self, bound: int) -> int:
        assert bound > 0
        return 0


class Straight:
    """Host, kernel, link, schedule and disk in one object. `run` drives one coroutine.

    commands: every command so far, with its issuer. AssertionError: something waits for ever.
    """

    def __init__(
        self, config: KernelConfig, *, frame_count: int = 4096, essa_enabled: bool = True
    ) -> None:
        self.host = Host(HostConfig(frame_count, config.page_count), _FirstChoice())
        spec = GuestSpec(
            "guest", config.page_count, config.vcpu_count, 1, essa_enabled=essa_enabled
        )
        self.guest_id = self.host.open_guest(spec)
        self.store = MemoryStore()
        self.slots: dict[tuple[int, int], bytes] = {}
        self.replies: dict[int, Outcome] = {}
        self.requests: deque[DiskRequest] = deque()
        self.kernel = Kernel(config, self, self, self)
        self.device = config.vcpu_count
        self.commands: list[tuple[int, Command]] = []

    def run(self, program: Coroutine[Any, Any, None]) -> None:
        """Drive a program to its end."""
        for _ in range(WORK_MAX):
            try:
                program.send(None)
            except StopIteration:
                return
        raise AssertionError("the program does not end")

    # ports.Link

    async def call(self, issuer: int, command: Command) -> Outcome:
        """Execute at once; a command that the host parks is waited for."""
        self.commands.append((issuer, command))
        outcome = self.host.execute(self.guest_id, issuer, command)
        self._pump()
        for _ in range(WORK_MAX):
            if outcome is not None:
                return outcome
            self._work()
            outcome = self.replies.pop(issuer, None)
        raise AssertionError(f"{command} stays parked")

    def fault_settled(self, number: int) -> None:
        """Acknowledge the fault at once."""
        self.host.acknowledge_fault(self.guest_id, number)

    # ports.Schedule

    async def point(self, vcpu: Vcpu, label: str, accesses: Accesses) -> bool:
        """Nobody else runs."""
        return vcpu.interruptible()

    async def wait_until(
        self, vcpu: Vcpu, condition: Callable[[], bool], label: str, accesses: Accesses
    ) -> bool:
        """Let disk, host and timer work until the condition holds or an interrupt is there."""
        for _ in range(WORK_MAX):
            if vcpu.interruptible():
                return True
            if condition():
                return False
            if self.requests:
                request = self.requests.popleft()
                result = await transfer(self, self.store, self.device, request)
                complete(self.kernel, request, result)
            else:
                self.kernel.tick(vcpu.number)
                self._work()
        raise AssertionError(f"vcpu {vcpu.number} waits for ever at {label}")

    def interrupt_raised(self, vcpu: Vcpu) -> None:
        """Nothing: whoever waits looks again."""

    # ports.Disk

    def submit(self, request: DiskRequest) -> None:
        """Queue the transfer until somebody waits."""
        self.requests.append(request)

    # The host's own work

    def evict(self, pfn: int) -> None:
        """Evict one page to the end."""
        assert self.host.begin_eviction(self.guest_id, pfn)
        self.settle()

    def settle(self) -> None:
        """Work off the host's stages until only the choice of a victim is left."""
        while any(s.kind is not StageKind.CHOOSE_VICTIM for s in self.host.enabled()):
            self._work()

    def _work(self) -> None:
        enabled = self.host.enabled()
        stage = next((s for s in enabled if s.kind is not StageKind.CHOOSE_VICTIM), CHOOSE_VICTIM)
        if stage in enabled:
            self.host.run(stage)
            self._pump()

    def _pump(self) -> None:
        for effect in self.host.take_effects():
            match effect:
                case Completed():
                    self.replies[effect.issuer] = effect.outcome
                case PageOut():
                    self.slots[effect.slot, effect.generation] = effect.data
                    self.host.page_out_done(effect.operation, True)
                    self._pump()
                case PageIn():
                    data = self.slots.get((effect.slot, effect.generation))
                    self.host.page_in_done(effect.operation, data)
                    self._pump()
                case DeliverFault():
                    self.kernel.discard_fault_arrived(effect.fault)
