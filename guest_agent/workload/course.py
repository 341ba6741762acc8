"""The course of one guest's life after its boot: its workload, then a sync, then every check.

Rules:
- No loop and no clock: whoever runs it makes a task of each vCPU's part, or steps through them.
- The workload and what checks have found outlive a kernel; where its vCPUs are does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final, Protocol

from guest_agent.kernel import invariants, syscalls
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.kernel import Kernel
from guest_agent.kernel.ports import Resource
from guest_agent.workload.mixed import Mix, MixedRunner
from guest_agent.workload.plan import Plan
from guest_agent.workload.replay import IDLE, Access, Replayer

DONE: Final = "done"
"""How a run ends that nothing has stopped."""


class Workload(Protocol):
    """What the vCPUs execute; `Replayer` and `MixedRunner` are one each.

    requests_done survives a kernel; `rebooted` is called between two.
    """

    requests_done: int

    @property
    def steps_done(self) -> int:
        """Grows while it gets on: requests, and of long ones each page."""
        ...

    async def run(self, cpu: Cpu) -> None:
        """Execute the vCPU's part, then take interrupts until all parts are done."""
        ...

    async def unmap_all(self, cpu: Cpu) -> None:
        """Unmap whatever is still mapped, so that every store shows as a dirty page."""
        ...

    def rebooted(self) -> None:
        """Memory is gone."""
        ...


def failure_text(error: BaseException) -> str:
    """How a run ends that its kernel has stopped: the first line of why."""
    kind = "assertion: " if isinstance(error, AssertionError) else ""
    return f"{kind}{error}".partition("\n")[0]


def _nothing() -> None:
    pass


class Course:
    """All vCPUs through a workload. Call `begin` for each kernel.

    counts: how the operations of a mixed workload ended. kernel: that it is on. verified: pages
    compared at the end. violations: sentences of the invariants' checks, each once, in order.
    """

    def __init__(
        self,
        plan: Plan | Mix,
        access: Access,
        changed: Callable[[Resource], None],
        *,
        violated: Callable[[str], None] | None = None,
        worked: Callable[[], None] = _nothing,
        synced: Callable[[], None] = _nothing,
    ) -> None:
        """changed: called when a resource that vCPUs wait for has changed without a step.

        violated: told each sentence once. worked: called when the workload is through. synced:
        called when all it stored is on the disk, before the checks read anything.
        """
        self.counts: Counter[str] = Counter()
        self.violations: dict[str, None] = {}
        self.verified = 0
        self.kernel: Kernel | None = None
        self.workload: Workload
        if isinstance(plan, Mix):
            mixed = MixedRunner(plan, changed, self._check)
            self.workload, self.counts = mixed, mixed.counts
        else:
            self.workload = Replayer(plan, access, changed)
        self._changed = changed
        self._violated = violated
        self._worked = worked
        self._synced = synced
        self._is_synced = self._is_checked = False
        self._checking = 0

    def begin(self, kernel: Kernel) -> None:
        """A kernel has booted; its vCPUs begin."""
        self.kernel = kernel
        self.verified = 0
        self._is_synced = self._is_checked = False
        self._checking = len(kernel.cpus)

    async def vcpu(self, cpu: Cpu) -> None:
        """The vCPU's part. One that is through stays for interrupts until the last one is."""
        kernel = cpu.kernel
        await self.workload.run(cpu)
        if cpu.number == 0:
            self._worked()
            await self.workload.unmap_all(cpu)
            await syscalls.sys_sync(cpu)
            self._synced()
            self._is_synced = True
            self._changed(IDLE)
        await kernel.idle(cpu, lambda: self._is_synced, "run.sync")
        compared = await kernel.verify(cpu, cpu.number, len(kernel.cpus))
        self.verified += compared
        self._checking -= 1
        if not self._checking:
            # The last one to come; all others are idle until it has checked.
            self._check(await invariants.check(kernel, cpu))
            self._is_checked = True
            self._changed(IDLE)
        await kernel.idle(cpu, lambda: self._is_checked, "run.end")

    def _check(self, found: list[str]) -> None:
        for what in found:
            if what not in self.violations and self._violated is not None:
                self._violated(what)
            self.violations[what] = None

    def result(self, kernel: Kernel) -> dict[str, Any]:
        """What has come of it so far, as plain data: equal runs have equal ones."""
        return {
            "requests": self.workload.requests_done,
            "workload": dict(sorted(self.counts.items())),
            "verified": self.verified,
            "statistics": asdict(kernel.statistics),
            "integrity_errors": [error.what for error in kernel.integrity_errors],
            "violations": list(self.violations),
        }
